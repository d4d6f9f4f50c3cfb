//! Whether all messages of a stream's table can be found. The owner can change the table, its trigger and its sequence
//! by ordinary SQL, and some changes would make messages get lost unnoticed.

use super::{catalog, scan, sequence};
use pgrx::pg_sys;
use sequin_engine::fault::{Fault, Known};
use std::ffi::CStr;

/// What an examination has found.
pub enum Found {
    Sound(Known),
    Broken(Fault),
    /// Another session has locked its sequence.
    Busy,
}

/// Examines a table that is locked for reading, and reads its sequence's last value, the first step of a look.
pub fn examine(table: pg_sys::Oid, known: Known) -> Found {
    match fault(table) {
        // It was logged when it was seen before. Nothing can have been lost since: a crash would have ended this
        // process.
        Some(Fault::Unlogged) if known.sequence.is_some() => {}
        None => {}
        Some(fault) => return Found::Broken(fault),
    }
    let Ok(sequence) = sequence::of_stream(table) else { return Found::Broken(Fault::NoSequence) };
    if !catalog::try_lock_for_writing(sequence) {
        return Found::Busy;
    }
    let last = sequence::last_value(sequence);
    if !sequence::counts_one_by_one(sequence) {
        return Found::Broken(Fault::Steps);
    }
    if last < known.last {
        return Found::Broken(Fault::WentBack { last, known: known.last });
    }
    if known.sequence.is_some_and(|before| before != sequence.to_u32()) {
        return Found::Broken(Fault::Another);
    }
    Found::Sound(Known { last, sequence: Some(sequence.to_u32()) })
}

/// What is wrong with the table itself.
pub fn fault(table: pg_sys::Oid) -> Option<Fault> {
    // SAFETY: an open relation's cache entry, closed below; an ERROR on the way leaves nothing, as the transaction's
    // resource owner closes it.
    unsafe {
        let relation = pg_sys::try_table_open(table, pg_sys::AccessShareLock.cast_signed());
        if relation.is_null() {
            return Some(Fault::Columns);
        }
        let fault = fault_of(relation);
        pg_sys::table_close(relation, pg_sys::AccessShareLock.cast_signed());
        fault
    }
}

unsafe fn fault_of(relation: pg_sys::Relation) -> Option<Fault> {
    // SAFETY: an open relation.
    unsafe {
        if !scan::has_columns(relation, &scan::COLUMNS) {
            return Some(Fault::Columns);
        }
        if !scan::has_primary_key(relation) {
            return Some(Fault::PrimaryKey);
        }
        if !has_trigger((*relation).trigdesc, c"on_publish", Fires::BeforeStatements) {
            return Some(Fault::Trigger);
        }
        let persistence = (*(*relation).rd_rel).relpersistence.cast_unsigned();
        (persistence != pg_sys::RELPERSISTENCE_PERMANENT).then_some(Fault::Unlogged)
    }
}

/// When a trigger runs.
#[derive(PartialEq, Eq)]
enum Fires {
    BeforeStatements,
    BeforeRows,
}

/// True if a function of sequin's runs before every statement that inserts, or before every row that is inserted.
unsafe fn has_trigger(triggers: *const pg_sys::TriggerDesc, function: &CStr, fires: Fires) -> bool {
    const ALWAYS: u8 = b'A';
    const BEFORE_INSERT: u32 = pg_sys::TRIGGER_TYPE_BEFORE | pg_sys::TRIGGER_TYPE_INSERT;
    // SAFETY: null, or the descriptor of an open relation, with as many triggers as it says.
    unsafe {
        let Some(triggers) = triggers.as_ref() else { return false };
        let count = usize::try_from(triggers.numtriggers).unwrap_or(0);
        std::slice::from_raw_parts(triggers.triggers, count).iter().any(|trigger| {
            let kind = u32::from(trigger.tgtype.cast_unsigned());
            trigger.tgenabled.cast_unsigned() == ALWAYS
                && kind & BEFORE_INSERT == BEFORE_INSERT
                && (kind & pg_sys::TRIGGER_TYPE_ROW != 0) == (fires == Fires::BeforeRows)
                && trigger.tgqual.is_null()
                && is_own_function(trigger.tgfoid, function)
        })
    }
}

/// True for the function of sequin's that has this name.
fn is_own_function(function: pg_sys::Oid, own: &CStr) -> bool {
    // SAFETY: looks both up in the catalog cache; the name is a copy, or null.
    unsafe {
        let name = pg_sys::get_func_name(function);
        !name.is_null()
            && CStr::from_ptr(name) == own
            && pg_sys::get_func_namespace(function)
                == pg_sys::get_namespace_oid(c"sequin".as_ptr(), true)
    }
}

/// True if a table has the columns and the trigger that make it a stream's, whatever else may be wrong with it.
pub fn is_stream(table: pg_sys::Oid) -> bool {
    !matches!(fault(table), Some(Fault::Columns | Fault::PrimaryKey | Fault::Trigger))
}

/// True if the trigger is there that keeps one message of each key.
pub fn keeps_one_per_key(table: pg_sys::Oid) -> bool {
    // SAFETY: as in `fault`.
    unsafe {
        let relation = pg_sys::try_table_open(table, pg_sys::AccessShareLock.cast_signed());
        if relation.is_null() {
            return false;
        }
        let found = has_trigger((*relation).trigdesc, c"on_upsert", Fires::BeforeRows);
        pg_sys::table_close(relation, pg_sys::AccessShareLock.cast_signed());
        found
    }
}
