//! The tables of a source, as they were when the changes that are being written were made.

use crate::error::{Error, Result};
use crate::pg::exec::{memory, savepoint};
use crate::store::tables;
use crate::store::types;
use sequin_capture::decoded::Described;
use sequin_capture::message::{Change, Source, Table};
use sequin_capture::pgoutput::{self, Relation};
use sequin_capture::types::Types;
use std::collections::HashMap;
use std::rc::Rc;

/// Schemas whose tables are never captured: messages would make messages without end.
const OWN_SCHEMAS: [&str; 3] = ["sequin", "sequin_stream", "sequin_partition"];

/// A table that is captured.
pub struct Known {
    pub table: Table,
    pub types: Types,
    oid: u32,
    /// The number and the type of each of the table's columns.
    numbers: Vec<(i16, u32)>,
    /// The columns by which a backfill identifies rows.
    pub key: Option<Vec<usize>>,
}

/// All tables that have been described. A clone is cheap: before each write one is kept, since messages that could not
/// be written are read again from that state.
#[derive(Default, Clone)]
pub struct Relations {
    /// pgoutput's last message about each.
    relations: HashMap<u32, Rc<[u8]>>,
    /// `None` for one that is not captured.
    known: HashMap<u32, Option<Rc<Known>>>,
}

impl Relations {
    /// Keeps pgoutput's message about a table. The decoder's description of the table follows before its next change.
    pub fn relation(&mut self, oid: u32, message: &[u8]) {
        self.relations.insert(oid, message.into());
    }

    /// Processes the decoder's description of a table.
    pub fn describe(&mut self, source: &Source, described: &Described) -> Result<()> {
        let table = if OWN_SCHEMAS.contains(&described.schema) {
            None
        } else {
            let table = self.table(source, described)?;
            let mut known = Types::default();
            let mut wanted = described.types(&mut known);
            wanted.extend(table.type_oids());
            types::load(&mut known, &wanted)?;
            Some(Rc::new(Known::new(table, known, described)))
        };
        self.known.insert(described.relation, table);
        Ok(())
    }

    /// The table alone, without the types, for which today's catalogs are needed.
    pub fn table(&self, source: &Source, described: &Described) -> Result<Table> {
        let malformed = |what: &str| Error::Internal(format!("a table was described {what}"));
        let message = self.relations.get(&described.relation);
        let message = message.ok_or_else(|| malformed("before pgoutput did"))?;
        match pgoutput::parse(message) {
            Ok(pgoutput::Message::Relation(relation)) => Ok(table(source, relation, described)),
            _ => Err(malformed("by what is no description")),
        }
    }

    /// `None` for one that is not captured.
    pub fn get(&self, oid: u32) -> Result<Option<&Rc<Known>>> {
        match self.known.get(&oid) {
            Some(known) => Ok(known.as_ref()),
            None => Err(Error::Internal(format!("table {oid} has not been described"))),
        }
    }
}

/// The table whose changes follow.
pub fn table<'a>(
    source: &Source,
    mut relation: Relation<'a>,
    described: &'a Described<'a>,
) -> Table {
    described.complete(&mut relation);
    Table::new(source, &relation, &described.key)
}

impl Known {
    fn new(table: Table, types: Types, described: &Described) -> Known {
        let number = |name: &String| {
            let column = described.columns.iter().find(|column| column.name == name);
            column.map_or((0, 0), |column| (column.number, column.type_oid))
        };
        let numbers = table.columns.iter().map(|column| number(&column.name)).collect();
        let key = Some(table.pk.clone()).filter(|columns| !columns.is_empty());
        Known { table, types, oid: described.relation, numbers, key }
    }

    /// Values that WAL doesn't have since they did not change, if the row is still as this transaction has made it.
    /// The caller knows that the transaction does not change the row again.
    pub fn look_up(&self, change: Change, columns: &[usize], xid: u32) -> Vec<(usize, String)> {
        let pk = &self.table.pk;
        let Some(values) = self.table.new_values(change, pk) else { return Vec::new() };
        if pk.is_empty() {
            return Vec::new();
        }
        // The table may have changed since. What isn't certain stays unknown.
        let found = memory::scoped(|| {
            savepoint::in_savepoint(|| {
                let Some(facts) = tables::describe(self.oid)? else { return Ok(None) };
                let is_there = |&column: &usize| {
                    let (number, type_oid) = self.numbers[column];
                    facts.has(&self.table.columns[column].name, number, type_oid)
                };
                if !pk.iter().chain(columns).all(is_there) {
                    return Ok(None);
                }
                let name = |&column: &usize| self.table.columns[column].name.clone();
                let key: Vec<String> = pk.iter().map(name).collect();
                let names = columns.iter().map(|&n| self.table.columns[n].name.as_str());
                let names: Vec<&str> = names.collect();
                tables::current_values(&facts, &key, &values, xid, &names)
            })
        });
        match found {
            Ok(Some(values)) => columns.iter().copied().zip(values).collect(),
            _ => Vec::new(),
        }
    }
}
