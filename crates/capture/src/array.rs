//! The text of arrays, as array_out() in PostgreSQL's arrayfuncs.c writes it.

use super::json::Writer;

/// PostgreSQL's MAXDIM.
const MAX_DIMENSIONS: usize = 6;

/// Appends an array. False if the text is not one: then the caller must remove what was appended.
///
/// array_out() puts quotes around elements that are empty, say NULL, or contain quotes, backslashes, braces, white
/// space or the delimiter. Bounds that don't start at 1 come first, as in `[0:1][2:3]={...}`: they are left out, since
/// JSON has no place for them.
pub(super) fn write<E>(
    writer: &mut Writer<'_, '_, E>,
    text: &str,
    element: u32,
    delimiter: u8,
) -> Result<bool, E> {
    let text = match text.strip_prefix('[').and_then(|bounds| bounds.split_once("]=")) {
        Some((_, text)) => text,
        None => text,
    };
    let bytes = text.as_bytes();
    let mut depth = 0;
    let mut at = 0;
    // Whether a value comes next, rather than a delimiter or an end.
    let mut value = true;
    while let Some(&byte) = bytes.get(at) {
        at += 1;
        match byte {
            b'{' if value && depth < MAX_DIMENSIONS => {
                depth += 1;
                writer.out.push('[');
                value = bytes.get(at) != Some(&b'}');
            }
            b'}' if !value => {
                depth -= 1;
                writer.out.push(']');
                if depth == 0 {
                    return Ok(at == bytes.len());
                }
            }
            _ if byte == delimiter && !value => {
                writer.out.push(',');
                value = true;
            }
            _ if !value || depth == 0 => return Ok(false),
            b'"' => {
                let Some(end) = quoted(writer, &text[at..], element)? else { return Ok(false) };
                at += end;
                value = false;
            }
            _ => {
                let ends = |&byte: &u8| byte == delimiter || b"{}\"\\".contains(&byte);
                let start = at - 1;
                let Some(length) = bytes[start..].iter().position(ends) else { return Ok(false) };
                at = start + length;
                match &text[start..at] {
                    "" => return Ok(false),
                    "NULL" => writer.out.push_str("null"),
                    text => writer.value(element, text)?,
                }
                value = false;
            }
        }
    }
    Ok(false)
}

/// Appends the element after a quote, and returns where the text goes on after its closing quote.
fn quoted<E>(writer: &mut Writer<'_, '_, E>, text: &str, element: u32) -> Result<Option<usize>, E> {
    let Some(end) = text.find(['"', '\\']) else { return Ok(None) };
    if text.as_bytes()[end] == b'"' {
        writer.value(element, &text[..end])?;
        return Ok(Some(end + 1));
    }
    let mut plain = String::with_capacity(text[..end].len() * 2);
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => {
                writer.value(element, &plain)?;
                return Ok(Some(at + 1));
            }
            '\\' => match chars.next() {
                Some((_, escaped)) => plain.push(escaped),
                None => return Ok(None),
            },
            c => plain.push(c),
        }
    }
    Ok(None)
}

/// Appends an int2vector or oidvector: `1 2 3`.
pub(super) fn write_vector<E>(
    writer: &mut Writer<'_, '_, E>,
    text: &str,
    element: u32,
) -> Result<bool, E> {
    writer.out.push('[');
    for (n, text) in text.split_ascii_whitespace().enumerate() {
        if n > 0 {
            writer.out.push(',');
        }
        writer.value(element, text)?;
    }
    writer.out.push(']');
    Ok(true)
}
