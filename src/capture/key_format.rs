//! Key formats: how the key of a change's message is made, as in `{schema}.{table}.{pk}`.
//!
//! Tokens joined by `.`, with fields anywhere in them: `{database}`, `{schema}`, `{table}`, `{action}`, `{pk}`,
//! `{column:NAME}`. Other text stands for itself. Values are percent-encoded where a key can't have their
//! characters, so that each value is within one token, and every key made satisfies the rule of keys.

use crate::engine::key::{MAX_KEY_BYTES, MAX_KEY_TOKENS};
use std::borrow::Cow;
use std::ops::Range;
use thiserror::Error;

/// What a value is shortened to at least: `~` and a hash. Only a longer value is ever shortened.
const HASH_BYTES: usize = 17;

/// Stands for NULL, what isn't known, and the primary key of what has none.
const NULL: &str = "%null";

/// Stands for an empty string: a token can't be empty.
const EMPTY: &str = "%empty";

/// Why a text is not a key format. Tokens are counted from 1.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum FormatError {
    #[error("key format is empty")]
    Empty,
    #[error("key format has {0} tokens, more than {MAX_KEY_TOKENS}")]
    TooManyTokens(usize),
    #[error("token {0} of the key format is empty")]
    EmptyToken(usize),
    #[error("token {token} of the key format contains \"{character}\"")]
    Character { token: usize, character: char },
    #[error("token {0} of the key format contains white space")]
    WhiteSpace(usize),
    #[error("token {0} of the key format contains a control character")]
    Control(usize),
    #[error("key format has no field \"{{{0}}}\"")]
    UnknownField(String),
    #[error("a field of the key format has no \"}}\"")]
    UnclosedField,
    #[error("key format makes keys of {0} bytes, more than {MAX_KEY_BYTES}")]
    TooLong(usize),
}

impl FormatError {
    /// What to do about it: the HINT of the error.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Empty => "Use a format such as \"{schema}.{table}.{pk}\".",
            Self::TooManyTokens(_) => "Join some of the tokens by another character than \".\".",
            Self::EmptyToken(_) => {
                "Put text or a field before, between and after the dots, as in \"{table}.{pk}\"."
            }
            Self::Character { character: '}', .. } => {
                "Put \"{\" before the name of a field, as in \"{table}\"."
            }
            Self::Character { .. } => "Only filters may contain \"*\" and \">\".",
            Self::WhiteSpace(_) | Self::Control(_) => {
                "Replace it by another character, for example \"_\" or \"-\"."
            }
            Self::UnknownField(_) | Self::UnclosedField => {
                "Fields are {database}, {schema}, {table}, {action}, {pk}, and {column:NAME} with the name of a column."
            }
            Self::TooLong(_) => "Leave out some of the text, or some of the fields.",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Literal(String),
    Database,
    Schema,
    Table,
    Action,
    Pk,
    /// By its place in [`KeyFormat::columns`].
    Column(usize),
}

/// A key format whose syntax is right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyFormat {
    parts: Vec<Part>,
    columns: Vec<String>,
}

impl KeyFormat {
    /// Reads a format.
    pub fn parse(text: &str) -> Result<KeyFormat, FormatError> {
        if text.is_empty() {
            return Err(FormatError::Empty);
        }
        let mut format = KeyFormat { parts: Vec::new(), columns: Vec::new() };
        let mut literal = String::new();
        let (mut token, mut token_is_empty) = (1, true);
        let mut rest = text;
        while let Some(character) = rest.chars().next() {
            rest = &rest[character.len_utf8()..];
            match character {
                '.' if token_is_empty => return Err(FormatError::EmptyToken(token)),
                '.' => {
                    token += 1;
                    token_is_empty = true;
                    literal.push('.');
                    continue;
                }
                '{' => {
                    let (name, after) = rest.split_once('}').ok_or(FormatError::UnclosedField)?;
                    if !literal.is_empty() {
                        format.parts.push(Part::Literal(std::mem::take(&mut literal)));
                    }
                    let field = format.field(name)?;
                    format.parts.push(field);
                    rest = after;
                }
                '*' | '>' | '}' => return Err(FormatError::Character { token, character }),
                _ if character.is_whitespace() => return Err(FormatError::WhiteSpace(token)),
                _ if character.is_control() => return Err(FormatError::Control(token)),
                _ => literal.push(character),
            }
            token_is_empty = false;
        }
        if !literal.is_empty() {
            format.parts.push(Part::Literal(literal));
        }
        if token_is_empty {
            return Err(FormatError::EmptyToken(token));
        }
        if token > MAX_KEY_TOKENS {
            return Err(FormatError::TooManyTokens(token));
        }
        match format.shortest_when_shortened() {
            bytes if bytes > MAX_KEY_BYTES => Err(FormatError::TooLong(bytes)),
            _ => Ok(format),
        }
    }

    fn field(&mut self, name: &str) -> Result<Part, FormatError> {
        Ok(match name {
            "database" => Part::Database,
            "schema" => Part::Schema,
            "table" => Part::Table,
            "action" => Part::Action,
            "pk" => Part::Pk,
            _ => match name.strip_prefix("column:") {
                Some(column) if !column.is_empty() => {
                    let known = self.columns.iter().position(|known| known == column);
                    Part::Column(known.unwrap_or_else(|| {
                        self.columns.push(column.to_owned());
                        self.columns.len() - 1
                    }))
                }
                _ => return Err(FormatError::UnknownField(name.to_owned())),
            },
        })
    }

