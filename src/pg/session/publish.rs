//! The trigger functions. That of streams' tables notes in shared memory, before an INSERT or COPY takes its first seq,
//! how low that can be. So the dispatcher knows which gaps may still fill. That of sequin's own tables reports changes
//! of the configuration.

use super::current;
use super::stream_commands::changes_of;
use crate::error::{Error, Result};
use crate::pg::exec::owners::{self, Owned};
use crate::pg::exec::{catalog, partitions, sequence};
use pgrx::datum::FromDatum;
use pgrx::pg_sys;
use sequin_engine::changes::{Change, Changes};
use sequin_engine::ids::ConsumerId;
use std::ffi::CStr;

/// Notes that this transaction publishes to the stream. After the first time in a transaction this costs a look at a
/// short list.
pub fn announce(table: pg_sys::Oid) -> Result<()> {
    if current::has_published(table) {
        return Ok(());
    }
    let last = sequence::last_value(sequence::of_stream(table)?);
    current::note_published(table, last.saturating_add(1))
}

/// `sequin.on_publish()`, BEFORE INSERT OR UPDATE OF seq FOR EACH STATEMENT.
#[pgrx::pg_guard]
#[unsafe(no_mangle)]
unsafe extern "C-unwind" fn sequin_on_publish(fcinfo: pg_sys::FunctionCallInfo) -> pg_sys::Datum {
    raise(trigger(fcinfo).map_or(Ok(()), |trigger| on_publish(table_of(trigger))));
    pg_sys::Datum::null()
}

/// Every role may use this function in a trigger, as create_stream runs as the current role. So it may be put on a
/// table that is no stream's: that is an error.
fn on_publish(table: pg_sys::Oid) -> Result<()> {
    if current::has_published(table) || catalog::is_stream_table(table) {
        return announce(table);
    }
    // Rows are inserted into a partition itself when a dump's data are restored.
    match partitions::root_of(table) {
        Some(root) => announce(root),
        None => Err(foreign(table, "on_publish")),
    }
}

pub(super) fn foreign(table: pg_sys::Oid, function: &'static str) -> Error {
    Error::ForeignTrigger { table: catalog::relation_name(table), function }
}

/// `sequin.on_config_change()`, AFTER any change of sequin.streams or sequin.consumers FOR EACH ROW, and of these,
/// sequin.sources and sequin.backfills FOR EACH STATEMENT: at commit, sessions forget what they have cached, and the
/// dispatcher reads what has changed.
#[pgrx::pg_guard]
#[unsafe(no_mangle)]
unsafe extern "C-unwind" fn sequin_on_config_change(
    fcinfo: pg_sys::FunctionCallInfo,
) -> pg_sys::Datum {
    raise(trigger(fcinfo).map_or(Ok(()), on_config_change));
    pg_sys::Datum::null()
}

fn on_config_change(trigger: &pg_sys::TriggerData) -> Result<()> {
    let table = table_of(trigger);
    let of_config = [c"streams", c"consumers", c"sources", c"backfills"];
    if !of_config.iter().any(|name| catalog::own_table(name) == Some(table)) {
        return Err(foreign(table, "on_config_change"));
    }
    crate::pg::exec::relcache::invalidate(table);
    if trigger.tg_event & pg_sys::TRIGGER_EVENT_ROW != 0 {
        let rows = [trigger.tg_trigtuple, trigger.tg_newtuple];
        let rows = rows.into_iter().filter(|row| !row.is_null());
        return rows
            .map(|row| change_of(trigger, row))
            .try_for_each(|it| current::note_changes(&it));
    }
    let is_truncate =
        trigger.tg_event & pg_sys::TRIGGER_EVENT_OPMASK == pg_sys::TRIGGER_EVENT_TRUNCATE;
    let changes = if is_truncate { Changes::everything() } else { Changes::default() };
    current::note_changes(&changes)?;
    Owned::of(table).map_or(Ok(()), owners::sync)
}

/// The consumer or stream that a row of sequin.consumers or sequin.streams describes. A stream is named by its table.
/// One without a table may be about to get one: that counts as a change of everything.
fn change_of(trigger: &pg_sys::TriggerData, row: pg_sys::HeapTuple) -> Changes {
    if let Some(id) = column::<i32>(trigger, row, c"id") {
        return Change::Consumer(ConsumerId(id)).into();
    }
    let name = column::<String>(trigger, row, c"name");
    changes_of(name.and_then(|name| catalog::stream_table(&name)))
}

/// A column of a row, if the table has it.
pub(super) fn column<T: FromDatum>(
    trigger: &pg_sys::TriggerData,
    row: pg_sys::HeapTuple,
    name: &CStr,
) -> Option<T> {
    // SAFETY: the row is of the trigger's table, which is open; the column is of type T, as the extension's script
    // makes it.
    unsafe {
        let columns = (*trigger.tg_relation).rd_att;
        let number = pg_sys::SPI_fnumber(columns, name.as_ptr());
        if number <= 0 {
            return None;
        }
        let mut is_null = false;
        let value = pg_sys::SPI_getbinval(row, columns, number, &mut is_null);
        T::from_datum(value, is_null)
    }
}

pub(super) fn raise(result: Result<()>) {
    if let Err(error) = result {
        error.raise();
    }
}

/// The trigger that is running; `None` if the function was called in another way.
pub(super) fn trigger<'a>(fcinfo: pg_sys::FunctionCallInfo) -> Option<&'a pg_sys::TriggerData> {
    // SAFETY: PostgreSQL passes a valid fcinfo; a context of that node tag is a TriggerData (CALLED_AS_TRIGGER), which
    // is there for as long as the trigger runs.
    unsafe {
        let context = (*fcinfo).context;
        if context.is_null() || (*context).type_ != pg_sys::NodeTag::T_TriggerData {
            return None;
        }
        Some(&*context.cast::<pg_sys::TriggerData>())
    }
}

pub(super) fn table_of(trigger: &pg_sys::TriggerData) -> pg_sys::Oid {
    // SAFETY: the table is open for as long as the trigger runs.
    unsafe { (*trigger.tg_relation).rd_id }
}

macro_rules! finfo {
    ($name:ident) => {
        /// What PG_FUNCTION_INFO_V1 defines in C: PostgreSQL's function manager reads the calling convention from it.
        #[unsafe(no_mangle)]
        extern "C" fn $name() -> &'static pg_sys::Pg_finfo_record {
            const V1: pg_sys::Pg_finfo_record = pg_sys::Pg_finfo_record { api_version: 1 };
            &V1
        }
    };
}
pub(in crate::pg) use finfo;
finfo!(pg_finfo_sequin_on_publish);
finfo!(pg_finfo_sequin_on_config_change);
