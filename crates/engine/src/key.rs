//! Message keys: what a key may look like, and the 64-bit identity the engine orders by.
//!
//! A key is 1 to 16 tokens joined by `.`, at most 255 bytes. A token is one or more of any
//! characters but `.`, `*`, `>`, white space and control characters. `*` and `>` are for filters.

use thiserror::Error;

/// A message's position in its stream.
pub type Seq = i64;

/// The identity of a key, see [`key_id`].
pub type KeyId = u64;

/// The most bytes a key, or a filter, may have.
pub const MAX_KEY_BYTES: usize = 255;

/// The most tokens a key, or a filter, may have. Bounds the cost of routing a message.
pub const MAX_KEY_TOKENS: usize = 16;

/// Why a text is not a key. Tokens are counted from 1.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum KeyError {
    #[error("key is empty")]
    Empty,
    #[error("key is {0} bytes long, more than {MAX_KEY_BYTES}")]
    TooLong(usize),
    #[error("key has {0} tokens, more than {MAX_KEY_TOKENS}")]
    TooManyTokens(usize),
    #[error("token {0} of the key is empty")]
    EmptyToken(usize),
    #[error("token {token} of the key contains \"{wildcard}\"")]
    Wildcard { token: usize, wildcard: char },
    #[error("token {0} of the key contains white space")]
    WhiteSpace(usize),
    #[error("token {0} of the key contains a control character")]
    Control(usize),
}

impl KeyError {
    /// What to do about it: the HINT of the error.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Empty => "Give the message a key such as \"orders.created\".",
            Self::TooLong(_) => "Shorten the key, and put the rest into data or headers.",
            Self::TooManyTokens(_) => "Join some of the tokens by another character than \".\".",
            Self::EmptyToken(_) => {
                "Put one or more characters before, between and after the dots, as in \"a.b\"."
            }
            Self::Wildcard { .. } => "Only filters may contain \"*\" and \">\".",
            Self::WhiteSpace(_) | Self::Control(_) => {
                "Replace it by another character, for example \"_\" or \"-\"."
            }
        }
    }
}

/// What a character means in a key or a filter.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Class {
    Plain,
    Dot,
    Wildcard,
    WhiteSpace,
    Control,
    /// A byte of a multi-byte character: the class is that of the character.
    NotAscii,
}

/// The class of every byte, for the loop that runs for every row inserted.
const CLASSES: [Class; 256] = {
    let mut classes = [Class::Plain; 256];
    let mut byte = 0;
    while byte < 256 {
        classes[byte] = match byte as u8 {
            b'.' => Class::Dot,
            b'*' | b'>' => Class::Wildcard,
            b' ' | b'\t'..=b'\r' => Class::WhiteSpace,
            0..0x20 | 0x7f => Class::Control,
            0x80.. => Class::NotAscii,
            _ => Class::Plain,
        };
        byte += 1;
    }
    classes
};

impl Class {
    pub(super) fn of_byte(byte: u8) -> Self {
        CLASSES[usize::from(byte)]
    }

    pub(super) fn of_char(c: char) -> Self {
        match c {
            '\0'..='\x7f' => Self::of_byte(c as u8),
            _ if c.is_whitespace() => Self::WhiteSpace,
            _ if c.is_control() => Self::Control,
            _ => Self::Plain,
        }
    }
}

/// Checks that `key` is a key. Runs for every row inserted: one pass and no allocation; a second
/// pass only for a key that is not all ASCII.
pub fn check_key(key: &str) -> Result<(), KeyError> {
    if key.is_empty() {
        return Err(KeyError::Empty);
    }
    if key.len() > MAX_KEY_BYTES {
        return Err(KeyError::TooLong(key.len()));
    }
    let mut token = 1;
    let mut start = 0;
    let mut ascii = true;
    for (at, &byte) in key.as_bytes().iter().enumerate() {
        match Class::of_byte(byte) {
            Class::Plain => {}
            Class::NotAscii => ascii = false,
            Class::Dot => {
                if at == start {
                    return Err(KeyError::EmptyToken(token));
                }
                token += 1;
                start = at + 1;
            }
            Class::Wildcard => {
                return Err(KeyError::Wildcard { token, wildcard: char::from(byte) });
            }
            Class::WhiteSpace => return Err(KeyError::WhiteSpace(token)),
            Class::Control => return Err(KeyError::Control(token)),
        }
    }
    if start == key.len() {
        return Err(KeyError::EmptyToken(token));
    }
    if token > MAX_KEY_TOKENS {
        return Err(KeyError::TooManyTokens(token));
    }
    if ascii { Ok(()) } else { check_wide_characters(key) }
}

