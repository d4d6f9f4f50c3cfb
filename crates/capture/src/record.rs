//! The data of a message, as JSON text.

use super::json::{Caster, write, write_string};
use super::message::{Change, Lookup, Table, Transaction, get};
use super::pgoutput::{Old, Value};
use super::time;
use super::types::Types;

/// The data of a message while it is written.
pub(super) struct Record<'a> {
    table: &'a Table,
    types: &'a Types,
    out: String,
    /// The columns whose values are not known.
    unchanged: Vec<usize>,
}

/// Bytes of a message's data besides the record and the table's part of `metadata`.
const FRAME_BYTES: usize = 200;

impl<'a> Record<'a> {
    /// `length` is about that of the row in JSON. If the text gets longer, it is reallocated.
    pub fn new(table: &'a Table, types: &'a Types, length: usize) -> Record<'a> {
        let out = String::with_capacity(length + table.metadata.len() + FRAME_BYTES);
        Record { table, types, out, unchanged: Vec::new() }
    }

    /// Appends all of a change but `metadata`.
    pub fn change<E>(
        &mut self,
        change: Change<'_>,
        lookup: &Lookup<'_>,
        cast: &mut Caster<'_, E>,
    ) -> Result<(), E> {
        self.action(change.action());
        match (change.new_row(), change.old_row()) {
            (Some(_), _) => self.new_row(change, lookup, cast)?,
            (None, Some(old)) => self.old_row(old, cast)?,
            (None, None) => self.out.push_str("null"),
        }
        self.changes(change, cast)
    }

    /// Appends all but `metadata` of the message of a row that is JSON already.
    pub fn read(&mut self, row: &str) {
        self.action("read");
        self.out.push_str(row);
        self.out.push_str(r#","changes":null"#);
    }

    fn action(&mut self, action: &str) {
        self.out.push_str(r#"{"action":""#);
        self.out.push_str(action);
        self.out.push_str(r#"","record":"#);
    }

    fn new_row<E>(
        &mut self,
        change: Change<'_>,
        lookup: &Lookup<'_>,
        cast: &mut Caster<'_, E>,
    ) -> Result<(), E> {
        let mut members = Members(0);
        for (n, column) in self.table.in_order() {
            match self.table.new_value(change, n) {
                Value::Unchanged => match lookup.filled(n) {
                    Some(json) => {
                        members.next(&mut self.out, &column.member);
                        self.out.push_str(json);
                    }
                    None => self.unchanged.push(n),
                },
                value => {
                    members.next(&mut self.out, &column.member);
                    self.value(column.type_oid, value, cast)?;
                }
            }
        }
        members.end(&mut self.out);
        Ok(())
    }

    fn old_row<E>(&mut self, old: &Old<'_>, cast: &mut Caster<'_, E>) -> Result<(), E> {
        let (row, all) = match old {
            Old::Full(row) => (row, true),
            Old::Key(row) => (row, false),
        };
        let mut members = Members(0);
        for (n, column) in self.table.in_order().filter(|(_, c)| all || c.is_key) {
            match get(row, n) {
                Value::Unchanged => self.unchanged.push(n),
                value => {
                    members.next(&mut self.out, &column.member);
                    self.value(column.type_oid, value, cast)?;
                }
            }
        }
        members.end(&mut self.out);
        Ok(())
    }

    /// Appends the old values of the columns that an update changed; null if the old row isn't known. With a full old
    /// row this may be empty. With the key only, it is null unless the key changed, since nothing else is known.
    fn changes<E>(&mut self, change: Change<'_>, cast: &mut Caster<'_, E>) -> Result<(), E> {
        self.out.push_str(r#","changes":"#);
        let mut members = Members(0);
        if let Change::Update { old: Some(old), new } = change {
            for (n, column) in self.table.in_order() {
                let value = self.table.old_value(change, n);
                let new = get(new, n);
                if value != Value::Unchanged && new != Value::Unchanged && value != new {
                    members.next(&mut self.out, &column.member);
                    self.value(column.type_oid, value, cast)?;
                }
            }
            if members.0 > 0 || matches!(old, Old::Full(_)) {
                members.end(&mut self.out);
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
            Value::Text(text) => write(&mut self.out, self.types, type_oid, text, cast),
            Value::Null | Value::Unchanged => {
                self.out.push_str("null");
                Ok(())
            }
        }
    }

    /// Appends `metadata`.
    pub fn end(mut self, transaction: &Transaction, index: u64) -> String {
        self.out.push_str(r#","metadata":"#);
        let (begin, end) = &transaction.metadata;
        self.out.push_str(begin);
        time::push_number(&mut self.out, index);
        self.out.push_str(&self.table.metadata);
        self.out.push_str(end);
        self.unchanged.sort_unstable();
        if !self.unchanged.is_empty() {
            self.out.push_str(r#","unchanged":["#);
            for (n, &column) in self.unchanged.iter().enumerate() {
                if n > 0 {
                    self.out.push(',');
                }
                write_string(&mut self.out, &self.table.columns[column].name);
            }
            self.out.push(']');
        }
        self.out.push_str("}}");
        self.out
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
