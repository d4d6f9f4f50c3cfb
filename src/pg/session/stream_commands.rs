//! Ordinary SQL commands that change streams' tables. When they commit, the dispatcher examines the table again.
//! Commands that it could not find out about later are refused: those that restart the sequence, so that seqs would be used
//! a second time, and those by which rows get into a stream without its trigger, or into other tables instead.

use super::caller::elements;
use super::current;
use crate::error::Error;
use crate::pg::exec::{catalog, partitions};
use crate::pg::shared::database::Database;
use pgrx::pg_sys;
use sequin_engine::changes::{Change, Changes};
use sequin_engine::ids::StreamId;
use std::ffi::CStr;

/// What a command does to a table.
#[derive(Clone, Copy)]
enum Effect {
    Changes,
    RestartsSequence,
    /// It gets a child, or becomes a partition.
    MakesRelative,
    /// It gets this partition: a dump's are those that sequin has made.
    Attaches(*mut pg_sys::RangeVar),
}

/// Called before each utility command.
pub(in crate::pg) unsafe fn before(command: *mut pg_sys::Node) {
    // SAFETY: a parsed command.
    let relations = unsafe { relations_of(command) };
    if relations.is_empty() || Database::here().is_none() {
        return;
    }
    for (relation, effect) in relations {
        // SAFETY: a RangeVar of the command.
        let oid = unsafe { look_up(relation) };
        if oid == pg_sys::InvalidOid || !catalog::is_stream_table(oid) {
            continue;
        }
        let is_refused = match effect {
            Effect::Changes => false,
            Effect::RestartsSequence => {
                Error::Restart(catalog::relation_name(oid)).raise();
                true
            }
            Effect::MakesRelative => true,
            // SAFETY: as above.
            Effect::Attaches(partition) => unsafe { !partitions::is_in_schema(look_up(partition)) },
        };
        if is_refused {
            Error::Relative(catalog::relation_name(oid)).raise();
        }
        note_change(oid);
    }
}

/// Looks a name up without a lock, as the command itself will.
unsafe fn look_up(relation: *mut pg_sys::RangeVar) -> pg_sys::Oid {
    let missing_ok = pg_sys::RVROption::RVR_MISSING_OK;
    let none = pg_sys::NoLock.cast_signed();
    // SAFETY: a RangeVar.
    unsafe {
        pg_sys::RangeVarGetRelidExtended(relation, none, missing_ok, None, std::ptr::null_mut())
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

/// The relations that a command names, as far as it does something to them.
unsafe fn relations_of(command: *mut pg_sys::Node) -> Vec<(*mut pg_sys::RangeVar, Effect)> {
    use pg_sys::NodeTag::*;
    // SAFETY: a node's tag says its type.
    unsafe {
        match (*command).type_ {
            T_AlterTableStmt => {
                let alter = command.cast::<pg_sys::AlterTableStmt>();
                let mut effects = vec![((*alter).relation, Effect::Changes)];
                for part in elements::<pg_sys::AlterTableCmd>((*alter).cmds) {
                    let Some(relative) = relative_of(part) else { continue };
                    effects.push((relative, Effect::MakesRelative));
                    if (*part).subtype == pg_sys::AlterTableType::AT_AttachPartition {
                        effects.push(((*alter).relation, Effect::Attaches(relative)));
                    }
                }
                effects
            }
            T_CreateStmt | T_CreateForeignTableStmt => {
                let create = command.cast::<pg_sys::CreateStmt>();
                let parents = elements((*create).inhRelations);
                parents.map(|parent| (parent, Effect::MakesRelative)).collect()
            }
            T_AlterSeqStmt => {
                let alter = command.cast::<pg_sys::AlterSeqStmt>();
                let restarts = elements::<pg_sys::DefElem>((*alter).options)
                    .any(|option| CStr::from_ptr((*option).defname) == c"restart");
                let effect = if restarts { Effect::RestartsSequence } else { Effect::Changes };
                vec![((*alter).sequence, effect)]
            }
            T_TruncateStmt if (*command.cast::<pg_sys::TruncateStmt>()).restart_seqs => {
                let truncate = command.cast::<pg_sys::TruncateStmt>();
                let relations = elements((*truncate).relations);
                relations.map(|relation| (relation, Effect::RestartsSequence)).collect()
            }
            T_DropStmt => {
                let drop = command.cast::<pg_sys::DropStmt>();
                if (*drop).removeType != pg_sys::ObjectType::OBJECT_TRIGGER {
                    return Vec::new();
                }
                let tables = elements((*drop).objects).filter_map(|name| table_of(name));
                tables.map(|table| (table, Effect::Changes)).collect()
            }
            _ => Vec::new(),
        }
    }
}

/// The table that a part of ALTER TABLE makes a partition or a parent of the one that is altered.
unsafe fn relative_of(part: *mut pg_sys::AlterTableCmd) -> Option<*mut pg_sys::RangeVar> {
    // SAFETY: a part of a parsed command; its kind says what it has as definition.
    unsafe {
        match (*part).subtype {
            pg_sys::AlterTableType::AT_AttachPartition => {
                Some((*(*part).def.cast::<pg_sys::PartitionCmd>()).name)
            }
            pg_sys::AlterTableType::AT_AddInherit => Some((*part).def.cast()),
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
