//! Values that are JSON already. A json value is valid, but not every one can be a jsonb.
//!
//! With `\u0000`, half a surrogate pair, or a number that numeric can't hold, the whole message could not be written,
//! and the source would stop. Such a value becomes a string: see [`embed`].

use std::borrow::Cow;

/// The most levels of a json that is embedded. PostgreSQL's own limit is its stack.
const MAX_DEPTH: usize = 1000;

/// Appends JSON text if jsonb accepts it; says whether it does.
pub fn embed(out: &mut String, json: &str) -> bool {
    let mut reader = Reader { bytes: json.as_bytes(), at: 0 };
    let accepted = reader.value(0).is_some() && reader.space() && reader.at == json.len();
    if accepted {
        out.push_str(json);
    }
    accepted
}

/// Whether the text is a number as JSON writes them, and one that numeric can hold.
pub fn is_number(text: &str) -> bool {
    let mut reader = Reader { bytes: text.as_bytes(), at: 0 };
    reader.number().is_some() && reader.at == text.len()
}

/// What `->>` gives for a JSON value that is valid: a string's content, and any other value's text.
pub fn text_of(json: &str) -> Cow<'_, str> {
    let Some(inner) = json.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) else {
        return Cow::Borrowed(json);
    };
    if !inner.contains('\\') {
        return Cow::Borrowed(inner);
    }
    let mut text = String::with_capacity(inner.len());
    let mut chars = inner.chars();
    while let Some(c) = chars.next() {
        if c != '\\' {
            text.push(c);
            continue;
        }
        match chars.next() {
            Some('n') => text.push('\n'),
            Some('r') => text.push('\r'),
            Some('t') => text.push('\t'),
            Some('b') => text.push('\u{8}'),
            Some('f') => text.push('\u{c}'),
            Some('u') => {
                let high = hex(&mut chars);
                let code = if (0xd800..0xdc00).contains(&high) {
                    chars.nth(1); // the second \u
                    let low = hex(&mut chars);
                    0x10000 + ((high - 0xd800) << 10) + (low.wrapping_sub(0xdc00) & 0x3ff)
                } else {
                    high
                };
                text.push(char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER));
            }
            Some(c) => text.push(c),
            None => {}
        }
    }
    Cow::Owned(text)
}

fn hex(chars: &mut std::str::Chars<'_>) -> u32 {
    chars.by_ref().take(4).fold(0, |code, c| code * 16 + c.to_digit(16).unwrap_or(0))
}

