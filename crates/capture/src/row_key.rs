//! The values that the key of a message is made of: those of a change's row, or of a row of a chunk.

use super::json_text;
use super::key::{Pushed, Values};
use super::message::{Change, Lookup, Table};
use super::pgoutput::Value;
use super::window::Row;
use std::borrow::Cow;

/// The values of a change: of the new row, or of the old one for a deletion.
pub(super) struct ChangeValues<'a> {
    pub table: &'a Table,
    pub change: Change<'a>,
    pub lookup: &'a Lookup<'a>,
}

impl<'a> ChangeValues<'a> {
    fn value(&self, column: usize) -> Option<Cow<'a, str>> {
        let value = match self.change {
            Change::Delete { .. } => self.table.old_value(self.change, column),
            _ => self.table.new_value(self.change, column),
        };
        match value {
            Value::Text(text) => Some(Cow::Borrowed(text)),
            Value::Null => None,
            Value::Unchanged => self.lookup.filled(column).and_then(text_of),
        }
    }
}

fn text_of(json: &str) -> Option<Cow<'_, str>> {
    (json != "null").then(|| json_text::text_of(json))
}

impl<'a> Values<'a> for ChangeValues<'a> {
    fn database(&self) -> &str {
        &self.table.database
    }
    fn schema(&self) -> &str {
        &self.table.schema
    }
    fn table(&self) -> &str {
        &self.table.name
    }
    fn action(&self) -> &str {
        self.change.action()
    }
    fn pk(&self, pk: &mut Pushed) {
        let values = self.table.pk.iter().map(|&column| self.value(column));
        // If one part of the key is unknown, none is used: a part of a key could be taken for another row's key.
        if values.clone().all(|value| value.is_some()) {
            values.flatten().for_each(|value| pk.push(&value));
        }
    }
    fn column(&self, n: usize) -> Option<Cow<'a, str>> {
        self.value((*self.table.key_columns.get(n)?)?)
    }
}

/// The values of a row of a chunk.
pub(super) struct RowValues<'a> {
    pub table: &'a Table,
    pub row: &'a Row,
}

impl<'a> Values<'a> for RowValues<'a> {
    fn database(&self) -> &str {
        &self.table.database
    }
    fn schema(&self) -> &str {
        &self.table.schema
    }
    fn table(&self) -> &str {
        &self.table.name
    }
    fn action(&self) -> &str {
        "read"
    }
    fn pk(&self, pk: &mut Pushed) {
        self.row.pk.iter().flatten().for_each(|value| pk.push(value));
    }
    fn column(&self, n: usize) -> Option<Cow<'a, str>> {
        self.row.columns.get(n)?.as_deref().map(Cow::Borrowed)
    }
}
