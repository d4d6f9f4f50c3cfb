//! The messages of PostgreSQL's output plugin pgoutput: protocol versions 1 to 4, without streaming and two-phase
//! commit.
//!
//! The format is that of "Logical Replication Message Formats" in PostgreSQL's documentation, and of
//! src/backend/replication/logical/proto.c. Parsed messages borrow from the bytes. Allocations are bounded by the
//! number of bytes, whatever lengths these claim.

use thiserror::Error;

/// Bytes that are no message of pgoutput.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("malformed message of pgoutput: {what} at byte {at}")]
pub struct Malformed {
    pub at: usize,
    pub what: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message<'a> {
    Begin {
        commit_lsn: u64,
        commit_time: i64,
        xid: u32,
    },
    Commit {
        commit_lsn: u64,
        end_lsn: u64,
        commit_time: i64,
    },
    Relation(Relation<'a>),
    Insert {
        relation: u32,
        new: Tuple<'a>,
    },
    Update {
        relation: u32,
        old: Option<Old<'a>>,
        new: Tuple<'a>,
    },
    Delete {
        relation: u32,
        old: Old<'a>,
    },
    Truncate {
        relations: Vec<u32>,
    },
    /// Written by pg_logical_emit_message().
    Emitted {
        transactional: bool,
        lsn: u64,
        prefix: &'a str,
        content: &'a [u8],
    },
    /// Type and Origin: nothing that a message needs.
    Other,
}

/// A table as it was when the changes that follow were made. Sent before its first change, and again after the table
/// was altered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Relation<'a> {
    pub oid: u32,
    pub schema: &'a str,
    pub name: &'a str,
    pub identity: Identity,
    pub columns: Vec<RelationColumn<'a>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RelationColumn<'a> {
    pub name: &'a str,
    pub type_oid: u32,
    /// Part of the replica identity: all columns are, if that is FULL.
    pub is_key: bool,
}

/// pg_class.relreplident.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Identity {
    Default,
    Nothing,
    Full,
    Index,
}

/// The values of a row, one for each column of its relation.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Tuple<'a> {
    pub values: Vec<Value<'a>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Value<'a> {
    Null,
    /// A TOASTed value that the update left as it was: WAL doesn't have it.
    Unchanged,
    /// What the type's output function gives.
    Text(&'a str),
}

/// The row before the change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Old<'a> {
    /// Only the columns of the replica identity; the others are NULL here, whatever they were.
    Key(Tuple<'a>),
    Full(Tuple<'a>),
}

/// Reads one message.
pub fn parse(bytes: &[u8]) -> Result<Message<'_>, Malformed> {
    let mut reader = Reader::new(bytes);
    let message = message(&mut reader)?;
    reader.end()?;
    Ok(message)
}

fn message<'a>(reader: &mut Reader<'a>) -> Result<Message<'a>, Malformed> {
    Ok(match reader.u8()? {
        b'B' => Message::Begin {
            commit_lsn: reader.u64()?,
            commit_time: reader.u64()?.cast_signed(),
            xid: reader.u32()?,
        },
        b'C' => {
            reader.u8()?;
            Message::Commit {
                commit_lsn: reader.u64()?,
                end_lsn: reader.u64()?,
                commit_time: reader.u64()?.cast_signed(),
            }
        }
        b'R' => Message::Relation(relation(reader)?),
        b'I' => {
            let relation = reader.u32()?;
            reader.expect(b'N')?;
            Message::Insert { relation, new: tuple(reader)? }
        }
        b'U' => {
            let relation = reader.u32()?;
            let old = match reader.peek() {
                Some(b'N') => None,
                _ => Some(old(reader)?),
            };
            reader.expect(b'N')?;
            Message::Update { relation, old, new: tuple(reader)? }
        }
        b'D' => Message::Delete { relation: reader.u32()?, old: old(reader)? },
        b'T' => {
            let count = reader.u32()? as usize;
            reader.u8()?;
            let mut relations = Vec::with_capacity(count.min(reader.left() / size_of::<u32>()));
            for _ in 0..count {
                relations.push(reader.u32()?);
            }
            Message::Truncate { relations }
        }
        b'M' => {
            let transactional = reader.u8()? & 1 != 0;
            let lsn = reader.u64()?;
            let prefix = reader.string()?;
            let length = reader.u32()? as usize;
            Message::Emitted { transactional, lsn, prefix, content: reader.take(length)? }
        }
        b'O' => {
            reader.u64()?;
            reader.string()?;
            Message::Other
        }
        b'Y' => {
            reader.u32()?;
            reader.string()?;
            reader.string()?;
            Message::Other
        }
        _ => return Err(reader.malformed("unknown kind of message before")),
    })
}

