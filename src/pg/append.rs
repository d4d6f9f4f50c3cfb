//! Appending many messages to a stream's table at once, without the executor: as COPY does it (see CopyFrom in
//! commands/copyfrom.c), for tables that are as create_stream has made them.

use super::scan;
use crate::engine::key::{self, Seq};
use crate::error::{Error, Result};
use pgrx::datum::IntoDatum;
use pgrx::pg_sys;
use std::ffi::CStr;

/// Columns of a stream's table.
const COLUMNS: usize = 5;

const LOCK: pg_sys::LOCKMODE = pg_sys::RowExclusiveLock as pg_sys::LOCKMODE;

/// Inserts messages with these seqs, keys, and data as JSON text, as the current role. False if the table has anything
/// that only the executor knows how to deal with: triggers, policies, columns of its owner's. Then nothing has
/// happened. What the caller's memory context holds afterwards is garbage.
///
/// Under its lock the table stays as `is_plain` has found it. Its cache entry may be rebuilt whenever something is looked
/// up, which leaves rd_rel and rd_att where they are (RelationClearRelation) but not trigdesc.
pub fn append(
    table: pg_sys::Oid,
    seqs: &[Seq],
    keys: &[String],
    data: &mut [String],
) -> Result<bool> {
    // SAFETY: the relation is open and locked until the transaction's end, and has the five columns that the slots are
    // filled with. Slots refer to texts and datums that live until the last of them is in the table. An ERROR in between,
    // or an Err, which callers end their transaction with, leaves nothing: its resource owner closes what is open, and
    // memory goes with its context.
    unsafe {
        let relation = pg_sys::try_table_open(table, LOCK);
        if relation.is_null() {
            return Err(Error::NoStream(super::catalog::relation_name(table)));
        }
        if !is_plain(relation) {
            pg_sys::table_close(relation, pg_sys::NoLock as pg_sys::LOCKMODE);
            return Ok(false);
        }
        let estate = pg_sys::CreateExecutorState();
        let target = pg_sys::palloc0(size_of::<pg_sys::ResultRelInfo>());
        let target = target.cast::<pg_sys::ResultRelInfo>();
        (*target).type_ = pg_sys::NodeTag::T_ResultRelInfo;
        pg_sys::InitResultRelInfo(target, relation, 0, std::ptr::null_mut(), 0);
        pg_sys::ExecOpenIndices(target, false);

        let has_checks = has_checks(relation);
        // A copy has no reference count, which the resource owner would keep for each slot (6% of it all).
        let descriptor = pg_sys::CreateTupleDescCopy((*relation).rd_att);
        let mut slots = Vec::with_capacity(seqs.len());
        for ((&seq, key), text) in seqs.iter().zip(keys).zip(data) {
            key::check_key(key)?;
            let slot = pg_sys::MakeTupleTableSlot(descriptor, &pg_sys::TTSOpsVirtual);
            let values = std::slice::from_raw_parts_mut((*slot).tts_values, COLUMNS);
            let nulls = std::slice::from_raw_parts_mut((*slot).tts_isnull, COLUMNS);
            values[0] = pg_sys::Datum::from(seq);
            values[1] = key.as_str().into_datum().unwrap_or(pg_sys::Datum::null());
            values[2] = jsonb(text);
            values[4] = pg_sys::Datum::from(super::now());
            nulls.copy_from_slice(&[false, false, false, true, false]);
            pg_sys::ExecStoreVirtualTuple(slot);
            if has_checks {
                pg_sys::ExecConstraints(target, slot, estate);
            }
            slots.push(slot);
        }

        let bulk = pg_sys::GetBulkInsertState();
        let count = i32::try_from(slots.len()).unwrap_or(i32::MAX);
        let command = pg_sys::GetCurrentCommandId(true);
        pg_sys::heap_multi_insert(relation, slots.as_mut_ptr(), count, command, 0, bulk);
        for &slot in &slots {
            insert_index_tuples(target, slot, estate);
            if let Some(context) = (*estate).es_per_tuple_exprcontext.as_ref() {
                pg_sys::MemoryContextReset(context.ecxt_per_tuple_memory);
            }
        }
        pg_sys::FreeBulkInsertState(bulk);
        pg_sys::ExecCloseIndices(target);
        pg_sys::FreeExecutorState(estate);
        pg_sys::table_close(relation, pg_sys::NoLock as pg_sys::LOCKMODE);
        // What comes next in this transaction sees it.
        pg_sys::CommandCounterIncrement();
    }
    Ok(true)
}

