//! A value's text as the JSON that to_jsonb() makes of the value.
//!
//! The text is that of the type's output function, under DateStyle ISO, IntervalStyle postgres and bytea_output hex.
//! datum_to_jsonb() in PostgreSQL's jsonb.c is what this follows. A text that doesn't fit its type (if the type was
//! altered since, say) becomes a string: so the output is always JSON that jsonb accepts.

use super::types::{JSONB, Type, Types};
use super::{array, composite, json_text};

/// Converts a value of a type with a cast to json, from its type and text. Only the server can do that.
pub type Caster<'a, E> = dyn FnMut(u32, &str) -> Result<String, E> + 'a;

/// The most levels of nested arrays and composites. No type is that deep by accident.
const MAX_DEPTH: usize = 64;

/// Appends a value.
pub fn write<E>(
    out: &mut String,
    types: &Types,
    type_oid: u32,
    text: &str,
    cast: &mut Caster<'_, E>,
) -> Result<(), E> {
    Writer { out, types, cast, depth: 0 }.value(type_oid, text)
}

/// A row as an object: its columns' names, types and texts.
pub fn record<'a, E>(
    types: &Types,
    columns: impl Iterator<Item = ((&'a str, u32), &'a Option<String>)>,
    cast: &mut Caster<'_, E>,
) -> Result<String, E> {
    let mut out = String::from("{");
    for ((name, type_oid), text) in columns {
        if out.len() > 1 {
            out.push_str(", ");
        }
        write_string(&mut out, name);
        out.push_str(": ");
        match text {
            Some(text) => write(&mut out, types, type_oid, text, cast)?,
            None => out.push_str("null"),
        }
    }
    out.push('}');
    Ok(out)
}

/// The output, and what is needed to convert values.
pub(super) struct Writer<'a, 'c, E> {
    pub out: &'a mut String,
    pub types: &'a Types,
    cast: &'a mut Caster<'c, E>,
    depth: usize,
}

impl<E> Writer<'_, '_, E> {
    /// Appends a value, of a column, an element or a field.
    pub fn value(&mut self, type_oid: u32, text: &str) -> Result<(), E> {
        let start = self.out.len();
        let readable = match self.types.get(type_oid) {
            Type::Text => false,
            Type::Bool => boolean(self.out, text),
            Type::Number => number(self.out, text),
            Type::Timestamp => timestamp(self.out, text),
            Type::TimestampTz => timestamp_tz(self.out, text),
            Type::Json if type_oid == JSONB => {
                self.out.push_str(text);
                true
            }
            Type::Json => json_text::embed(self.out, text),
            Type::Cast => {
                let json = (self.cast)(type_oid, text)?;
                json_text::embed(self.out, &json)
            }
            Type::Vector { element } => self.nested(|w| array::write_vector(w, text, *element))?,
            Type::Array { element, delimiter } => {
                self.nested(|w| array::write(w, text, *element, *delimiter))?
            }
            Type::Composite { fields } => self.nested(|w| composite::write(w, text, fields))?,
        };
        if !readable {
            self.out.truncate(start);
            write_string(self.out, text);
        }
        Ok(())
    }

    fn nested(&mut self, f: impl FnOnce(&mut Self) -> Result<bool, E>) -> Result<bool, E> {
        if self.depth == MAX_DEPTH {
            return Ok(false);
        }
        self.depth += 1;
        let readable = f(self);
        self.depth -= 1;
        readable
    }
}

fn boolean(out: &mut String, text: &str) -> bool {
    match text {
        "t" => out.push_str("true"),
        "f" => out.push_str("false"),
        _ => return false,
    }
    true
}

/// NaN and the infinities are strings in JSON.
fn number(out: &mut String, text: &str) -> bool {
    let readable = json_text::is_number(text);
    if readable {
        out.push_str(text);
    }
    readable
}

/// `2026-11-20 12:00:00.5 BC` with a `T`. `infinity` stays as it is.
fn timestamp(out: &mut String, text: &str) -> bool {
    let Some((date, time)) = date_and_time(text) else { return false };
    out.push('"');
    out.push_str(date);
    out.push('T');
    out.push_str(time);
    out.push('"');
    true
}

/// As [`timestamp`], and the offset always with minutes: ISO leaves `:00` out, XSD doesn't (see EncodeTimezone()).
fn timestamp_tz(out: &mut String, text: &str) -> bool {
    let Some((date, time)) = date_and_time(text) else { return false };
    let (time, era) = match time.strip_suffix(" BC") {
        Some(time) => (time, " BC"),
        None => (time, ""),
    };
    let Some(sign) = time.rfind(['+', '-']) else { return false };
    out.push('"');
    out.push_str(date);
    out.push('T');
    out.push_str(time);
    if !time[sign..].contains(':') {
        out.push_str(":00");
    }
    out.push_str(era);
    out.push('"');
    true
}

/// The two parts, if nothing in them needs escaping in JSON.
fn date_and_time(text: &str) -> Option<(&str, &str)> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-+:. ".contains(&byte);
    let (date, time) = text.split_once(' ')?;
    (text.bytes().all(plain) && time.starts_with(|c: char| c.is_ascii_digit()))
        .then_some((date, time))
}

/// Appends a JSON string.
pub fn write_string(out: &mut String, text: &str) {
    out.reserve(text.len() + 2);
    out.push('"');
    let mut plain = 0;
    for (at, &byte) in text.as_bytes().iter().enumerate() {
        let escape = ESCAPES[usize::from(byte)];
        if escape == 0 {
            continue;
        }
        out.push_str(&text[plain..at]);
        out.push('\\');
        out.push(char::from(escape));
        if escape == b'u' {
            const HEX: &[u8; 16] = b"0123456789abcdef";
            out.push_str("00");
            out.push(char::from(HEX[usize::from(byte >> 4)]));
            out.push(char::from(HEX[usize::from(byte & 15)]));
        }
        plain = at + 1;
    }
    out.push_str(&text[plain..]);
    out.push('"');
}

/// What follows the backslash of a byte that needs one, or 0.
const ESCAPES: [u8; 256] = {
    let mut escapes = [0; 256];
    let mut control = 0;
    while control < 0x20 {
        escapes[control] = b'u';
        control += 1;
    }
    escapes[b'\n' as usize] = b'n';
    escapes[b'\r' as usize] = b'r';
    escapes[b'\t' as usize] = b't';
    escapes[b'"' as usize] = b'"';
    escapes[b'\\' as usize] = b'\\';
    escapes
};

#[cfg(test)]
mod tests;
