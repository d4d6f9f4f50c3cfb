//! What the decoder adds to the messages of pgoutput: descriptions of tables as the catalogs had them at the change,
//! and the generated columns that pgoutput leaves out. They are in pgoutput's format, under letters that it does not
//! use. `src/pg/wal/moment.rs` and `src/pg/wal/generated.rs` write them.

use super::message::Table;
use super::pgoutput::{self, Malformed, Message, Old, Reader, Relation, RelationColumn, Tuple};
use super::types::{Type, Types};
use std::collections::HashMap;

/// A description. It comes before the first change of a table, and again before the next change after the table was
/// altered.
const DESCRIBED: u8 = b'#';
/// Values of generated columns. They come before the change, in one message with it.
const GENERATED: u8 = b'+';

/// The letters for kinds of types.
const ARRAY: u8 = b'a';
const COMPOSITE: u8 = b'c';
const DOMAIN: u8 = b'd';
const OTHER: u8 = b'o';

/// OIDs of types that users have created begin here (FirstNormalObjectId).
const FIRST_MADE: u32 = 16_384;

/// One message of the decoder.
pub enum Decoded<'a> {
    Described(Described<'a>),
    Message(Message<'a>, Option<Generated<'a>>),
}

/// What the catalogs said of a table when its next change was made.
pub struct Described<'a> {
    pub relation: u32,
    pub schema: &'a str,
    /// The columns that identify a row, in their order: those of the replica identity's index, or of the primary key.
    pub key: Vec<&'a str>,
    pub columns: Vec<Column<'a>>,
    types: Vec<(u32, Kind<'a>)>,
}

pub struct Column<'a> {
    pub name: &'a str,
    pub number: i16,
    pub type_oid: u32,
    /// Generated and stored.
    is_generated: bool,
}

enum Kind<'a> {
    Array { element: u32, delimiter: u8 },
    Composite(Vec<(&'a str, u32)>),
    Domain(u32),
    Other,
}

/// The values of generated columns, in the new row and in the old one.
pub struct Generated<'a> {
    names: Vec<&'a str>,
    new: Tuple<'a>,
    old: Tuple<'a>,
}

/// Reads one message.
pub fn parse(bytes: &[u8]) -> Result<Decoded<'_>, Malformed> {
    match bytes.first() {
        Some(&DESCRIBED) => {
            let mut reader = Reader::new(&bytes[1..]);
            let described = described(&mut reader)?;
            reader.end()?;
            Ok(Decoded::Described(described))
        }
        Some(&GENERATED) => {
            let mut reader = Reader::new(&bytes[1..]);
            let generated = generated(&mut reader)?;
            Ok(Decoded::Message(pgoutput::parse(reader.rest())?, Some(generated)))
        }
        _ => Ok(Decoded::Message(pgoutput::parse(bytes)?, None)),
    }
}

fn described<'a>(reader: &mut Reader<'a>) -> Result<Described<'a>, Malformed> {
    let relation = reader.u32()?;
    let schema = reader.string()?;
    let key = list(reader, Reader::string)?;
    let columns = list(reader, |reader| {
        Ok(Column {
            name: reader.string()?,
            number: reader.u16()?.cast_signed(),
            type_oid: reader.u32()?,
            is_generated: reader.u8()? != 0,
        })
    })?;
    let types = list(reader, |reader| Ok((reader.u32()?, kind(reader)?)))?;
    Ok(Described { relation, schema, key, columns, types })
}

fn kind<'a>(reader: &mut Reader<'a>) -> Result<Kind<'a>, Malformed> {
    Ok(match reader.u8()? {
        ARRAY => Kind::Array { element: reader.u32()?, delimiter: reader.u8()? },
        COMPOSITE => Kind::Composite(list(reader, |reader| Ok((reader.string()?, reader.u32()?)))?),
        DOMAIN => Kind::Domain(reader.u32()?),
        OTHER => Kind::Other,
        _ => return Err(reader.malformed("unknown kind of type before")),
    })
}

fn generated<'a>(reader: &mut Reader<'a>) -> Result<Generated<'a>, Malformed> {
    Ok(Generated {
        names: list(reader, Reader::string)?,
        new: pgoutput::tuple(reader)?,
        old: pgoutput::tuple(reader)?,
    })
}