    /// The length of a key all of whose values are long: it must be one that keys may have.
    fn shortest_when_shortened(&self) -> usize {
        let bytes = |part: &Part| match part {
            Part::Literal(text) => text.len(),
            _ => HASH_BYTES,
        };
        self.parts.iter().map(bytes).sum()
    }

    /// The columns of its fields `{column:NAME}`, each once.
    pub fn columns(&self) -> &[String] {
        &self.columns
    }

    /// Makes the key of a change.
    pub fn key<'a>(&self, change: &impl Values<'a>) -> String {
        let mut key = String::with_capacity(MAX_KEY_BYTES);
        // Where the values are in the key. The bound on the length makes more than 15 fields impossible.
        let mut values: [Range<usize>; MAX_KEY_BYTES / HASH_BYTES] = Default::default();
        let mut count = 0;
        for part in &self.parts {
            let start = key.len();
            match part {
                Part::Literal(text) => {
                    key.push_str(text);
                    continue;
                }
                Part::Database => encode(&mut key, change.database()),
                Part::Schema => encode(&mut key, change.schema()),
                Part::Table => encode(&mut key, change.table()),
                Part::Action => encode(&mut key, change.action()),
                Part::Pk => change.pk(&mut Pk(&mut key)),
                Part::Column(n) => match change.column(*n) {
                    Some(value) => encode(&mut key, &value),
                    None => key.push_str(NULL),
                },
            }
            if key.len() == start {
                key.push_str(NULL); // a primary key without columns
            }
            if let Some(value) = values.get_mut(count) {
                *value = start..key.len();
                count += 1;
            }
        }
        if key.len() > MAX_KEY_BYTES { shorten(&key, &values[..count]) } else { key }
    }
}

/// What a key is made of.
pub trait Values<'a> {
    fn database(&self) -> &str;
    fn schema(&self) -> &str;
    fn table(&self) -> &str;
    fn action(&self) -> &str;
    /// Pushes the values of the primary key, or nothing where it isn't known.
    fn pk(&self, pk: &mut Pk);
    /// The value of a column of [`KeyFormat::columns`]; `None` is NULL, or not known.
    fn column(&self, n: usize) -> Option<Cow<'a, str>>;
}

/// Takes the values of a primary key, in order.
pub struct Pk<'a>(&'a mut String);

impl Pk<'_> {
    /// The key's first value is pushed by `first`.
    pub fn push(&mut self, value: &str, first: bool) {
        if !first {
            self.0.push(',');
        }
        encode(self.0, value);
    }
}

/// Appends a value such that it is a part of one token.
fn encode(key: &mut String, value: &str) {
    if value.is_empty() {
        key.push_str(EMPTY);
    }
    let mut plain = 0;
    for (at, c) in value.char_indices() {
        let encoded = match c {
            '.' | '*' | '>' | '%' | ',' | '\0'..=' ' | '\x7f' => true,
            '!'..='~' => false,
            _ => c.is_whitespace() || c.is_control(),
        };
        if encoded {
            key.push_str(&value[plain..at]);
            plain = at + c.len_utf8();
            for byte in value[at..plain].bytes() {
                const HEX: &[u8; 16] = b"0123456789ABCDEF";
                key.push('%');
                key.push(char::from(HEX[usize::from(byte >> 4)]));
                key.push(char::from(HEX[usize::from(byte & 15)]));
            }
        }
    }
    key.push_str(&value[plain..]);
}

/// The key with values cut such that it is as long as keys may be: the longest first, and each as little as will
/// do. A cut value ends with a hash of all of it, so that different values have different keys.
fn shorten(key: &str, values: &[Range<usize>]) -> String {
    let mut kept: Vec<usize> = values.iter().map(|value| value.len()).collect();
    let mut excess = key.len().saturating_sub(MAX_KEY_BYTES);
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by_key(|&n| std::cmp::Reverse(kept[n]));
    for n in order {
        if excess == 0 || kept[n] <= HASH_BYTES {
            break;
        }
        let value = &key[values[n].clone()];
        let prefix = boundary(value, kept[n].saturating_sub(excess + HASH_BYTES));
        excess = excess.saturating_sub(kept[n] - prefix - HASH_BYTES);
        kept[n] = prefix;
    }
    let mut short = String::with_capacity(MAX_KEY_BYTES);
    let mut end = 0;
    for (value, &prefix) in values.iter().zip(&kept) {
        short.push_str(&key[end..value.start + prefix]);
        if prefix < value.len() {
            short.push_str(&format!("~{:016x}", fnv1a(&key[value.clone()])));
        }
        end = value.end;
    }
    short.push_str(&key[end..]);
    short
}

/// The last place up to `most` at which an encoded value can be cut: between characters, and not inside `%XX`.
/// The words for NULL and the empty string are never cut: they are shorter than a hash.
fn boundary(value: &str, most: usize) -> usize {
    let most = value.floor_char_boundary(most);
    match value[..most].rfind('%') {
        Some(at) if at + "%XX".len() > most => at,
        _ => most,
    }
}

/// FNV-1a, 64 bits. It is part of keys, so it must give the same number in every release.
fn fnv1a(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests;
