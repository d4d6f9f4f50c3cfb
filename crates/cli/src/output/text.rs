//! YAML and CSV.

use sequin_client::rows::{Column, Kind, Row};

use super::json;

/// An item of a list. JSON's scalars are YAML's, and so are its objects in flow style.
pub fn yaml(columns: &[Column], row: &Row) -> String {
    let mut text = String::new();
    for (at, column) in columns.iter().enumerate() {
        let lead = if at == 0 { "- " } else { "  " };
        let value = json::value(column.kind, row.get(at).and_then(Option::as_deref));
        text.push_str(&format!("{lead}{}: {value}\n", column.name));
    }
    text
}

/// A line as RFC 4180 has it: NULL is nothing, an empty text is quoted.
pub fn csv(columns: &[Column], row: &Row) -> String {
    let field = |(at, column): (usize, &Column)| match row.get(at).and_then(Option::as_deref) {
        None => String::new(),
        Some(text) if column.kind == Kind::Time => json::rfc3339(text),
        Some(text) if text.is_empty() || text.contains(['"', ',', '\n', '\r']) => {
            format!("\"{}\"", text.replace('"', "\"\""))
        }
        Some(text) => text.to_owned(),
    };
    columns.iter().enumerate().map(field).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    const COLUMNS: [Column; 3] = [
        Column { name: "key", kind: Kind::Text },
        Column { name: "seq", kind: Kind::Int },
        Column { name: "data", kind: Kind::Json },
    ];

    #[test]
    fn csv_quotes_what_has_to_be() {
        let row = vec![Some("a,\"b\"".into()), None, Some("{}".into())];
        assert_eq!(csv(&COLUMNS, &row), "\"a,\"\"b\"\"\",,{}");
    }

    #[test]
    fn yaml_is_a_list_of_maps() {
        let row = vec![Some("no".into()), Some("7".into()), Some("{\"a\": 1}".into())];
        assert_eq!(yaml(&COLUMNS, &row), "- key: \"no\"\n  seq: 7\n  data: {\"a\": 1}\n");
    }
}
