//! The text of composite values, as record_out() in PostgreSQL's rowtypes.c writes it.

use super::json::{Writer, write_string};
use std::borrow::Cow;

/// Appends a row as an object. False if the text is not one, or has more fields than are known: then the caller must
/// remove what was appended.
///
/// record_out() writes nothing for NULL, and puts quotes around fields that are empty or contain quotes,
/// backslashes, parentheses, commas or white space. It leaves dropped fields out.
pub(super) fn write<E>(
    writer: &mut Writer<'_, '_, E>,
    text: &str,
    fields: &[(String, u32)],
) -> Result<bool, E> {
    let Some(mut rest) = text.strip_prefix('(') else { return Ok(false) };
    let mut fields = fields.iter();
    writer.out.push('{');
    if fields.len() == 0 && rest == ")" {
        writer.out.push('}');
        return Ok(true);
    }
    let mut ended = false;
    let mut first = true;
    while !ended {
        let Some((field, length)) = field(rest) else { return Ok(false) };
        let Some((name, type_oid)) = fields.next() else { return Ok(false) };
        if !std::mem::take(&mut first) {
            writer.out.push(',');
        }
        write_string(writer.out, name);
        writer.out.push(':');
        match field {
            Some(text) => writer.value(*type_oid, &text)?,
            None => writer.out.push_str("null"),
        }
        ended = rest.as_bytes()[length] == b')';
        rest = &rest[length + 1..];
    }
    for (name, _) in fields {
        writer.out.push(',');
        write_string(writer.out, name);
        writer.out.push_str(":null");
    }
    writer.out.push('}');
    Ok(rest.is_empty())
}

/// The field that the text begins with, `None` if it is NULL; and where the comma or parenthesis after it is.
fn field(text: &str) -> Option<(Option<Cow<'_, str>>, usize)> {
    let bytes = text.as_bytes();
    if bytes.first() != Some(&b'"') {
        let end = bytes.iter().position(|byte| b",()\"\\".contains(byte))?;
        let field = (end > 0).then(|| Cow::Borrowed(&text[..end]));
        return matches!(bytes[end], b',' | b')').then_some((field, end));
    }
    let end = 1 + bytes[1..].iter().position(|byte| b"\"\\".contains(byte))?;
    if bytes[end] == b'"' && matches!(bytes.get(end + 1), Some(b',' | b')')) {
        return Some((Some(Cow::Borrowed(&text[1..end])), end + 1));
    }
    let mut plain = String::with_capacity(end * 2);
    let mut chars = text.char_indices().skip(1).peekable();
    while let Some((at, c)) = chars.next() {
        match c {
            '\\' => plain.push(chars.next()?.1),
            '"' if chars.next_if(|next| next.1 == '"').is_some() => plain.push('"'),
            '"' => {
                let ended = matches!(bytes.get(at + 1), Some(b',' | b')'));
                return ended.then_some((Some(Cow::Owned(plain)), at + 1));
            }
            c => plain.push(c),
        }
    }
    None
}
