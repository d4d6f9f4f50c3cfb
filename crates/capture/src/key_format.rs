//! Key formats: how the key of a change's message is made, as in `{schema}.{table}.{pk}`.
//!
//! Tokens joined by `.`, with fields anywhere in them: `{database}`, `{schema}`, `{table}`, `{action}`, `{pk}`,
//! `{column:NAME}`. Other text stands for itself. Values are percent-encoded where a key can't have their
//! characters, so that each value is within one token, and every key made satisfies the rule of keys.

use super::key::{Key, SHORTENED_BYTES, Values};
use sequin_engine::key::{MAX_KEY_BYTES, MAX_KEY_TOKENS};
use thiserror::Error;

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

    /// The length of a key if all its values are shortened: no longer than keys may be, or the format is refused.
    fn shortest_when_shortened(&self) -> usize {
        let bytes = |part: &Part| match part {
            Part::Literal(text) => text.len(),
            _ => SHORTENED_BYTES,
        };
        self.parts.iter().map(bytes).sum()
    }

    /// The columns of its fields `{column:NAME}`, each once.
    pub fn columns(&self) -> &[String] {
        &self.columns
    }

    /// Makes the key of a change.
    pub fn key<'a>(&self, of: &impl Values<'a>) -> String {
        let mut key = Key::new();
        for part in &self.parts {
            match part {
                Part::Literal(text) => key.literal(text),
                Part::Database => key.value(|value| value.push(of.database())),
                Part::Schema => key.value(|value| value.push(of.schema())),
                Part::Table => key.value(|value| value.push(of.table())),
                Part::Action => key.value(|value| value.push(of.action())),
                Part::Pk => key.value(|value| of.pk(value)),
                Part::Column(n) => key.value(|value| {
                    if let Some(column) = of.column(*n) {
                        value.push(&column);
                    }
                }),
            }
        }
        key.finish()
    }
}

#[cfg(test)]
mod tests;
