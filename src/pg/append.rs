//! Appending many messages to a stream's table at once, without the executor: as COPY does it (see CopyFrom in
//! commands/copyfrom.c), for tables that are as create_stream has made them.

use super::scan;
use crate::engine::key::Seq;
use crate::error::{Error, Result};
use pgrx::datum::IntoDatum;
use pgrx::pg_sys;
use std::ffi::CString;

/// Columns of a stream's table.
const COLUMNS: usize = 5;

const LOCK: pg_sys::LOCKMODE = pg_sys::RowExclusiveLock as pg_sys::LOCKMODE;

/// Inserts messages with these seqs, keys, and data as JSON text, as the current role. False if the table has anything
/// that only the executor knows how to deal with: triggers, policies, columns of its owner's. Then nothing has
/// happened. What the caller's memory context holds afterwards is garbage.
pub fn append(table: pg_sys::Oid, seqs: &[Seq], keys: &[String], data: &[String]) -> Result<bool> {
    let texts = data.iter().map(|text| CString::new(text.as_str()));
    let texts = texts.collect::<std::result::Result<Vec<_>, _>>();
    let texts = texts.map_err(|_| Error::Internal("JSON contains a zero byte".into()))?;
    // SAFETY: the relation is open and locked until the transaction's end. An ERROR in between leaves nothing: the
    // transaction's resource owner closes what is open, and memory goes with its context.
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

        let mut slots = Vec::with_capacity(seqs.len());
        for ((&seq, key), text) in seqs.iter().zip(keys).zip(&texts) {
            let slot = pg_sys::MakeSingleTupleTableSlot((*relation).rd_att, &pg_sys::TTSOpsVirtual);
            let values = std::slice::from_raw_parts_mut((*slot).tts_values, COLUMNS);
            let nulls = std::slice::from_raw_parts_mut((*slot).tts_isnull, COLUMNS);
            let json = pg_sys::Datum::from(text.as_ptr());
            let json = pgrx::direct_function_call_as_datum(pg_sys::jsonb_in, &[Some(json)]);
            values[0] = pg_sys::Datum::from(seq);
            values[1] = key.as_str().into_datum().unwrap_or(pg_sys::Datum::null());
            values[2] = json.unwrap_or(pg_sys::Datum::null());
            values[4] = pg_sys::Datum::from(super::now());
            nulls.copy_from_slice(&[false, false, false, true, false]);
            pg_sys::ExecStoreVirtualTuple(slot);
            pg_sys::ExecConstraints(target, slot, estate);
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
            pg_sys::ExecDropSingleTupleTableSlot(slot);
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
            || usize::try_from((*(*relation).rd_att).natts) != Ok(COLUMNS)
            || !scan::has_columns(relation)
            || (*relation).rd_tableam != pg_sys::GetHeapamTableAmRoutine()
        {
            return false;
        }
        // The one trigger is the one that announces, which `append` does itself.
        let triggers = (*relation).trigdesc;
        let has_only_ours = !triggers.is_null()
            && (*triggers).numtriggers == 1
            && (*triggers).trig_insert_before_statement;
        let rights = pg_sys::pg_class_aclcheck(
            (*relation).rd_id,
            pg_sys::GetUserId(),
            pg_sys::ACL_INSERT as pg_sys::AclMode,
        );
        has_only_ours && rights == pg_sys::AclResult::ACLCHECK_OK
    }
}
