//! A change as a message: its key, and its data as JSON text.
//!
//! Data has `action`, `record` (the row after an insert or update, before a delete), `changes` (an update's old
//! values, as far as they are known) and `metadata`. A TOASTed value that an update left as it was isn't in WAL:
//! it is taken from the old row or looked up by the caller, or else it isn't in `record` and its name is in
//! `metadata.unchanged`.

use super::json::{Caster, write, write_string};
use super::key_format::{KeyFormat, Pk, Values};
use super::pgoutput::{Old, Relation, Tuple, Value};
use super::types::Types;
use super::window::Row;
use super::{json_text, time};
use std::borrow::Cow;

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
    /// The primary key's columns, by their place in `columns`; empty if there is none.
    pub pk: Vec<usize>,
    database: String,
    key_format: KeyFormat,
    /// The key format's columns, by their place in `columns`.
    key_columns: Vec<Option<usize>>,
    /// The members of `metadata` that are the same for all of its messages.
    metadata: String,
}

#[derive(Debug)]
pub struct Column {
    pub name: String,
    pub type_oid: u32,
    /// Part of the replica identity.
    pub is_key: bool,
    /// `"name":`
    member: String,
}

/// The transaction that made changes.
#[derive(Debug)]
pub struct Transaction {
    /// The members of `metadata` that are the same for all of its messages.
    metadata: String,
}

impl Transaction {
    /// Of a chunk of a backfill: the watermark's LSN, when the chunk was read, and no transaction id.
    pub fn new(commit_lsn: u64, commit_time: i64, xid: Option<u32>) -> Transaction {
        let lsn = time::lsn(commit_lsn);
        let time = time::iso_time(commit_time);
        let xid = xid.map_or("null".to_owned(), |xid| xid.to_string());
        let metadata =
            format!(r#","commit_lsn":"{lsn}","commit_time":"{time}","xid":{xid},"index":"#);
        Transaction { metadata }
    }
}

#[derive(Debug, Clone, Copy)]
pub enum Change<'a> {
    Insert { new: &'a Tuple<'a> },
    Update { old: Option<&'a Old<'a>>, new: &'a Tuple<'a> },
    Delete { old: &'a Old<'a> },
    Truncate,
}

impl Change<'_> {
    fn action(self) -> &'static str {
        match self {
            Change::Insert { .. } => "insert",
            Change::Update { .. } => "update",
            Change::Delete { .. } => "delete",
            Change::Truncate => "truncate",
        }
    }
}

/// What the caller has read from the table, since WAL doesn't have it.
#[derive(Debug, Clone, Copy, Default)]
pub struct Lookup<'a> {
    /// Unchanged values: column, and JSON text.
    pub filled: &'a [(usize, String)],
    /// More members of `record`: name, and JSON text.
    pub generated: &'a [(String, String)],
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    pub key: String,
    pub data: String,
}

