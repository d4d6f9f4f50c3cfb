//! The sequence behind a stream: its last value, and new ones.

use super::relcache;
use super::role;
use crate::error::{Error, Result};
use pgrx::pg_sys;
use sequin_engine::key::Seq;
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

/// The last seq that was taken; 0 if none ever was.
pub fn last_value(sequence: pg_sys::Oid) -> Seq {
    // As the owner, since publishing requires no right on the sequence.
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

/// True if values ascend, and no session takes them ahead of their use: INCREMENT of at least 1, CACHE 1, NO CYCLE.
pub fn counts_one_by_one(sequence: pg_sys::Oid) -> bool {
    let field = |tuple: pg_sys::HeapTuple| {
        // SAFETY: a tuple of pg_sequence.
        let form = unsafe { &*pg_sys::GETSTRUCT(tuple).cast::<Form>() };
        form.seqincrement >= 1 && form.seqcache == 1 && !form.seqcycle
    };
    lookup(pg_sys::SysCacheIdentifier::SEQRELID, sequence, field).unwrap_or(false)
}

/// A row of pg_sequence (catalog/pg_sequence.h), which pgrx doesn't bind.
#[repr(C)]
struct Form {
    seqrelid: pg_sys::Oid,
    seqtypid: pg_sys::Oid,
    seqstart: i64,
    seqincrement: i64,
    seqmax: i64,
    seqmin: i64,
    seqcache: i64,
    seqcycle: bool,
}

/// Looks a row of a catalog up by its OID.
fn lookup<R>(
    cache: pg_sys::SysCacheIdentifier::Type,
    oid: pg_sys::Oid,
    field: impl FnOnce(pg_sys::HeapTuple) -> R,
) -> Option<R> {
    // SAFETY: a cache by OID; its entry is released when it has been read.
    unsafe {
        let tuple = pg_sys::SearchSysCache1(cache.cast_signed(), pg_sys::Datum::from(oid));
        if tuple.is_null() {
            return None;
        }
        let found = field(tuple);
        pg_sys::ReleaseSysCache(tuple);
        Some(found)
    }
}

/// Takes `n` seqs, ascending.
pub fn take(sequence: pg_sys::Oid, n: usize) -> Vec<Seq> {
    // SAFETY: a sequence. Rights on it are not checked, as for any identity column.
    (0..n).map(|_| unsafe { nextval_internal(sequence, false) }).collect()
}