/// Reads over JSON; `None` where jsonb would not accept it.
struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Reader<'_> {
    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn next(&mut self) -> Option<u8> {
        let byte = self.peek()?;
        self.at += 1;
        Some(byte)
    }

    fn space(&mut self) -> bool {
        while let Some(b' ' | b'\t' | b'\n' | b'\r') = self.peek() {
            self.at += 1;
        }
        true
    }

    fn literal(&mut self, word: &[u8]) -> Option<()> {
        let found = self.bytes[self.at..].starts_with(word);
        self.at += word.len();
        found.then_some(())
    }

    fn value(&mut self, depth: usize) -> Option<()> {
        self.space();
        match self.peek()? {
            b'{' | b'[' if depth == MAX_DEPTH => None,
            b'{' => self.members(b'}', |reader| {
                reader.space();
                reader.string()?;
                reader.space();
                reader.literal(b":")?;
                reader.value(depth + 1)
            }),
            b'[' => self.members(b']', |reader| reader.value(depth + 1)),
            b'"' => self.string(),
            b't' => self.literal(b"true"),
            b'f' => self.literal(b"false"),
            b'n' => self.literal(b"null"),
            _ => self.number(),
        }
    }

    fn members(&mut self, end: u8, mut member: impl FnMut(&mut Self) -> Option<()>) -> Option<()> {
        self.at += 1;
        self.space();
        if self.peek()? == end {
            self.at += 1;
            return Some(());
        }
        loop {
            member(self)?;
            self.space();
            match self.next()? {
                b',' => {}
                byte if byte == end => return Some(()),
                _ => return None,
            }
        }
    }

    fn string(&mut self) -> Option<()> {
        self.literal(b"\"")?;
        loop {
            match self.next()? {
                b'"' => return Some(()),
                0..0x20 => return None,
                b'\\' => match self.next()? {
                    b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => {}
                    b'u' => self.code_point()?,
                    _ => return None,
                },
                _ => {}
            }
        }
    }

    /// jsonb accepts neither `\u0000` nor half a surrogate pair; json does.
    fn code_point(&mut self) -> Option<()> {
        match self.code_unit()? {
            0 | 0xdc00..0xe000 => None,
            0xd800..0xdc00 => {
                self.literal(b"\\u")?;
                (0xdc00..0xe000).contains(&self.code_unit()?).then_some(())
            }
            _ => Some(()),
        }
    }

    fn code_unit(&mut self) -> Option<u32> {
        let digit = |byte: u8| char::from(byte).to_digit(16);
        (0..4).try_fold(0, |unit, _| Some(unit * 16 + digit(self.next()?)?))
    }

    /// A number within numeric's limits: 131072 digits before the decimal point, 16383 after it.
    fn number(&mut self) -> Option<()> {
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        let whole = match self.peek()? {
            b'0' => {
                self.at += 1;
                1
            }
            _ => self.digits()?,
        };
        let mut fraction = 0;
        if self.peek() == Some(b'.') {
            self.at += 1;
            fraction = self.digits()?;
        }
        let mut exponent = 0;
        if let Some(b'e' | b'E') = self.peek() {
            self.at += 1;
            exponent = self.exponent()?;
        }
        (whole + exponent <= 131_072 && fraction - exponent <= 16_383).then_some(())
    }

    fn exponent(&mut self) -> Option<i64> {
        let negative = self.peek() == Some(b'-');
        if let Some(b'-' | b'+') = self.peek() {
            self.at += 1;
        }
        let start = self.at;
        self.digits()?;
        let digits = std::str::from_utf8(&self.bytes[start..self.at]).ok()?;
        // With ten digits or more, leading zeros aside, it is beyond the limits.
        let size = digits.trim_start_matches('0').get(..10).map_or(digits, |_| "9999999999");
        let size: i64 = size.parse().ok()?;
        Some(if negative { -size } else { size })
    }

    fn digits(&mut self) -> Option<i64> {
        let count = self.bytes[self.at..].iter().take_while(|byte| byte.is_ascii_digit()).count();
        self.at += count;
        (count > 0).then(|| i64::try_from(count).ok()).flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accepted(json: &str) -> bool {
        embed(&mut String::new(), json)
    }

    #[test]
    fn json_that_jsonb_takes_is_embedded() {
        for json in [
            "null",
            " [1, -2.5e+3 ,true,false] ",
            "{}",
            "[]",
            "{\"a\" : {\"b\":[{}]}, \"a\":1}",
            "\"\\u00e4\\ud83e\\udd80\\n\\/\"",
            "-0",
            "1e131071",
            "1e-16383",
            "\"\u{7f}ü\"",
        ] {
            assert!(accepted(json), "{json}");
        }
    }

    #[test]
    fn json_that_jsonb_refuses_is_not_embedded() {
        for json in [
            "",
            "nul",
            "[1,]",
            "{\"a\"}",
            "{a:1}",
            "01",
            "1.",
            ".5",
            "+1",
            "1e",
            "--1",
            "1 2",
            "\"a",
            "\"\\u0000\"",
            "\"\\ud83e\"",
            "\"\\udd80\"",
            "\"\\ud83e\\n\"",
            "\"\\x\"",
            "\"\n\"",
            "1e131072",
            "1e-16384",
            "1e99999999999999999999",
            "[1e400000]",
            "NaN",
            "\u{a0}1",
        ] {
            assert!(!accepted(json), "{json}");
        }
    }

    #[test]
    fn depth_is_bounded() {
        let deep = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        assert!(accepted(&deep(MAX_DEPTH)));
        assert!(!accepted(&deep(MAX_DEPTH + 1)));
        assert!(!accepted(&"[".repeat(1_000_000)));
    }

    #[test]
    fn the_text_of_a_string_is_its_content() {
        assert_eq!(text_of("\"a\""), "a");
        assert_eq!(text_of("12.50"), "12.50");
        assert_eq!(text_of("[\"a\"]"), "[\"a\"]");
        assert_eq!(text_of("\"\\\"\\\\\\n\\t\\u00e4\\ud83e\\udd80\""), "\"\\\n\tä🦀");
    }
}
