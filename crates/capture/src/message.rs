//! A change as a message: its key, and its data as JSON text.
//!
//! Data has `action`, `record` (the row after an insert or update, before a delete), `changes` (an update's old
//! values, as far as they are known) and `metadata`. A TOASTed value that an update left as it was isn't in WAL:
//! it is taken from the old row or looked up by the caller, or else it isn't in `record` and its name is in
//! `metadata.unchanged`.

use super::json::{Caster, write_string};
use super::key_format::KeyFormat;
use super::pgoutput::{Old, Relation, Tuple, Value};
use super::record::Record;
use super::row_key::{ChangeValues, RowValues};
use super::time;
use super::types::Types;
use super::window::Row;

/// Where changes come from.
#[derive(Debug, Clone)]
pub struct Source {
    pub name: String,
    pub database: String,
    pub key_format: KeyFormat,
}

/// A table whose changes become messages.
#[derive(Debug)]
pub struct Table {
    pub schema: String,
    pub name: String,
    pub columns: Vec<Column>,
    /// The columns that identify a row, by their position in `columns`; empty if there are none. They are those of the
    /// replica identity's index, or of the primary key: WAL has them of a deleted row.
    pub pk: Vec<usize>,
    in_order: Vec<usize>,
    pub(super) database: String,
    pub(super) key_format: KeyFormat,
    /// The key format's columns, by their position in `columns`.
    pub(super) key_columns: Vec<Option<usize>>,
    /// The members of `metadata` that are the same for all of its messages.
    pub(super) metadata: String,
}

#[derive(Debug)]
pub struct Column {
    pub name: String,
    pub type_oid: u32,
    /// Part of the replica identity.
    pub is_key: bool,
    /// `"name":`
    pub(super) member: String,
}

/// The transaction that made changes.
#[derive(Debug)]
pub struct Transaction {
    /// The members of `metadata` that are the same for all of its messages: before `index`, and at the end.
    pub(super) metadata: (String, String),
}

impl Transaction {
    /// For a chunk of a backfill, these are the watermark's LSN, the time when the chunk was read, and no transaction
    /// id.
    pub fn new(commit_lsn: u64, commit_time: i64, xid: Option<u32>) -> Transaction {
        let mut begin = String::from(r#"{"xid":"#);
        match xid {
            Some(xid) => time::push_number(&mut begin, xid.into()),
            None => begin.push_str("null"),
        }
        begin.push_str(r#","index":"#);
        let mut end = String::with_capacity(90);
        end.push_str(r#","commit_lsn":""#);
        time::push_lsn(&mut end, commit_lsn);
        end.push_str(r#"","commit_time":""#);
        time::push_iso_time(&mut end, commit_time);
        end.push('"');
        Transaction { metadata: (begin, end) }
    }
}

#[derive(Debug, Clone, Copy)]
pub enum Change<'a> {
    Insert { new: &'a Tuple<'a> },
    Update { old: Option<&'a Old<'a>>, new: &'a Tuple<'a> },
    Delete { old: &'a Old<'a> },
    Truncate,
}

impl<'a> Change<'a> {
    pub(super) fn action(self) -> &'static str {
        match self {
            Change::Insert { .. } => "insert",
            Change::Update { .. } => "update",
            Change::Delete { .. } => "delete",
            Change::Truncate => "truncate",
        }
    }

    /// The row after the change.
    pub(super) fn new_row(self) -> Option<&'a Tuple<'a>> {
        match self {
            Change::Insert { new } | Change::Update { new, .. } => Some(new),
            Change::Delete { .. } | Change::Truncate => None,
        }
    }

    /// The row before the change, if it is known.
    pub(super) fn old_row(self) -> Option<&'a Old<'a>> {
        match self {
            Change::Update { old, .. } => old,
            Change::Delete { old } => Some(old),
            Change::Insert { .. } | Change::Truncate => None,
        }
    }
}

/// Values that the caller has read from the table, since WAL doesn't have them.
#[derive(Debug, Clone, Copy, Default)]
pub struct Lookup<'a> {
    /// Unchanged values: column, and JSON text.
    pub filled: &'a [(usize, String)],
}

impl<'a> Lookup<'a> {
    pub(super) fn filled(&self, column: usize) -> Option<&'a str> {
        self.filled.iter().find(|filled| filled.0 == column).map(|filled| filled.1.as_str())
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    pub key: String,
    pub data: String,
}

impl Table {
    /// `pk` has the names of the columns that identify a row, in the index's order. If the relation lacks one of them
    /// (the publication leaves it out), the table has no such columns.
    pub fn new(source: &Source, relation: &Relation<'_>, pk: &[&str]) -> Table {
        let columns = relation.columns.iter().map(|column| {
            let mut member = String::new();
            write_string(&mut member, column.name);
            member.push(':');
            Column {
                name: column.name.to_owned(),
                type_oid: column.type_oid,
                is_key: column.is_key,
                member,
            }
        });
        let mut metadata = String::new();
        for (member, value) in [
            (r#","table":"#, relation.name),
            (r#","schema":"#, relation.schema),
            (r#","source":"#, source.name.as_str()),
            (r#","database":"#, source.database.as_str()),
        ] {
            metadata.push_str(member);
            write_string(&mut metadata, value);
        }
        let mut table = Table {
            schema: relation.schema.to_owned(),
            name: relation.name.to_owned(),
            columns: columns.collect(),
            pk: Vec::new(),
            in_order: Vec::new(),
            database: source.database.clone(),
            key_format: source.key_format.clone(),
            key_columns: Vec::new(),
            metadata,
        };
        let key_columns = table.key_format.columns().iter().map(|name| table.position(name));
        table.key_columns = key_columns.collect();
        table.pk = table.positions(pk).unwrap_or_default();
        table.in_order = (0..table.columns.len()).collect();
        table.in_order.sort_by_key(|&n| (table.columns[n].name.len(), &table.columns[n].name));
        table
    }

    /// The columns in the order in which jsonb keeps members, shorter names first: sorting is a tenth of the work of
    /// jsonb's input function, and is cheaper if they are sorted already.
    pub(super) fn in_order(&self) -> impl Iterator<Item = (usize, &Column)> {
        self.in_order.iter().map(|&n| (n, &self.columns[n]))
    }

    fn position(&self, name: &str) -> Option<usize> {
        self.columns.iter().position(|column| column.name == name)
    }

    /// Where columns of these names are, if all are there.
    pub fn positions(&self, names: &[&str]) -> Option<Vec<usize>> {
        names.iter().map(|name| self.position(name)).collect()
    }

    /// The values of the key format's columns in a row: the texts of this table's columns.
    pub fn key_values(&self, row: &[Option<String>]) -> Vec<Option<String>> {
        self.key_columns.iter().map(|column| row.get((*column)?)?.clone()).collect()
    }

    /// The types of its columns: what [`Types`] must know.
    pub fn type_oids(&self) -> impl Iterator<Item = u32> {
        self.columns.iter().map(|column| column.type_oid)
    }

    /// The message of a change, the `index`th of its transaction.
    pub fn message<E>(
        &self,
        types: &Types,
        transaction: &Transaction,
        index: u64,
        change: Change<'_>,
        lookup: &Lookup<'_>,
        cast: &mut Caster<'_, E>,
    ) -> Result<Message, E> {
        let key = self.key_format.key(&ChangeValues { table: self, change, lookup });
        let mut record = Record::new(self, types, self.expected_length(change));
        record.change(change, lookup, cast)?;
        Ok(Message { key, data: record.end(transaction, index) })
    }

    /// The message of a row of a backfill's chunk whose record is JSON already.
    pub fn read(&self, transaction: &Transaction, index: u64, row: &Row) -> Message {
        let key = self.key_format.key(&RowValues { table: self, row });
        let types = Types::default();
        let mut record = Record::new(self, &types, row.record.len());
        record.read(&row.record);
        Message { key, data: record.end(transaction, index) }
    }

    /// The columns whose values neither the new nor the old row has: the caller may look them up.
    pub fn unfilled(&self, change: Change<'_>) -> Vec<usize> {
        // Most rows have none, which one pass over the values shows.
        if !change.new_row().is_some_and(|new| new.values.contains(&Value::Unchanged)) {
            return Vec::new();
        }
        let unfilled = |&column: &usize| self.new_value(change, column) == Value::Unchanged;
        (0..self.columns.len()).filter(unfilled).collect()
    }

    /// The values of some columns in the new row, in their order. `None` if there is no new row, or if one of
    /// them is NULL or not known.
    pub fn new_values<'a>(&self, change: Change<'a>, columns: &[usize]) -> Option<Vec<&'a str>> {
        columns.iter().map(|&column| text(self.new_value(change, column))).collect()
    }

    /// The same in the old row. An update has none if the replica identity's columns stayed as they were.
    pub fn old_values<'a>(&self, change: Change<'a>, columns: &[usize]) -> Option<Vec<&'a str>> {
        columns.iter().map(|&column| text(self.old_value(change, column))).collect()
    }