impl Table {
    /// The names of the primary key's columns are in the index's order. One that the relation doesn't have (the
    /// publication leaves it out) makes the primary key unknown.
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
            (r#"{"source":"#, source.name.as_str()),
            (r#","database":"#, &source.database),
            (r#","schema":"#, relation.schema),
            (r#","table":"#, relation.name),
        ] {
            metadata.push_str(member);
            write_string(&mut metadata, value);
        }
        let mut table = Table {
            schema: relation.schema.to_owned(),
            name: relation.name.to_owned(),
            columns: columns.collect(),
            pk: Vec::new(),
            database: source.database.clone(),
            key_format: source.key_format.clone(),
            key_columns: Vec::new(),
            metadata,
        };
        let key_columns = table.key_format.columns().iter().map(|name| table.position(name));
        table.key_columns = key_columns.collect();
        table.pk = table.positions(pk).unwrap_or_default();
        table
    }

    fn position(&self, name: &str) -> Option<usize> {
        self.columns.iter().position(|column| column.name == name)
    }

    /// Where columns of these names are, if all are there.
    pub fn positions(&self, names: &[&str]) -> Option<Vec<usize>> {
        names.iter().map(|name| self.position(name)).collect()
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
        let mut data = String::with_capacity(self.expected_length(change));
        let mut record = Record { table: self, types, out: &mut data, unchanged: Vec::new() };
        record.begin(change.action());
        match change {
            Change::Insert { new } | Change::Update { new, .. } => {
                record.new_row(change, new, lookup, cast)?;
            }
            Change::Delete { old } => record.old_row(old, cast)?,
            Change::Truncate => record.out.push_str("null"),
        }
        record.out.push_str(r#","changes":"#);
        record.changes(change, cast)?;
        record.end(transaction, index);
        Ok(Message { key, data })
    }

    /// The message of a row of a backfill's chunk.
    pub fn read(&self, transaction: &Transaction, index: u64, row: &Row) -> Message {
        let key = self.key_format.key(&RowValues { table: self, row });
        let mut data = String::with_capacity(row.record.len() + self.metadata.len() + 200);
        let types = &Types::default();
        let mut record = Record { table: self, types, out: &mut data, unchanged: Vec::new() };
        record.begin("read");
        record.out.push_str(&row.record);
        record.out.push_str(r#","changes":null"#);
        record.end(transaction, index);
        Message { key, data }
    }

    /// The columns whose values the change doesn't have, nor its old row: the caller may look them up.
    pub fn unfilled(&self, change: Change<'_>) -> Vec<usize> {
        let (Change::Insert { new } | Change::Update { new, .. }) = change else {
            return Vec::new();
        };
        if !new.values.contains(&Value::Unchanged) {
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

    /// A value of the new row. One that the update left as it was is taken from the old row.
    fn new_value<'a>(&self, change: Change<'a>, column: usize) -> Value<'a> {
        match change {
            Change::Insert { new } | Change::Update { new, .. } => match get(new, column) {
                Value::Unchanged => self.old_value(change, column),
                value => value,
            },
            Change::Delete { .. } | Change::Truncate => Value::Unchanged,
        }
    }

    /// A value of the old row; `Unchanged` if it isn't known.
    fn old_value<'a>(&self, change: Change<'a>, column: usize) -> Value<'a> {
        match change {
            Change::Update { old: Some(old), .. } | Change::Delete { old } => match old {
                Old::Full(row) => get(row, column),
                Old::Key(row) if self.is_key(column) => get(row, column),
                Old::Key(_) => Value::Unchanged,
            },
            Change::Update { old: None, .. } | Change::Insert { .. } | Change::Truncate => {
                Value::Unchanged
            }
        }
    }

    fn is_key(&self, column: usize) -> bool {
        self.columns.get(column).is_some_and(|column| column.is_key)
    }

    /// Close enough that the text seldom needs to be moved.
    fn expected_length(&self, change: Change<'_>) -> usize {
        let row = |row: &Tuple<'_>| -> usize {
            let length = |value: &Value<'_>| match value {
                Value::Text(text) => text.len() + text.len() / 8,
                _ => 0,
            };
            row.values.iter().map(length).sum()
        };
        let values = match change {
            Change::Insert { new } | Change::Update { new, .. } => row(new),
            Change::Delete { old: Old::Full(old) | Old::Key(old) } => row(old),
            Change::Truncate => 0,
        };
        let names: usize = self.columns.iter().map(|column| column.member.len() + 8).sum();
        values + names + self.metadata.len() + 200
    }
}

/// A value; what a row of the wrong length doesn't have is not known.
fn get<'a>(row: &Tuple<'a>, column: usize) -> Value<'a> {
    row.values.get(column).copied().unwrap_or(Value::Unchanged)
}

fn text(value: Value<'_>) -> Option<&str> {
    match value {
        Value::Text(text) => Some(text),
        Value::Null | Value::Unchanged => None,
    }
}

/// The data of a message while it is written.
struct Record<'a> {
    table: &'a Table,
    types: &'a Types,
    out: &'a mut String,
    /// The columns whose values are not known.
    unchanged: Vec<usize>,
}