/// The second pass: the checks that bytes can't tell.
fn check_wide_characters(key: &str) -> Result<(), KeyError> {
    let mut token = 1;
    for c in key.chars() {
        match Class::of_char(c) {
            Class::Dot => token += 1,
            Class::WhiteSpace => return Err(KeyError::WhiteSpace(token)),
            Class::Control => return Err(KeyError::Control(token)),
            Class::Plain | Class::Wildcard | Class::NotAscii => {}
        }
    }
    Ok(())
}

/// The identity of a key: FNV-1a and a final mix, so that all bits are good.
///
/// It is written to disk: it must give the same number in every release and on every machine. The
/// engine only ever asks whether two keys are equal. Two keys of the same id are treated as one:
/// a message may be withheld needlessly, but none is delivered out of order.
pub fn key_id(key: &str) -> KeyId {
    let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
    for &byte in key.as_bytes() {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    }
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    hash ^ (hash >> 33)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn keys_are_accepted() {
        let sixteen = ["t"; 16].join(".");
        let longest = "k".repeat(255);
        for key in ["a", "orders.created", "1.-_/:%$#@!", "größe.日本語.🦀", &sixteen, &longest]
        {
            assert_eq!(check_key(key), Ok(()), "{key}");
        }
    }

    #[test]
    fn the_error_names_what_is_wrong() {
        use KeyError::*;
        let cases = [
            ("".to_owned(), Empty),
            ("k".repeat(256), TooLong(256)),
            (["t"; 17].join("."), TooManyTokens(17)),
            (".".to_owned(), EmptyToken(1)),
            (".a".to_owned(), EmptyToken(1)),
            ("a..b".to_owned(), EmptyToken(2)),
            ("a.b.".to_owned(), EmptyToken(3)),
            ("a.*".to_owned(), Wildcard { token: 2, wildcard: '*' }),
            ("a>.b".to_owned(), Wildcard { token: 1, wildcard: '>' }),
            ("a.b c".to_owned(), WhiteSpace(2)),
            ("a\n".to_owned(), WhiteSpace(1)),
            ("a.\u{0}".to_owned(), Control(2)),
            ("a.b\u{7f}".to_owned(), Control(2)),
            ("é.\u{a0}".to_owned(), WhiteSpace(2)),
            ("a.b.\u{3000}".to_owned(), WhiteSpace(3)),
            ("a.\u{9f}".to_owned(), Control(2)),
        ];
        for (key, error) in cases {
            assert_eq!(check_key(&key), Err(error), "{key:?}");
        }
        assert_eq!(KeyError::TooLong(300).to_string(), "key is 300 bytes long, more than 255");
        assert_eq!(
            KeyError::Wildcard { token: 2, wildcard: '*' }.to_string(),
            "token 2 of the key contains \"*\""
        );
    }

    /// The golden values were computed by another program.
    #[test]
    fn the_key_id_never_changes() {
        assert_eq!(key_id(""), 0xefd0_1f60_ba99_2926);
        assert_eq!(key_id("a"), 0x82a2_a958_a9be_ce5b);
        assert_eq!(key_id("orders.created"), 0xa8e9_5d26_1926_5fda);
        assert_eq!(key_id("größe.日本語"), 0xac24_6bd4_256f_b71a);
    }

    proptest! {
        #[test]
        fn check_key_says_what_the_rule_says(key in "[a-c.*> \u{85}\u{a0}\u{1}é]{0,12}") {
            let token_is_good = |token: &str| {
                !token.is_empty()
                    && !token.chars().any(|c| {
                        matches!(c, '*' | '>') || c.is_whitespace() || c.is_control()
                    })
            };
            prop_assert_eq!(check_key(&key).is_ok(), key.split('.').all(token_is_good));
        }

        #[test]
        fn the_class_of_a_character_is_that_of_the_standard_library(c in any::<char>()) {
            let class = Class::of_char(c);
            prop_assert_eq!(class == Class::WhiteSpace, c.is_whitespace());
            prop_assert_eq!(class == Class::Control, c.is_control() && !c.is_whitespace());
            prop_assert!(class != Class::NotAscii);
        }
    }

    #[test]
    fn every_ascii_character_has_its_class() {
        for c in '\0'..='\x7f' {
            assert!((Class::of_char(c) == Class::WhiteSpace) == c.is_whitespace(), "{c:?}");
            assert!(
                (Class::of_char(c) == Class::Control) == (c.is_control() && !c.is_whitespace()),
                "{c:?}"
            );
        }
    }
}