fn relation<'a>(reader: &mut Reader<'a>) -> Result<Relation<'a>, Malformed> {
    let oid = reader.u32()?;
    // "Namespace (empty string for pg_catalog)".
    let schema = match reader.string()? {
        "" => "pg_catalog",
        schema => schema,
    };
    let name = reader.string()?;
    let identity = match reader.u8()? {
        b'd' => Identity::Default,
        b'n' => Identity::Nothing,
        b'f' => Identity::Full,
        b'i' => Identity::Index,
        _ => return Err(reader.malformed("unknown replica identity before")),
    };
    let count = usize::from(reader.u16()?);
    let mut columns = Vec::with_capacity(count.min(reader.left()));
    for _ in 0..count {
        let is_key = reader.u8()? & 1 != 0;
        let name = reader.string()?;
        let type_oid = reader.u32()?;
        reader.u32()?; // typmod
        columns.push(RelationColumn { name, type_oid, is_key });
    }
    Ok(Relation { oid, schema, name, identity, columns })
}

fn old<'a>(reader: &mut Reader<'a>) -> Result<Old<'a>, Malformed> {
    match reader.u8()? {
        b'K' => tuple(reader).map(Old::Key),
        b'O' => tuple(reader).map(Old::Full),
        _ => Err(reader.malformed("unknown kind of row before")),
    }
}

pub(super) fn tuple<'a>(reader: &mut Reader<'a>) -> Result<Tuple<'a>, Malformed> {
    let count = usize::from(reader.u16()?);
    let mut values = Vec::with_capacity(count.min(reader.left()));
    for _ in 0..count {
        values.push(match reader.u8()? {
            b'n' => Value::Null,
            b'u' => Value::Unchanged,
            b't' => {
                let length = reader.u32()? as usize;
                let at = reader.at;
                let text = std::str::from_utf8(reader.take(length)?);
                Value::Text(text.map_err(|_| Malformed { at, what: "text that is not UTF-8" })?)
            }
            _ => return Err(reader.malformed("unknown kind of value before")),
        });
    }
    Ok(Tuple { values })
}

pub(super) struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    pub fn new(bytes: &'a [u8]) -> Reader<'a> {
        Reader { bytes, at: 0 }
    }

    /// What has not been read.
    pub fn rest(&self) -> &'a [u8] {
        &self.bytes[self.at..]
    }

    /// Returns an error if there are bytes left.
    pub fn end(&self) -> Result<(), Malformed> {
        if self.left() == 0 { Ok(()) } else { Err(self.malformed("bytes after the end")) }
    }

    pub fn malformed(&self, what: &'static str) -> Malformed {
        Malformed { at: self.at, what }
    }

    pub fn left(&self) -> usize {
        self.bytes.len() - self.at
    }

    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], Malformed> {
        let end = self.at.checked_add(length).filter(|&end| end <= self.bytes.len());
        let end = end.ok_or_else(|| self.malformed("too few bytes"))?;
        let taken = &self.bytes[self.at..end];
        self.at = end;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N)?);
        Ok(array)
    }

    pub fn u8(&mut self) -> Result<u8, Malformed> {
        self.array().map(u8::from_be_bytes)
    }

    pub fn u16(&mut self) -> Result<u16, Malformed> {
        self.array().map(u16::from_be_bytes)
    }

    pub fn u32(&mut self) -> Result<u32, Malformed> {
        self.array().map(u32::from_be_bytes)
    }

    fn u64(&mut self) -> Result<u64, Malformed> {
        self.array().map(u64::from_be_bytes)
    }

    fn expect(&mut self, byte: u8) -> Result<(), Malformed> {
        if self.u8()? == byte { Ok(()) } else { Err(self.malformed("no new row before")) }
    }

    /// Up to the next zero byte.
    pub fn string(&mut self) -> Result<&'a str, Malformed> {
        let at = self.at;
        let length = self.bytes[at..].iter().position(|&byte| byte == 0);
        let length = length.ok_or_else(|| self.malformed("a string without end"))?;
        let text = std::str::from_utf8(self.take(length)?);
        self.take(1)?;
        text.map_err(|_| Malformed { at, what: "text that is not UTF-8" })
    }
}

#[cfg(test)]
mod tests;
