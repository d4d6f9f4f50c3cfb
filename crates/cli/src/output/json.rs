//! Values as JSON. Numbers keep all their digits, and ids are strings.

use sequin_client::rows::{Column, Kind, Row};

pub fn object(columns: &[Column], row: &Row) -> String {
    let mut text = String::from("{");
    for (at, column) in columns.iter().enumerate() {
        if at > 0 {
            text.push_str(", ");
        }
        text.push_str(&quote(column.name));
        text.push_str(": ");
        text.push_str(&value(column.kind, row.get(at).and_then(Option::as_deref)));
    }
    text.push('}');
    text
}

pub fn value(kind: Kind, text: Option<&str>) -> String {
    let Some(text) = text else { return "null".into() };
    match kind {
        Kind::Int | Kind::Size | Kind::Json | Kind::List => text.to_owned(),
        Kind::Bool => if text == "t" { "true" } else { "false" }.into(),
        Kind::Time => quote(&rfc3339(text)),
        Kind::Text | Kind::Id | Kind::Void => quote(text),
    }
}

pub fn quote(text: &str) -> String {
    // Into a String, it can't fail.
    serde_json::to_string(text).unwrap_or_default()
}

/// `2026-01-31 12:00:00.5+02` as `2026-01-31T12:00:00.5+02:00`. Infinity and years before Christ stay as they are.
pub fn rfc3339(text: &str) -> String {
    let Some((date, time)) = text.split_once(' ') else { return text.to_owned() };
    if time.contains(' ') {
        return text.to_owned();
    }
    let zone = time.rfind(['+', '-']).map_or("", |at| &time[at..]);
    let minutes = if zone.len() == 3 { ":00" } else { "" };
    format!("{date}T{time}{minutes}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_exact() {
        assert_eq!(value(Kind::Id, Some("9223372036854775807")), "\"9223372036854775807\"");
        assert_eq!(value(Kind::Json, Some("{\"a\": 1.000}")), "{\"a\": 1.000}");
        assert_eq!(value(Kind::Bool, Some("f")), "false");
        assert_eq!(value(Kind::Text, None), "null");
        assert_eq!(value(Kind::Text, Some("a\"\n")), "\"a\\\"\\n\"");
    }

    #[test]
    fn times_are_as_in_rfc_3339() {
        assert_eq!(rfc3339("2026-01-31 12:00:00.5+02"), "2026-01-31T12:00:00.5+02:00");
        assert_eq!(rfc3339("2026-01-31 12:00:00-03:30"), "2026-01-31T12:00:00-03:30");
        assert_eq!(rfc3339("infinity"), "infinity");
    }
}
