//! The sequence behind a stream: its last value, and new ones.

use super::relcache;
use super::role;
use crate::engine::key::Seq;
use crate::error::{Error, Result};
use pgrx::pg_sys;
use std::cell::RefCell;
use std::collections::HashMap;

#[pgrx::pg_guard]
unsafe extern "C-unwind" {
    /// commands/sequence.h; exported by the server, not bound by pgrx.
    fn nextval_internal(relid: pg_sys::Oid, check_permissions: bool) -> i64;
}

thread_local! {
    static CACHE: RefCell<(u64, HashMap<pg_sys::Oid, pg_sys::Oid>)> = RefCell::default();
}

/// The identity sequence of a stream's table.
pub fn of_stream(table: pg_sys::Oid) -> Result<pg_sys::Oid> {
    let generation = relcache::generation();
    let cached = CACHE.with_borrow_mut(|(of, map)| {
        if *of != generation {
            map.clear();
            *of = generation;
        }
        map.get(&table).copied()
    });
    if let Some(sequence) = cached {
        return Ok(sequence);
    }
    let sequence = identity_sequence(table);
    if sequence == pg_sys::InvalidOid {
        return Err(Error::NotAStream(super::catalog::relation_name(table)));
    }
    CACHE.with_borrow_mut(|(_, map)| map.insert(table, sequence));
    Ok(sequence)
}

/// `seq` is the first column of every stream's table.
const SEQ_COLUMN: i16 = 1;

#[cfg(any(feature = "pg14", feature = "pg15", feature = "pg16"))]
fn identity_sequence(table: pg_sys::Oid) -> pg_sys::Oid {
    // SAFETY: reads pg_depend; with missing_ok it raises no error for a table without one.
    unsafe { pg_sys::getIdentitySequence(table, SEQ_COLUMN, true) }
}

#[cfg(any(feature = "pg17", feature = "pg18"))]
fn identity_sequence(table: pg_sys::Oid) -> pg_sys::Oid {
    // SAFETY: opens and closes the table's relcache entry around a read of pg_depend.
    unsafe {
        let relation = pg_sys::table_open(table, pg_sys::AccessShareLock.cast_signed());
        let sequence = pg_sys::getIdentitySequence(relation, SEQ_COLUMN, true);
        pg_sys::table_close(relation, pg_sys::AccessShareLock.cast_signed());
        sequence
    }
}

/// The last seq taken; 0 when none ever was.
pub fn last_value(sequence: pg_sys::Oid) -> Seq {
    // As the owner: to publish takes no right on the sequence.
    role::as_owner(|| {
        // SAFETY: the arguments are those of pg_sequence_last_value(regclass).
        let value = unsafe {
            pgrx::direct_function_call_as_datum(
                pg_sys::pg_sequence_last_value,
                &[Some(pg_sys::Datum::from(sequence))],
            )
        };
        value.map_or(0, |datum| datum.value() as Seq)
    })
}

/// Takes `n` seqs, ascending.
pub fn take(sequence: pg_sys::Oid, n: usize) -> Vec<Seq> {
    // SAFETY: a sequence; rights are not asked for, as for any identity column.
    (0..n).map(|_| unsafe { nextval_internal(sequence, false) }).collect()
}
