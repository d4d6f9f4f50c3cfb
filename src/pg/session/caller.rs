//! The statement that calls a function of sequin's: which tables it reads, and under which snapshot.

use crate::pg::shared::bounds::Xid;
use pgrx::pg_sys;

/// The snapshot of a statement that reads users' tables. The statement doesn't see in them what was committed later.
pub struct Reader(pg_sys::Snapshot);

impl Reader {
    /// The statement that calls a set-returning function, if it reads users' tables.
    /// `fcinfo` is that function's own.
    pub fn calling(fcinfo: pg_sys::FunctionCallInfo) -> Option<Reader> {
        // SAFETY: PostgreSQL passes a valid fcinfo. To a function that returns sets the executor passes a
        // ReturnSetInfo, which leads to the expression's context and from there to the state of the statement's
        // execution.
        unsafe {
            let result = (*fcinfo).resultinfo.cast::<pg_sys::ReturnSetInfo>();
            if result.is_null() || (*result).type_ != pg_sys::NodeTag::T_ReturnSetInfo {
                return None;
            }
            let state = (*result).econtext.as_ref()?.ecxt_estate.as_ref()?;
            let statement = state.es_plannedstmt.as_ref()?;
            let reads = !state.es_snapshot.is_null() && reads_tables(statement);
            reads.then_some(Reader(state.es_snapshot))
        }
    }

    /// Whether the statement sees in its tables what a committed transaction has changed.
    pub fn sees(&self, xid: Xid) -> bool {
        // SAFETY: the snapshot of a statement that runs.
        !unsafe { pg_sys::XidInMVCCSnapshot(pg_sys::TransactionId::from(xid), self.0) }
    }
}

/// Whether a statement reads a table that other sessions can change. The target of an INSERT doesn't count: what ON
/// CONFLICT reads of it is not bound to the statement's snapshot.
unsafe fn reads_tables(statement: &pg_sys::PlannedStmt) -> bool {
    let is_read = |rights: u64| {
        let has = |right: u32| rights & u64::from(right) != 0;
        has(pg_sys::ACL_SELECT) && !has(pg_sys::ACL_INSERT)
    };
    // SAFETY: a planned statement's lists, of entries of these types.
    unsafe {
        #[cfg(any(feature = "pg14", feature = "pg15"))]
        return elements::<pg_sys::RangeTblEntry>(statement.rtable).any(|entry| {
            (*entry).rtekind == pg_sys::RTEKind::RTE_RELATION
                && is_read((*entry).requiredPerms.into())
                && is_users((*entry).relid)
        });
        #[cfg(any(feature = "pg16", feature = "pg17", feature = "pg18"))]
        return elements::<pg_sys::RTEPermissionInfo>(statement.permInfos)
            .any(|entry| is_read((*entry).requiredPerms) && is_users((*entry).relid));
    }
}

/// True for a relation that is not the server's, not sequin's own, and not temporary.
fn is_users(relation: pg_sys::Oid) -> bool {
    // SAFETY: looks both up in the catalog cache.
    unsafe {
        relation.to_u32() >= pg_sys::FirstNormalObjectId
            && pg_sys::get_rel_persistence(relation).cast_unsigned() != pg_sys::RELPERSISTENCE_TEMP
            && pg_sys::get_rel_namespace(relation)
                != pg_sys::get_namespace_oid(c"sequin".as_ptr(), true)
    }
}

/// The elements of a list of pointers.
pub(in crate::pg) unsafe fn elements<T>(list: *mut pg_sys::List) -> impl Iterator<Item = *mut T> {
    // SAFETY: null, or a list that has as many elements as it says.
    let count = if list.is_null() { 0 } else { unsafe { (*list).length } };
    let count = usize::try_from(count).unwrap_or(0);
    // SAFETY: as above.
    (0..count).map(move |n| unsafe { (*(*list).elements.add(n)).ptr_value.cast::<T>() })
}
