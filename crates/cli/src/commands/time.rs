//! Points in time on a command line: `1h` ago, or a timestamp.

use sequin_client::sql::literal;

/// The SQL of a point in time: an interval counts back from now.
pub fn sql(text: &str) -> String {
    let is_interval = text.starts_with(|c: char| c.is_ascii_digit())
        && text.contains(|c: char| c.is_ascii_alphabetic())
        && !text.contains(['-', ':', 'T', 'Z', '/'])
        // 7 Jan 2026
        && !text.split_whitespace().skip(1).any(is_month);
    match is_interval {
        true => format!("now() - interval {}", literal(text)),
        false => literal(text),
    }
}

fn is_month(word: &str) -> bool {
    const MONTHS: [&str; 12] =
        ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
    word.get(..3).is_some_and(|start| MONTHS.contains(&start.to_lowercase().as_str()))
}

#[cfg(test)]
mod tests {
    use super::sql;

    #[test]
    fn an_interval_counts_back_from_now() {
        assert_eq!(sql("1h"), "now() - interval '1h'");
        assert_eq!(sql("2 days"), "now() - interval '2 days'");
        assert_eq!(sql("2026-01-31 12:00"), "'2026-01-31 12:00'");
        assert_eq!(sql("2026-01-31T12:00:00Z"), "'2026-01-31T12:00:00Z'");
        assert_eq!(sql("7 Jan 2026"), "'7 Jan 2026'");
        assert_eq!(sql("yesterday"), "'yesterday'");
    }
}