fn list<'a, T>(
    reader: &mut Reader<'a>,
    mut item: impl FnMut(&mut Reader<'a>) -> Result<T, Malformed>,
) -> Result<Vec<T>, Malformed> {
    let count = usize::from(reader.u16()?);
    let mut items = Vec::with_capacity(count.min(reader.left()));
    for _ in 0..count {
        items.push(item(reader)?);
    }
    Ok(items)
}

impl<'a> Described<'a> {
    /// Completes pgoutput's relation: sets the schema's name, which pgoutput may have cached from before a rename, and
    /// appends the generated columns. Doesn't append these if the publication has a column list, which can't contain
    /// them.
    pub fn complete<'b>(&'b self, relation: &mut Relation<'b>) {
        relation.schema = self.schema;
        let is_there = |column: &Column, relation: &Relation| {
            relation.columns.iter().any(|known| known.name == column.name)
        };
        if self.columns.iter().any(|column| !column.is_generated && !is_there(column, relation)) {
            return;
        }
        let is_full = relation.identity == pgoutput::Identity::Full;
        for column in self.columns.iter().filter(|column| column.is_generated) {
            if !is_there(column, relation) {
                relation.columns.push(RelationColumn {
                    name: column.name,
                    type_oid: column.type_oid,
                    is_key: is_full || self.key.contains(&column.name),
                });
            }
        }
    }

    /// Adds these types to `types`, as they were. Returns those that may have a cast to json: only today's catalogs
    /// tell that.
    pub fn types(&self, types: &mut Types) -> Vec<u32> {
        let domains: HashMap<u32, u32> = self.types.iter().filter_map(domain).collect();
        let mut casts = Vec::new();
        for (oid, kind) in self.types.iter().filter(|(oid, _)| !Types::default().knows(*oid)) {
            match kind {
                Kind::Array { element, delimiter } => {
                    types.insert(*oid, Type::Array { element: *element, delimiter: *delimiter });
                }
                Kind::Composite(fields) => {
                    let fields = fields.iter().map(|(name, oid)| ((*name).to_owned(), *oid));
                    types.insert(*oid, Type::Composite { fields: fields.collect() });
                }
                Kind::Other if *oid >= FIRST_MADE => casts.push(*oid),
                Kind::Other => types.insert(*oid, Type::Text),
                Kind::Domain(_) => {}
            }
        }
        // Where the base type is among the casts, nothing is known yet: then the domain is, too.
        for (&domain, &base) in &domains {
            match types.knows(base) {
                true => types.insert(domain, types.get(base).clone()),
                false => casts.push(domain),
            }
        }
        casts
    }
}

fn domain(known: &(u32, Kind)) -> Option<(u32, u32)> {
    match known.1 {
        Kind::Domain(base) => Some((known.0, base)),
        _ => None,
    }
}

impl<'a> Generated<'a> {
    /// Appends the values to the rows of a change, in the order of the table's columns.
    pub fn complete(&self, table: &Table, message: &mut Message<'a>) {
        match message {
            Message::Insert { new, .. } => self.append(table, &self.new, new),
            Message::Update { old, new, .. } => {
                self.append(table, &self.new, new);
                old.iter_mut().for_each(|old| self.append_old(table, old));
            }
            Message::Delete { old, .. } => self.append_old(table, old),
            _ => {}
        }
    }

    fn append_old(&self, table: &Table, old: &mut Old<'a>) {
        let (Old::Key(row) | Old::Full(row)) = old;
        self.append(table, &self.old, row);
    }

    /// By name, since a partition may have the columns in another order than the table that it is published as.
    fn append(&self, table: &Table, values: &Tuple<'a>, row: &mut Tuple<'a>) {
        for column in table.columns.iter().skip(row.values.len()) {
            let at = self.names.iter().position(|name| *name == column.name);
            let value = at.and_then(|at| values.values.get(at));
            row.values.push(value.copied().unwrap_or(pgoutput::Value::Unchanged));
        }
    }
}

#[cfg(test)]
mod tests;
