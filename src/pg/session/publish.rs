//! The trigger of every stream's table: before an INSERT or COPY takes its first seq, it notes in shared
//! memory how low that can be. So the dispatcher knows which gaps may still fill.

use super::current;
use crate::error::{Error, Result};
use crate::pg::exec::owners::{self, Owned};
use crate::pg::exec::{catalog, sequence};
use pgrx::pg_sys;

/// Notes that this transaction publishes to the stream; costs next to nothing after the first time.
pub fn announce(table: pg_sys::Oid) -> Result<()> {
    if current::has_published(table) {
        return Ok(());
    }
    let last = sequence::last_value(sequence::of_stream(table)?);
    current::note_published(table, last.saturating_add(1))
}

/// `sequin.on_publish()`, BEFORE INSERT FOR EACH STATEMENT.
#[pgrx::pg_guard]
#[unsafe(no_mangle)]
unsafe extern "C-unwind" fn sequin_on_publish(fcinfo: pg_sys::FunctionCallInfo) -> pg_sys::Datum {
    raise(trigger_table(fcinfo).map_or(Ok(()), on_publish));
    pg_sys::Datum::null()
}

/// Who creates a stream gives its table the trigger, so everybody may; and so may give it to any other table.
fn on_publish(table: pg_sys::Oid) -> Result<()> {
    if current::has_published(table) || catalog::is_stream_table(table) {
        return announce(table);
    }
    Err(foreign(table, "on_publish"))
}

fn foreign(table: pg_sys::Oid, function: &'static str) -> Error {
    Error::ForeignTrigger { table: catalog::relation_name(table), function }
}

/// `sequin.on_config_change()`, AFTER any change of sequin.streams or sequin.consumers, FOR EACH STATEMENT:
/// has sessions forget what they have cached, and the dispatcher read the tables again, at commit.
#[pgrx::pg_guard]
#[unsafe(no_mangle)]
unsafe extern "C-unwind" fn sequin_on_config_change(
    fcinfo: pg_sys::FunctionCallInfo,
) -> pg_sys::Datum {
    raise(trigger_table(fcinfo).map_or(Ok(()), on_config_change));
    pg_sys::Datum::null()
}

fn on_config_change(table: pg_sys::Oid) -> Result<()> {
    let of_config = [c"streams", c"consumers", c"sources", c"backfills"];
    if !of_config.iter().any(|name| catalog::own_table(name) == Some(table)) {
        return Err(foreign(table, "on_config_change"));
    }
    crate::pg::exec::relcache::invalidate(table);
    current::note_config_changed()?;
    Owned::of(table).map_or(Ok(()), owners::sync)
}

fn raise(result: Result<()>) {
    if let Err(error) = result {
        error.raise();
    }
}

/// The table whose trigger is running; `None` if the function was called in another way.
fn trigger_table(fcinfo: pg_sys::FunctionCallInfo) -> Option<pg_sys::Oid> {
    // SAFETY: PostgreSQL passes a valid fcinfo; a context of that node tag is a TriggerData (CALLED_AS_TRIGGER), whose
    // table is open for as long as the trigger runs.
    unsafe {
        let context = (*fcinfo).context;
        if context.is_null() || (*context).type_ != pg_sys::NodeTag::T_TriggerData {
            return None;
        }
        let trigger = context.cast::<pg_sys::TriggerData>();
        Some((*(*trigger).tg_relation).rd_id)
    }
}

macro_rules! finfo {
    ($name:ident) => {
        /// Tells PostgreSQL's function manager the calling convention (PG_FUNCTION_INFO_V1).
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
