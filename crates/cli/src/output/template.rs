//! `-o 'format {seq} {key}'`: a line for each row, with values in place of columns' names.

use sequin_client::rows::{Column, Row};
use sequin_client::{Error, Result};

pub struct Template {
    /// A text, and the column that follows it.
    parts: Vec<(String, Option<usize>)>,
}

impl Template {
    /// Reads `{column}`, `{{`, `}}`, `\n`, `\t` and `\\`.
    pub fn parse(text: &str, columns: &[Column]) -> Result<Self> {
        let mut parts = vec![];
        let mut plain = String::new();
        let mut chars = text.chars().peekable();
        while let Some(c) = chars.next() {
            match c {
                '\\' => match chars.next() {
                    Some('n') => plain.push('\n'),
                    Some('t') => plain.push('\t'),
                    other => plain.extend(other),
                },
                '{' if chars.next_if_eq(&'{').is_some() => plain.push('{'),
                '}' => {
                    chars.next_if_eq(&'}');
                    plain.push('}');
                }
                '{' => {
                    let name: String = chars.by_ref().take_while(|c| *c != '}').collect();
                    let at = columns.iter().position(|column| column.name == name);
                    let Some(at) = at else { return Err(unknown(&name, columns)) };
                    parts.push((std::mem::take(&mut plain), Some(at)));
                }
                c => plain.push(c),
            }
        }
        parts.push((plain, None));
        Ok(Self { parts })
    }

    pub fn fill(&self, row: &Row) -> String {
        let mut text = String::new();
        for (plain, column) in &self.parts {
            text.push_str(plain);
            let value = column.and_then(|at| row.get(at)).and_then(Option::as_deref);
            text.push_str(value.unwrap_or_default());
        }
        text
    }
}

fn unknown(name: &str, columns: &[Column]) -> Error {
    let names: Vec<&str> = columns.iter().map(|column| column.name).collect();
    Error::usage(format!("the format has a column \"{name}\", which is not in the result"))
        .with_hint(format!("There are: {}. For a brace, write {{{{ or }}}}.", names.join(", ")))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use sequin_client::rows::Kind;

    use super::*;

    #[test]
    fn names_become_values() {
        let columns =
            [Column { name: "seq", kind: Kind::Int }, Column { name: "key", kind: Kind::Text }];
        let row = vec![Some("7".into()), None];
        let fill = |text| Template::parse(text, &columns).unwrap().fill(&row);
        assert_eq!(fill(r"{seq}\t<{key}> {{x}}"), "7\t<> {x}");
        let error = Template::parse("{nope}", &columns).err().unwrap();
        assert!(error.hint.unwrap().contains("seq, key"));
    }
}
