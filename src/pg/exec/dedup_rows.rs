//! Looking up dedup_ids without the planner: a plan that was made while a table was empty would scan it when it is full.

use super::scan::has_columns;
use super::snapshot::Snapshot;
use crate::error::{Error, Result};
use pgrx::datum::{FromDatum, IntoDatum};
use pgrx::pg_sys;
use sequin_engine::key::Seq;
use sequin_engine::settings::Micros;

/// What a table has of an id.
#[derive(Debug, Clone, Copy)]
pub struct Claim {
    pub seq: Seq,
    pub at: Micros,
}

/// The columns of such a table: stream, id, seq, at. The first two are its primary key.
const COLUMNS: [pg_sys::Oid; 4] =
    [pg_sys::OIDOID, pg_sys::TEXTOID, pg_sys::INT8OID, pg_sys::TIMESTAMPTZOID];

/// What a table has of each of these ids of a stream, as far as it is committed by now, or the caller's own.
pub fn find(table: pg_sys::Oid, stream: pg_sys::Oid, ids: &[&str]) -> Result<Vec<Option<Claim>>> {
    const LOCK: pg_sys::LOCKMODE = pg_sys::AccessShareLock as pg_sys::LOCKMODE;
    let snapshot = Snapshot::newest();
    // SAFETY: what is opened is closed; after an ERROR the transaction's resource owner does that.
    let found = unsafe {
        let relation = pg_sys::table_open(table, LOCK);
        let found = match has_columns(relation, &COLUMNS) {
            true => Ok(ids.iter().map(|id| find_one(relation, &snapshot, stream, id)).collect()),
            false => Err(Error::NotAMember(super::catalog::relation_name(table))),
        };
        pg_sys::table_close(relation, LOCK);
        found
    };
    snapshot.close();
    found
}

unsafe fn find_one(
    table: pg_sys::Relation,
    snapshot: &Snapshot,
    stream: pg_sys::Oid,
    id: &str,
) -> Option<Claim> {
    // SAFETY: an open table with these columns, whose primary key is on the first two; keys of their types. The row is
    // valid until the scan goes on.
    unsafe {
        #[cfg(not(feature = "pg18"))]
        let index = pg_sys::RelationGetPrimaryKeyIndex(table);
        #[cfg(feature = "pg18")]
        let index = pg_sys::RelationGetPrimaryKeyIndex(table, false);
        let mut keys: [pg_sys::ScanKeyData; 2] = std::mem::zeroed();
        let equal = pg_sys::BTEqualStrategyNumber as u16;
        let (oid_equal, text_equal) =
            (pg_sys::Oid::from(pg_sys::F_OIDEQ), pg_sys::Oid::from(pg_sys::F_TEXTEQ));
        // ScanKeyInit takes the collation "C", which the column has.
        pg_sys::ScanKeyInit(&mut keys[0], 1, equal, oid_equal, pg_sys::Datum::from(stream));
        let id = id.into_datum()?;
        pg_sys::ScanKeyInit(&mut keys[1], 2, equal, text_equal, id);
        let scan = pg_sys::systable_beginscan(
            table,
            index,
            index != pg_sys::InvalidOid,
            snapshot.as_ptr(),
            2,
            keys.as_mut_ptr(),
        );
        let row = pg_sys::systable_getnext(scan);
        let column = |number| {
            let mut is_null = false;
            let value = pg_sys::SPI_getbinval(row, (*table).rd_att, number, &mut is_null);
            i64::from_datum(value, is_null)
        };
        let claim = (!row.is_null())
            .then(|| column(3).zip(column(4)))
            .flatten()
            .map(|(seq, at)| Claim { seq, at });
        pg_sys::systable_endscan(scan);
        claim
    }
}
