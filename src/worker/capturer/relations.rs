//! The tables of a source, as the decoded WAL describes them, and what the catalogs add to that.

use crate::capture::message::{Change, Source, Table};
use crate::capture::pgoutput::{Old, Relation};
use crate::capture::types::Types;
use crate::error::Result;
use crate::pg::{memory, spi};
use crate::store::tables::{self, Facts};
use crate::store::types;
use std::collections::HashMap;

/// Schemas whose tables are never captured: messages would make messages without end.
const OWN_SCHEMAS: [&str; 2] = ["sequin", "sequin_stream"];

/// A table that is captured.
pub struct Known {
    pub table: Table,
    /// `None` for a table that was dropped meanwhile.
    pub facts: Option<Facts>,
    /// The columns by which a backfill knows rows.
    pub key: Option<Vec<usize>>,
}

/// All tables that have been described.
#[derive(Default)]
pub struct Relations {
    /// `None` for one that is not captured.
    known: HashMap<u32, Option<Known>>,
    pub types: Types,
}

impl Relations {
    /// Takes in a description of a table.
    pub fn describe(&mut self, source: &Source, relation: &Relation) -> Result<()> {
        if OWN_SCHEMAS.contains(&relation.schema) {
            self.known.insert(relation.oid, None);
            return Ok(());
        }
        let facts = tables::describe(relation.oid)?;
        let pk: Vec<&str> = facts.iter().flat_map(|facts| &facts.pk).map(String::as_str).collect();
        let table = Table::new(source, relation, &pk);
        types::load(&mut self.types, &table.type_oids().collect::<Vec<_>>())?;
        let key: Vec<&str> = facts.iter().flat_map(|f| &f.key).map(String::as_str).collect();
        let key = table.positions(&key).filter(|columns| !columns.is_empty());
        self.known.insert(relation.oid, Some(Known { table, facts, key }));
        Ok(())
    }

    /// Reads all types again if a value did not fit what was known of its type: a composite type that was altered,
    /// of which the tables that use it hear nothing. True if so.
    pub fn refresh_types(&mut self) -> Result<bool> {
        if !self.types.outdated() {
            return Ok(false);
        }
        let tables = self.known.values().flatten().map(|known| &known.table);
        let wanted: Vec<u32> = tables.flat_map(|table| table.type_oids()).collect();
        self.types.forget();
        types::load(&mut self.types, &wanted)?;
        Ok(true)
    }

    pub fn get(&self, oid: u32) -> Option<&Known> {
        self.known.get(&oid)?.as_ref()
    }
}

impl Known {
    /// Values that WAL doesn't have since they did not change, if the row is still as this transaction has made it.
    /// The caller knows that the transaction does not change the row again.
    pub fn look_up(&self, change: Change, columns: &[usize], xid: u32) -> Vec<(usize, String)> {
        let Some(facts) = &self.facts else { return Vec::new() };
        let Some(pk) = self.table.new_values(change, &self.table.pk) else { return Vec::new() };
        if pk.is_empty() {
            return Vec::new();
        }
        let names: Vec<&str> =
            columns.iter().map(|&column| self.table.columns[column].name.as_str()).collect();
        // The table may have changed since: then this fails, and the values stay unknown.
        let found = memory::scoped(|| {
            spi::in_savepoint(|| tables::current_values(facts, &pk, xid, &names))
        });
        match found {
            Ok(Some(values)) => columns.iter().copied().zip(values).collect(),
            _ => Vec::new(),
        }
    }

    /// True if the row has columns that are computed from others, and that WAL leaves out.
    pub fn has_generated(&self, change: Change) -> bool {
        let is_whole = match change {
            Change::Insert { .. } | Change::Update { .. } => true,
            Change::Delete { old: Old::Full(_) } => true,
            Change::Delete { .. } | Change::Truncate => false,
        };
        is_whole && self.facts.as_ref().is_some_and(|facts| !facts.generated.is_empty())
    }

    /// Generated columns of a message's record, from the rest of it.
    pub fn generated(&self, data: &str) -> Vec<(String, String)> {
        let Some(facts) = &self.facts else { return Vec::new() };
        let found = memory::scoped(|| spi::in_savepoint(|| tables::generated_values(facts, data)));
        let mut found = found.unwrap_or_default();
        found.retain(|(name, _)| self.table.columns.iter().all(|column| column.name != *name));
        found
    }
}