impl Record<'_> {
    fn begin(&mut self, action: &str) {
        self.out.push_str(r#"{"action":""#);
        self.out.push_str(action);
        self.out.push_str(r#"","record":"#);
    }

    fn new_row<E>(
        &mut self,
        change: Change<'_>,
        new: &Tuple<'_>,
        lookup: &Lookup<'_>,
        cast: &mut Caster<'_, E>,
    ) -> Result<(), E> {
        let mut members = Members(0);
        for (n, column) in self.table.columns.iter().enumerate() {
            let value = match get(new, n) {
                Value::Unchanged => self.table.new_value(change, n),
                value => value,
            };
            let filled = lookup.filled.iter().find(|(column, _)| *column == n);
            match (value, filled) {
                (Value::Unchanged, Some((_, json))) => {
                    members.next(self.out, &column.member);
                    self.out.push_str(json);
                }
                (Value::Unchanged, None) => self.unchanged.push(n),
                (value, _) => {
                    members.next(self.out, &column.member);
                    self.value(column.type_oid, value, cast)?;
                }
            }
        }
        for (name, json) in lookup.generated {
            members.next(self.out, "");
            write_string(self.out, name);
            self.out.push(':');
            self.out.push_str(json);
        }
        members.end(self.out);
        Ok(())
    }

    fn old_row<E>(&mut self, old: &Old<'_>, cast: &mut Caster<'_, E>) -> Result<(), E> {
        let (row, all) = match old {
            Old::Full(row) => (row, true),
            Old::Key(row) => (row, false),
        };
        let mut members = Members(0);
        for (n, column) in self.table.columns.iter().enumerate().filter(|(_, c)| all || c.is_key) {
            match get(row, n) {
                Value::Unchanged => self.unchanged.push(n),
                value => {
                    members.next(self.out, &column.member);
                    self.value(column.type_oid, value, cast)?;
                }
            }
        }
        members.end(self.out);
        Ok(())
    }

    /// The old values of what an update changed: null where the old row isn't known. A full one is known also
    /// where nothing changed; of a key that did not change, nothing else is known either.
    fn changes<E>(&mut self, change: Change<'_>, cast: &mut Caster<'_, E>) -> Result<(), E> {
        let mut members = Members(0);
        if let Change::Update { old: Some(old), new } = change {
            for (n, column) in self.table.columns.iter().enumerate() {
                let value = self.table.old_value(change, n);
                let new = get(new, n);
                if value != Value::Unchanged && new != Value::Unchanged && value != new {
                    members.next(self.out, &column.member);
                    self.value(column.type_oid, value, cast)?;
                }
            }
            if members.0 > 0 || matches!(old, Old::Full(_)) {
                members.end(self.out);
                return Ok(());
            }
        }
        self.out.push_str("null");
        Ok(())
    }

    fn value<E>(
        &mut self,
        type_oid: u32,
        value: Value<'_>,
        cast: &mut Caster<'_, E>,
    ) -> Result<(), E> {
        match value {
            Value::Text(text) => write(self.out, self.types, type_oid, text, cast),
            Value::Null | Value::Unchanged => {
                self.out.push_str("null");
                Ok(())
            }
        }
    }

    fn end(&mut self, transaction: &Transaction, index: u64) {
        self.out.push_str(r#","metadata":"#);
        self.out.push_str(&self.table.metadata);
        self.out.push_str(&transaction.metadata);
        self.out.push_str(&index.to_string());
        if !self.unchanged.is_empty() {
            self.out.push_str(r#","unchanged":["#);
            for (n, &column) in self.unchanged.iter().enumerate() {
                if n > 0 {
                    self.out.push(',');
                }
                write_string(self.out, &self.table.columns[column].name);
            }
            self.out.push(']');
        }
        self.out.push_str("}}");
    }
}

/// How many members an object has so far.
struct Members(usize);

impl Members {
    fn next(&mut self, out: &mut String, member: &str) {
        out.push(if self.0 == 0 { '{' } else { ',' });
        out.push_str(member);
        self.0 += 1;
    }

    fn end(self, out: &mut String) {
        out.push_str(if self.0 == 0 { "{}" } else { "}" });
    }
}

/// What the key of a change is made of: of the new row, or of the old one if there is no other.
struct ChangeValues<'a, 'l> {
    table: &'a Table,
    change: Change<'a>,
    lookup: &'l Lookup<'l>,
}

impl<'l> ChangeValues<'_, 'l> {
    fn value(&self, column: usize) -> Option<Cow<'l, str>>
    where
        Self: 'l,
    {
        let value = match self.change {
            Change::Delete { .. } => self.table.old_value(self.change, column),
            _ => self.table.new_value(self.change, column),
        };
        match value {
            Value::Text(text) => Some(Cow::Borrowed(text)),
            Value::Null => None,
            Value::Unchanged => {
                let filled = self.lookup.filled.iter().find(|(filled, _)| *filled == column);
                filled.and_then(|(_, json)| text_of(json))
            }
        }
    }
}

fn text_of(json: &str) -> Option<Cow<'_, str>> {
    (json != "null").then(|| json_text::text_of(json))
}

impl<'l> Values<'l> for ChangeValues<'l, 'l> {
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
    fn pk(&self, pk: &mut Pk) {
        let values = self.table.pk.iter().map(|&column| self.value(column));
        // Of a key of which a part is unknown, no part is used: half a key would be another row's.
        if values.clone().all(|value| value.is_some()) {
            values.flatten().enumerate().for_each(|(n, value)| pk.push(&value, n == 0));
        }
    }
    fn column(&self, n: usize) -> Option<Cow<'l, str>> {
        match self.table.key_columns.get(n)? {
            Some(column) => self.value(*column),
            None => {
                let name = self.table.key_format.columns().get(n)?;
                let mut generated = self.lookup.generated.iter();
                generated.find(|(known, _)| known == name).and_then(|(_, json)| text_of(json))
            }
        }
    }
}

/// What the key of a row of a chunk is made of.
struct RowValues<'a> {
    table: &'a Table,
    row: &'a Row,
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
    fn pk(&self, pk: &mut Pk) {
        let values = self.row.pk.iter().flatten().enumerate();
        values.for_each(|(n, value)| pk.push(value, n == 0));
    }
    fn column(&self, n: usize) -> Option<Cow<'a, str>> {
        self.row.columns.get(n)?.as_deref().map(Cow::Borrowed)
    }
}

#[cfg(test)]
mod tests;
