//! Ordinary SQL commands that change streams' tables. When they commit, the dispatcher examines the table again.
//! Commands that restart the sequence are refused: seqs would be used a second time, which could not be detected later.

use super::caller::elements;
use super::current;
use crate::error::Error;
use crate::pg::exec::catalog;
use crate::pg::shared::database::Database;
use pgrx::pg_sys;
use sequin_engine::changes::{Change, Changes};
use sequin_engine::ids::StreamId;
use std::ffi::CStr;

/// Called before each utility command.
pub(in crate::pg) unsafe fn before(command: *mut pg_sys::Node) {
    // SAFETY: a parsed command.
    let Some((relations, restarts)) = (unsafe { relations_of(command) }) else { return };
    if Database::here().is_none() {
        return;
    }
    for relation in relations {
        // SAFETY: a RangeVar of the command; looks the name up without a lock, as the command itself will.
        let oid = unsafe {
            let missing_ok = pg_sys::RVROption::RVR_MISSING_OK;
            let none = pg_sys::NoLock.cast_signed();
            pg_sys::RangeVarGetRelidExtended(relation, none, missing_ok, None, std::ptr::null_mut())
        };
        if oid == pg_sys::InvalidOid || !catalog::is_stream_table(oid) {
            continue;
        }
        if restarts {
            Error::Restart(catalog::relation_name(oid)).raise();
        }
        note_change(oid);
    }
}

/// Notes that a command changes a relation in the schema of the streams' tables: a table, or an index or sequence of
/// one.
pub(super) fn note_change(relation: pg_sys::Oid) {
    let changes = changes_of(catalog::table_of(relation));
    // Fails only in a server where this database can have no dispatcher: then there is none to inform.
    let _ = current::note_changes(&changes);
}

/// A change of the stream with this table; of everything if the table is not known.
pub(super) fn changes_of(table: Option<pg_sys::Oid>) -> Changes {
    let stream = |table: pg_sys::Oid| Change::Stream(StreamId(table.to_u32())).into();
    table.map_or_else(Changes::everything, stream)
}

/// The relations that a command changes, and whether it restarts their sequences; `None` if it is another kind of
/// command.
unsafe fn relations_of(command: *mut pg_sys::Node) -> Option<(Vec<*mut pg_sys::RangeVar>, bool)> {
    use pg_sys::NodeTag::*;
    // SAFETY: a node's tag says its type.
    unsafe {
        match (*command).type_ {
            T_AlterTableStmt => {
                let alter = command.cast::<pg_sys::AlterTableStmt>();
                Some((vec![(*alter).relation], false))
            }
            T_AlterSeqStmt => {
                let alter = command.cast::<pg_sys::AlterSeqStmt>();
                let restarts = elements::<pg_sys::DefElem>((*alter).options)
                    .any(|option| CStr::from_ptr((*option).defname) == c"restart");
                Some((vec![(*alter).sequence], restarts))
            }
            T_TruncateStmt => {
                let truncate = command.cast::<pg_sys::TruncateStmt>();
                let relations = elements((*truncate).relations).collect();
                (*truncate).restart_seqs.then_some((relations, true))
            }
            T_DropStmt => {
                let drop = command.cast::<pg_sys::DropStmt>();
                if (*drop).removeType != pg_sys::ObjectType::OBJECT_TRIGGER {
                    return None;
                }
                Some((elements((*drop).objects).filter_map(|name| table_of(name)).collect(), false))
            }
            _ => None,
        }
    }
}

/// The table in the name of a trigger, the last part of which is the trigger's own.
unsafe fn table_of(name: *mut pg_sys::List) -> Option<*mut pg_sys::RangeVar> {
    // SAFETY: a list of names; the copy is the current memory context's.
    unsafe {
        let length = (*name).length;
        if length < 2 {
            return None;
        }
        Some(pg_sys::makeRangeVarFromNameList(pg_sys::list_truncate(
            pg_sys::list_copy(name),
            length - 1,
        )))
    }
}
