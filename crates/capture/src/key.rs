//! Building the key of a change from literal text and values. Values are encoded and, if the key gets too long,
//! shortened.

use sequin_engine::key::MAX_KEY_BYTES;
use std::borrow::Cow;
use std::ops::Range;

/// The shortest that a value is shortened to: `~` and a hash. Only a longer value is ever shortened.
pub(super) const SHORTENED_BYTES: usize = 17;

/// Stands for NULL, for a value that isn't known, and for the primary key of a table that has none.
const NULL: &str = "%null";

/// Stands for an empty string: a token can't be empty.
const EMPTY: &str = "%empty";

/// What a key is made of.
pub trait Values<'a> {
    fn database(&self) -> &str;
    fn schema(&self) -> &str;
    fn table(&self) -> &str;
    fn action(&self) -> &str;
    /// Pushes the values of the primary key, or nothing where it isn't known.
    fn pk(&self, pk: &mut Pushed);
    /// The value of a column of [`KeyFormat::columns`](super::key_format::KeyFormat::columns); `None` is NULL, or not
    /// known.
    fn column(&self, n: usize) -> Option<Cow<'a, str>>;
}

/// A key of which a part is written.
#[derive(Default)]
pub(super) struct Key {
    text: String,
    /// Where the values are in the text.
    values: [Range<usize>; Key::MAX_VALUES],
    count: usize,
}

impl Key {
    /// A key format with more is refused, since the key might be too long even if all of them were shortened.
    const MAX_VALUES: usize = MAX_KEY_BYTES / SHORTENED_BYTES;

    pub fn new() -> Key {
        Key { text: String::with_capacity(MAX_KEY_BYTES), ..Key::default() }
    }

    pub fn literal(&mut self, text: &str) {
        self.text.push_str(text);
    }

    /// Appends what `push` pushes, or the word for NULL if that is nothing.
    pub fn value(&mut self, push: impl FnOnce(&mut Pushed)) {
        let start = self.text.len();
        push(&mut Pushed { key: &mut self.text, start });
        if self.text.len() == start {
            self.text.push_str(NULL);
        }
        if let Some(value) = self.values.get_mut(self.count) {
            *value = start..self.text.len();
            self.count += 1;
        }
    }

    pub fn finish(self) -> String {
        match self.text.len() {
            0..=MAX_KEY_BYTES => self.text,
            _ => shorten(&self.text, &self.values[..self.count]),
        }
    }
}

/// Takes the text of a value, or the texts of several that are joined by commas.
pub struct Pushed<'a> {
    key: &'a mut String,
    start: usize,
}

impl Pushed<'_> {
    pub fn push(&mut self, text: &str) {
        if self.key.len() > self.start {
            self.key.push(',');
        }
        encode(self.key, text);
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

/// Cuts values until the key is no longer than keys may be: the longest first, and each as little as possible. A cut
/// value ends with a hash of the whole value, so that different values still have different keys.
fn shorten(key: &str, values: &[Range<usize>]) -> String {
    let mut kept: Vec<usize> = values.iter().map(|value| value.len()).collect();
    let mut excess = key.len().saturating_sub(MAX_KEY_BYTES);
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by_key(|&n| std::cmp::Reverse(kept[n]));
    for n in order {
        if excess == 0 || kept[n] <= SHORTENED_BYTES {
            break;
        }
        let value = &key[values[n].clone()];
        let prefix = boundary(value, kept[n].saturating_sub(excess + SHORTENED_BYTES));
        excess = excess.saturating_sub(kept[n] - prefix - SHORTENED_BYTES);
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
