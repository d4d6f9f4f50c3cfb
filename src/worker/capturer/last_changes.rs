//! Which change of a transaction is its last change of a row.

use super::relations::{self, Relations};
use crate::pg::wal::spool::Messages;
use sequin_capture::decoded::{self, Decoded};
use sequin_capture::message::{Change, Source, Table};
use sequin_capture::pgoutput;
use std::collections::HashMap;

/// The last change that each transaction of a round makes to each row. Only after that one can the table's row be what
/// the change made it.
pub struct LastChanges<'a> {
    messages: Option<Messages<'a>>,
    found: HashMap<(i64, u32, Vec<String>), u64>,
}

impl<'a> LastChanges<'a> {
    pub fn new(messages: Messages<'a>) -> Self {
        LastChanges { messages: Some(messages), found: HashMap::new() }
    }

    /// The index of the last change in its transaction. The messages are searched on the first call: most rounds make
    /// none.
    pub fn of(
        &mut self,
        source: &Source,
        relations: &Relations,
        ordinal: i64,
        relation: u32,
        pk: &[&str],
    ) -> Option<u64> {
        if let Some(messages) = self.messages.take() {
            self.look_through(source, relations, messages);
        }
        let pk = pk.iter().map(|&value| value.into()).collect();
        self.found.get(&(ordinal, relation, pk)).copied()
    }

    fn look_through(&mut self, source: &Source, relations: &Relations, messages: Messages) {
        use pgoutput::Message::*;
        let (mut ordinal, mut changes) = (0, 0);
        let mut tables = Tables { source, relations, said: HashMap::new(), known: HashMap::new() };
        for message in messages.filter_map(|bytes| decoded::parse(bytes).ok()) {
            let (message, generated) = match message {
                Decoded::Described(described) => {
                    tables.describe(&described);
                    continue;
                }
                Decoded::Message(message, generated) => (message, generated),
            };
            match &message {
                Begin { .. } => (ordinal, changes) = (ordinal + 1, 0),
                Truncate { relations } => changes += relations.len() as u64,
                Insert { .. } | Update { .. } | Delete { .. } => changes += 1,
                _ => {}
            }
            let mut message = message;
            let oid = match message {
                Insert { relation, .. } | Update { relation, .. } => relation,
                Relation(relation) => {
                    tables.said.insert(relation.oid, relation);
                    continue;
                }
                _ => continue,
            };
            let Some(table) = tables.get(oid) else { continue };
            generated.iter().for_each(|generated| generated.complete(table, &mut message));
            let change = match &message {
                Insert { new, .. } => Change::Insert { new },
                Update { old, new, .. } => Change::Update { old: old.as_ref(), new },
                _ => continue,
            };
            if let Some(pk) = table.new_values(change, &table.pk) {
                let pk = pk.into_iter().map(Into::into).collect();
                // Rounds count transactions from 0.
                self.found.insert((ordinal - 1, oid, pk), changes);
            }
        }
    }
}

/// The tables as they are at the current point of the search.
struct Tables<'a> {
    source: &'a Source,
    relations: &'a Relations,
    said: HashMap<u32, pgoutput::Relation<'a>>,
    known: HashMap<u32, Table>,
}

impl Tables<'_> {
    fn describe(&mut self, described: &decoded::Described) {
        let table = match self.said.get(&described.relation) {
            Some(relation) => relations::table(self.source, relation.clone(), described),
            None => match self.relations.table(self.source, described) {
                Ok(table) => table,
                Err(_) => return,
            },
        };
        self.known.insert(described.relation, table);
    }

    fn get(&self, oid: u32) -> Option<&Table> {
        let before = || self.relations.get(oid).ok().flatten().map(|known| &known.table);
        self.known.get(&oid).or_else(before)
    }
}
