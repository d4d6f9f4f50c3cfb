//! Which change of a transaction is the last of a row.

use super::relations::Relations;
use crate::capture::message::Change;
use crate::capture::pgoutput;
use crate::pg::spool::Messages;
use std::collections::HashMap;

/// The last change that each transaction of a round makes to a row: only that one can be what the table has.
pub struct LastChanges<'a> {
    messages: Option<Messages<'a>>,
    found: HashMap<(i64, u32, Vec<String>), u64>,
}

impl<'a> LastChanges<'a> {
    pub fn new(messages: Messages<'a>) -> Self {
        LastChanges { messages: Some(messages), found: HashMap::new() }
    }

    /// Its index. Looked through on the first question: most rounds have none.
    pub fn of(
        &mut self,
        relations: &Relations,
        ordinal: i64,
        relation: u32,
        pk: &[&str],
    ) -> Option<u64> {
        if let Some(messages) = self.messages.take() {
            self.look_through(relations, messages);
        }
        let pk = pk.iter().map(|&value| value.into()).collect();
        self.found.get(&(ordinal, relation, pk)).copied()
    }

    fn look_through(&mut self, relations: &Relations, messages: Messages) {
        use pgoutput::Message::*;
        let (mut ordinal, mut changes) = (0, 0);
        for message in messages.filter_map(|bytes| pgoutput::parse(bytes).ok()) {
            match &message {
                Begin { .. } => (ordinal, changes) = (ordinal + 1, 0),
                Truncate { relations } => changes += relations.len() as u64,
                Insert { .. } | Update { .. } | Delete { .. } => changes += 1,
                _ => {}
            }
            // Rounds count transactions from 0.
            let at = (ordinal - 1, changes);
            match &message {
                Insert { relation, new } => {
                    self.note(relations, at, *relation, Change::Insert { new });
                }
                Update { relation, old, new } => {
                    self.note(relations, at, *relation, Change::Update { old: old.as_ref(), new });
                }
                _ => {}
            }
        }
    }

    fn note(&mut self, relations: &Relations, at: (i64, u64), relation: u32, change: Change) {
        let Some(known) = relations.get(relation) else { return };
        if let Some(pk) = known.table.new_values(change, &known.table.pk) {
            let pk = pk.into_iter().map(Into::into).collect();
            self.found.insert((at.0, relation, pk), at.1);
        }
    }
}
