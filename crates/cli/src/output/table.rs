//! Tables for people. On a terminal they fit its width; elsewhere nothing is wrapped or cut.

use std::io::IsTerminal;

use comfy_table::{CellAlignment, ContentArrangement, Table};
use sequin_client::rows::{Column, Kind, Row};

/// A value as people read it.
pub fn cell(kind: Kind, value: Option<&str>) -> String {
    let Some(value) = value else { return String::new() };
    match kind {
        Kind::Bool => if value == "t" { "yes" } else { "no" }.into(),
        Kind::Size => size(value),
        Kind::List => {
            let list: Vec<serde_json::Value> = serde_json::from_str(value).unwrap_or_default();
            let texts = list.iter().map(|v| v.as_str().map_or(v.to_string(), str::to_owned));
            texts.collect::<Vec<_>>().join(", ")
        }
        _ => value.to_owned(),
    }
}

/// A number of bytes, such as `1.5 MB`.
fn size(value: &str) -> String {
    let Ok(bytes) = value.parse::<u64>() else { return value.to_owned() };
    let mut number = bytes as f64;
    let mut unit = "bytes";
    for next in ["kB", "MB", "GB", "TB", "PB"] {
        if number < 1024.0 {
            break;
        }
        number /= 1024.0;
        unit = next;
    }
    if unit == "bytes" { format!("{bytes} bytes") } else { format!("{number:.1} {unit}") }
}

fn layout() -> Table {
    let mut table = Table::new();
    table.load_style(comfy_table::presets::NOTHING);
    match terminal_width() {
        Some(width) => {
            table.set_content_arrangement(ContentArrangement::Dynamic);
            table.set_width(width);
        }
        None => {
            table.set_content_arrangement(ContentArrangement::Disabled);
        }
    }
    table
}

fn terminal_width() -> Option<u16> {
    if !std::io::stdout().is_terminal() {
        return None;
    }
    Some(console::Term::stdout().size().1)
}

fn lines(table: &Table) -> String {
    table.lines().map(|line| line.trim_end().to_owned() + "\n").collect()
}

/// Numbers to the right, the rest to the left.
pub fn table(columns: &[Column], rows: &[Row], has_header: bool) -> String {
    let mut table = layout();
    if has_header {
        table.set_header(columns.iter().map(|column| column.name.to_uppercase()));
    }
    for row in rows {
        table.add_row(columns.iter().zip(row).map(|(c, value)| cell(c.kind, value.as_deref())));
    }
    for (at, column) in columns.iter().enumerate() {
        if matches!(column.kind, Kind::Int | Kind::Size)
            && let Some(column) = table.column_mut(at)
        {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    lines(&table)
}

/// A line for each column of each row.
pub fn records(columns: &[Column], rows: &[Row]) -> String {
    let mut text = String::new();
    for (number, row) in rows.iter().enumerate() {
        if number > 0 {
            text.push('\n');
        }
        let mut table = layout();
        for (column, value) in columns.iter().zip(row) {
            table.add_row([column.name.to_owned(), cell(column.kind, value.as_deref())]);
        }
        text.push_str(&lines(&table));
    }
    text
}

/// Just the values.
pub fn values(columns: &[Column], rows: &[Row]) -> String {
    let line = |row: &Row| {
        let cells: Vec<String> =
            columns.iter().zip(row).map(|(c, value)| cell(c.kind, value.as_deref())).collect();
        cells.join("\t") + "\n"
    };
    rows.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_as_people_read_them() {
        assert_eq!(cell(Kind::Size, Some("1023")), "1023 bytes");
        assert_eq!(cell(Kind::Size, Some("1572864")), "1.5 MB");
        assert_eq!(cell(Kind::List, Some("[\"a.>\", \"b\"]")), "a.>, b");
        assert_eq!(cell(Kind::Bool, Some("t")), "yes");
    }

    #[test]
    fn numbers_are_to_the_right() {
        let columns =
            [Column { name: "key", kind: Kind::Text }, Column { name: "seq", kind: Kind::Int }];
        let rows =
            [vec![Some("a".into()), Some("7".into())], vec![Some("bcd".into()), Some("12".into())]];
        assert_eq!(table(&columns, &rows, true), " KEY  SEQ\n a      7\n bcd   12\n");
    }
}