    /// A value of the new row; `Unchanged` if it isn't known. One that an update left as it was is taken from the
    /// old row.
    pub(super) fn new_value<'a>(&self, change: Change<'a>, column: usize) -> Value<'a> {
        match change.new_row().map(|new| get(new, column)) {
            None => Value::Unchanged,
            Some(Value::Unchanged) => self.old_value(change, column),
            Some(value) => value,
        }
    }

    /// A value of the old row; `Unchanged` if it isn't known.
    pub(super) fn old_value<'a>(&self, change: Change<'a>, column: usize) -> Value<'a> {
        match change.old_row() {
            Some(Old::Full(row)) => get(row, column),
            Some(Old::Key(row)) if self.is_key(column) => get(row, column),
            Some(Old::Key(_)) | None => Value::Unchanged,
        }
    }

    fn is_key(&self, column: usize) -> bool {
        self.columns.get(column).is_some_and(|column| column.is_key)
    }

    /// An estimate, close enough that the text seldom has to be reallocated.
    fn expected_length(&self, change: Change<'_>) -> usize {
        let length = |value: &Value<'_>| match value {
            Value::Text(text) => text.len() + text.len() / 8,
            Value::Null | Value::Unchanged => 0,
        };
        let row = match (change.new_row(), change.old_row()) {
            (Some(row), _) | (None, Some(Old::Full(row) | Old::Key(row))) => row.values.as_slice(),
            (None, None) => &[],
        };
        let values: usize = row.iter().map(length).sum();
        let names: usize = self.columns.iter().map(|column| column.member.len() + 8).sum();
        values + names
    }
}

/// A value of a row. If the row is too short to have it, the value is not known.
pub(super) fn get<'a>(row: &Tuple<'a>, column: usize) -> Value<'a> {
    row.values.get(column).copied().unwrap_or(Value::Unchanged)
}

fn text(value: Value<'_>) -> Option<&str> {
    match value {
        Value::Text(text) => Some(text),
        Value::Null | Value::Unchanged => None,
    }
}

#[cfg(test)]
mod tests;
