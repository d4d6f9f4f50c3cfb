//! The trigger function of streams with one message per key.

use super::publish::{finfo, foreign, table_of, trigger};
use crate::error::{Error, Result};
use crate::pg::exec::datum::{Jsonb, Text};
use crate::pg::exec::{catalog, scan};
use pgrx::datum::FromDatum;
use pgrx::pg_sys;
use sequin_engine::key::Seq;
use std::sync::OnceLock;

/// A message that is about to be inserted.
pub struct Incoming {
    pub seq: Seq,
    pub key: Text,
    pub data: Jsonb,
    pub headers: Option<Jsonb>,
}

/// What becomes of it.
pub enum Verdict {
    /// It is inserted, with this seq.
    InsertAs(Seq),
    /// The message of its key says the same already.
    Skip,
}

type Supersede = fn(pg_sys::Oid, &Incoming) -> Result<Verdict>;

static SUPERSEDE: OnceLock<Supersede> = OnceLock::new();

/// Installs what the trigger does, when the library is loaded.
pub fn set_supersede(supersede: Supersede) {
    let _ = SUPERSEDE.set(supersede);
}

/// `sequin.on_upsert()`, BEFORE INSERT FOR EACH ROW.
#[pgrx::pg_guard]
#[unsafe(no_mangle)]
unsafe extern "C-unwind" fn sequin_on_upsert(fcinfo: pg_sys::FunctionCallInfo) -> pg_sys::Datum {
    let Some(trigger) = trigger(fcinfo) else { return pg_sys::Datum::null() };
    match on_upsert(trigger) {
        Ok(Some(row)) => pg_sys::Datum::from(row),
        Ok(None) => pg_sys::Datum::null(),
        Err(error) => {
            error.raise();
            pg_sys::Datum::null()
        }
    }
}

/// The row that is to be inserted instead; `None` for no row.
fn on_upsert(trigger: &pg_sys::TriggerData) -> Result<Option<pg_sys::HeapTuple>> {
    const BEFORE_INSERT_ROW: u32 =
        pg_sys::TRIGGER_EVENT_INSERT | pg_sys::TRIGGER_EVENT_BEFORE | pg_sys::TRIGGER_EVENT_ROW;
    const EVENT: u32 =
        pg_sys::TRIGGER_EVENT_OPMASK | pg_sys::TRIGGER_EVENT_TIMINGMASK | pg_sys::TRIGGER_EVENT_ROW;
    let table = table_of(trigger);
    if !catalog::is_stream_table(table) || trigger.tg_event & EVENT != BEFORE_INSERT_ROW {
        return Err(foreign(table, "on_upsert"));
    }
    // SAFETY: the trigger's table is open, and the row is of it.
    if unsafe { !scan::has_columns(trigger.tg_relation, &scan::COLUMNS) } {
        return Err(Error::NotAStream(catalog::relation_name(table)));
    }
    let row = trigger.tg_trigtuple;
    // SAFETY: columns of these types, as was just checked.
    let incoming = unsafe {
        let seq: Option<Seq> = column(trigger, row, 1);
        let (key, data) = (column(trigger, row, 2), column(trigger, row, 3));
        match (seq, key, data) {
            (Some(seq), Some(key), Some(data)) => {
                Incoming { seq, key, data, headers: column(trigger, row, 4) }
            }
            // The table's own constraints refuse it.
            _ => return Ok(Some(row)),
        }
    };
    let supersede = SUPERSEDE.get().ok_or(Error::NotPreloaded)?;
    match supersede(table, &incoming)? {
        Verdict::Skip => Ok(None),
        Verdict::InsertAs(seq) if seq == incoming.seq => Ok(Some(row)),
        // SAFETY: a copy of the row, whose first column is seq.
        Verdict::InsertAs(seq) => unsafe {
            let (mut number, mut value, mut is_null) = (1, pg_sys::Datum::from(seq), false);
            Ok(Some(pg_sys::heap_modify_tuple_by_cols(
                row,
                (*trigger.tg_relation).rd_att,
                1,
                &raw mut number,
                &raw mut value,
                &raw mut is_null,
            )))
        },
    }
}

unsafe fn column<T: FromDatum>(
    trigger: &pg_sys::TriggerData,
    row: pg_sys::HeapTuple,
    number: i32,
) -> Option<T> {
    let mut is_null = false;
    // SAFETY: the row is of the trigger's table, which is open; the caller says that the column is of type T.
    unsafe {
        let columns = (*trigger.tg_relation).rd_att;
        let value = pg_sys::SPI_getbinval(row, columns, number, &mut is_null);
        T::from_datum(value, is_null)
    }
}

finfo!(pg_finfo_sequin_on_upsert);