/// What jsonb's input function makes of a text.
fn jsonb(text: &mut String) -> pg_sys::Datum {
    // It wants a zero at the end; in place, which saves a copy.
    text.push('\0');
    // SAFETY: a zero-terminated string.
    let value = unsafe {
        let text = pg_sys::Datum::from(text.as_ptr());
        pgrx::direct_function_call_as_datum(pg_sys::jsonb_in, &[Some(text)])
    };
    text.pop();
    value.unwrap_or(pg_sys::Datum::null())
}

/// True if rows can fail constraints. Not the one that create_stream makes, of the key, which has been checked.
unsafe fn has_checks(relation: pg_sys::Relation) -> bool {
    // SAFETY: an open relation's cache entry, with as many constraints as it says.
    unsafe {
        let Some(constraints) = (*(*relation).rd_att).constr.as_ref() else { return false };
        let own = format!("{}_key_check", super::catalog::relation_name((*relation).rd_id));
        let is_own = constraints.num_check == 1
            && CStr::from_ptr((*constraints.check).ccname).to_bytes() == own.as_bytes();
        let needs_headers = pgrx::PgTupleDesc::from_pg_unchecked((*relation).rd_att)
            .get(3)
            .is_none_or(|headers| headers.attnotnull);
        needs_headers || !(is_own || constraints.num_check == 0)
    }
}

unsafe fn insert_index_tuples(
    target: *mut pg_sys::ResultRelInfo,
    slot: *mut pg_sys::TupleTableSlot,
    estate: *mut pg_sys::EState,
) {
    // SAFETY: the slot has been inserted, and has its place in the table.
    unsafe {
        pg_sys::ExecInsertIndexTuples(
            target,
            slot,
            estate,
            false,
            false,
            std::ptr::null_mut(),
            std::ptr::null_mut(),
            #[cfg(any(feature = "pg16", feature = "pg17", feature = "pg18"))]
            false,
        );
    }
}

/// True for a table that is as create_stream makes it, perhaps with more constraints and indexes, and into which the
/// current role may insert.
unsafe fn is_plain(relation: pg_sys::Relation) -> bool {
    // SAFETY: an open relation's cache entry; its triggers and constraints are null or valid.
    unsafe {
        let class = &*(*relation).rd_rel;
        if class.relkind.cast_unsigned() != pg_sys::RELKIND_RELATION
            || class.relrowsecurity
            || class.relhasrules
            || class.relispartition
            || usize::try_from((*(*relation).rd_att).natts) != Ok(COLUMNS)
            || !scan::has_columns(relation)
            || (*relation).rd_tableam != pg_sys::GetHeapamTableAmRoutine()
        {
            return false;
        }
        // The one that announces, which the caller does itself.
        let triggers = (*relation).trigdesc;
        let has_only_ours = !triggers.is_null()
            && (*triggers).numtriggers == 1
            && CStr::from_ptr((*(*triggers).triggers).tgname) == c"on_publish";
        let rights = pg_sys::pg_class_aclcheck(
            (*relation).rd_id,
            pg_sys::GetUserId(),
            pg_sys::ACL_INSERT as pg_sys::AclMode,
        );
        has_only_ours && rights == pg_sys::AclResult::ACLCHECK_OK
    }
}
