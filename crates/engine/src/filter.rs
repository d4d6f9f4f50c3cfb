//! Filters: a key in which a whole token may be `*` (exactly one token) and the last may be `>`
//! (one or more tokens).
//!
//! So `>` matches every key, `a.b.>` does not match `a.b`, and `a*` is no filter at all. A key is
//! taken to be one that [`check_key`](super::key::check_key) accepts.

use super::key::{Class, MAX_KEY_BYTES, MAX_KEY_TOKENS};
use thiserror::Error;

/// Exactly one token, whatever it is.
pub(super) const ONE: &str = "*";

/// One or more tokens, up to the end of the key.
pub(super) const REST: &str = ">";

/// Why a text is not a filter. Tokens are counted from 1.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum FilterError {
    #[error("filter is empty")]
    Empty,
    #[error("filter is {0} bytes long, more than {MAX_KEY_BYTES}")]
    TooLong(usize),
    #[error("filter has {0} tokens, more than {MAX_KEY_TOKENS}")]
    TooManyTokens(usize),
    #[error("token {0} of the filter is empty")]
    EmptyToken(usize),
    #[error("token {token} of the filter contains \"{wildcard}\" among other characters")]
    PartialWildcard { token: usize, wildcard: char },
    #[error("token {0} of the filter is \">\" but not the last")]
    RestNotLast(usize),
    #[error("token {0} of the filter contains white space")]
    WhiteSpace(usize),
    #[error("token {0} of the filter contains a control character")]
    Control(usize),
}

impl FilterError {
    /// What to do about it: the HINT of the error.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Empty => "Use \">\" to match every key.",
            Self::TooLong(_) => "No key is that long: shorten the filter, or end it with \">\".",
            Self::TooManyTokens(_) => {
                "No key has that many tokens: shorten the filter, or end it with \">\"."
            }
            Self::EmptyToken(_) => {
                "Put one or more characters before, between and after the dots, as in \"a.*.b\"."
            }
            Self::PartialWildcard { .. } => {
                "A wildcard is a token of its own: put dots around it, as in \"a.*.b\" or \"a.>\"."
            }
            Self::RestNotLast(_) => "Use \"*\" for one token before the last.",
            Self::WhiteSpace(_) | Self::Control(_) => {
                "Remove it: no key contains such a character. Give several filters as an array."
            }
        }
    }
}

/// A filter whose syntax is right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filter {
    text: Box<str>,
    shape: Shape,
}

/// What an index on the key (collate "C") can narrow a filter down to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyRange<'a> {
    /// The filter has no wildcard: this key and no other.
    Exact(&'a str),
    /// Every key that matches starts with this: empty, or tokens each with its dot, as in `a.b.`.
    /// Not every key that starts so need match.
    Prefix(&'a str),
}

impl Filter {
    /// Reads a filter.
    pub fn parse(text: &str) -> Result<Self, FilterError> {
        Ok(Self { shape: Shape::of(text)?, text: text.into() })
    }

    /// Whether `key` matches.
    pub fn matches(&self, key: &str) -> bool {
        self.shape.matches(&self.text, key)
    }

    /// The filter as it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// What an index on the key can use.
    pub fn key_range(&self) -> KeyRange<'_> {
        let literal = &self.text[..self.shape.literal];
        match self.shape.wildcards {
            Wildcards::None => KeyRange::Exact(literal),
            Wildcards::OnlyRest | Wildcards::Some => KeyRange::Prefix(literal),
        }
    }
}

impl KeyRange<'_> {
    /// For a prefix that narrows: the first text, byte by byte, that is above every key with this
    /// prefix. `key >= prefix AND key < end` says the same as a LIKE, and needs no escaping.
    pub fn prefix_end(&self) -> Option<String> {
        match self {
            Self::Exact(_) => None,
            // '/' is the byte after '.'.
            Self::Prefix(prefix) => prefix.strip_suffix('.').map(|tokens| format!("{tokens}/")),
        }
    }
}

/// Whether `key` matches `filter`, given as text. Allocates nothing, as it runs once per row.
pub fn key_matches(key: &str, filter: &str) -> Result<bool, FilterError> {
    Ok(Shape::of(filter)?.matches(filter, key))
}

/// What one pass over a filter's text finds: matching needs no second full pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Shape {
    /// Bytes before the first wildcard: the whole text if there is none.
    literal: usize,
    wildcards: Wildcards,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wildcards {
    None,
    /// A `>` at the end and nothing else.
    OnlyRest,
    Some,
}

impl Shape {
    fn of(text: &str) -> Result<Self, FilterError> {
        if text.is_empty() {
            return Err(FilterError::Empty);
        }
        if text.len() > MAX_KEY_BYTES {
            return Err(FilterError::TooLong(text.len()));
        }
        let mut shape = Self { literal: text.len(), wildcards: Wildcards::None };
        let mut tokens = 0;
        let mut start = 0;
        for token in text.split('.') {
            tokens += 1;
            let end = start + token.len();
            if token == ONE || token == REST {
                if token == REST && end < text.len() {
                    return Err(FilterError::RestNotLast(tokens));
                }
                let first = shape.wildcards == Wildcards::None;
                shape.literal = shape.literal.min(start);
                shape.wildcards =
                    if first && token == REST { Wildcards::OnlyRest } else { Wildcards::Some };
            } else {
                check_literal(token, tokens)?;
            }
            start = end + 1;
        }
        if tokens > MAX_KEY_TOKENS {
            return Err(FilterError::TooManyTokens(tokens));
        }
        Ok(shape)
    }

    fn matches(self, filter: &str, key: &str) -> bool {
        let (literal, pattern) = filter.split_at(self.literal);
        match self.wildcards {
            Wildcards::None => key == literal,
            Wildcards::OnlyRest => key.len() > literal.len() && key.starts_with(literal),
            Wildcards::Some => {
                key.strip_prefix(literal).is_some_and(|rest| match_tokens(pattern, rest))
            }
        }
    }
}

fn check_literal(token: &str, number: usize) -> Result<(), FilterError> {
    if token.is_empty() {
        return Err(FilterError::EmptyToken(number));
    }
    for c in token.chars() {
        match Class::of_char(c) {
            Class::Plain | Class::Dot | Class::NotAscii => {}
            Class::Wildcard => {
                return Err(FilterError::PartialWildcard { token: number, wildcard: c });
            }
            Class::WhiteSpace => return Err(FilterError::WhiteSpace(number)),
            Class::Control => return Err(FilterError::Control(number)),
        }
    }
    Ok(())
}

/// Token by token, both from the first wildcard on.
fn match_tokens(pattern: &str, key: &str) -> bool {
    let mut tokens = key.split('.');
    for wanted in pattern.split('.') {
        match tokens.next() {
            None => return false,
            Some(_) if wanted == REST => return true,
            Some(token) if wanted == ONE || wanted == token => {}
            Some(_) => return false,
        }
    }
    tokens.next().is_none()
}

#[cfg(test)]
mod tests;
