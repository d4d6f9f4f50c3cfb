//! SQL text: literals, names, and calls of functions. What is printed as SQL is what runs.

use crate::rows::{Column, Kind};

/// A text as a literal. It means the same whatever standard_conforming_strings is.
pub fn literal(text: &str) -> String {
    let quoted = text.replace('\'', "''");
    match quoted.contains('\\') {
        true => format!("E'{}'", quoted.replace('\\', "\\\\")),
        false => format!("'{quoted}'"),
    }
}

/// A name of a table or column, quoted.
pub fn identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// The table of a stream.
pub fn stream_table(stream: &str) -> String {
    format!("sequin_stream.{}", identifier(stream))
}

/// The literal of an array, whose type is left to where it is used.
pub fn array(elements: &[impl AsRef<str>]) -> String {
    let elements: Vec<String> = elements.iter().map(|e| element(e.as_ref())).collect();
    literal(&format!("{{{}}}", elements.join(",")))
}

fn element(text: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "_-.:*>/+".contains(c);
    if !text.is_empty() && text.chars().all(is_plain) && !text.eq_ignore_ascii_case("null") {
        return text.to_owned();
    }
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

/// A kind of object that has a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Noun {
    Stream,
    Consumer,
    Source,
}

impl Noun {
    /// The view that has the names.
    pub fn view(self) -> &'static str {
        match self {
            Noun::Stream => "stream_stats",
            Noun::Consumer => "consumer_stats",
            Noun::Source => "source_stats",
        }
    }

    pub fn word(self) -> &'static str {
        match self {
            Noun::Stream => "stream",
            Noun::Consumer => "consumer",
            Noun::Source => "source",
        }
    }
}

/// A statement, the columns of its result, and the names in it that must exist.
#[derive(Clone, Debug)]
pub struct Statement {
    pub sql: String,
    pub columns: Vec<Column>,
    pub names: Vec<(Noun, String)>,
}

impl Statement {
    pub fn new(sql: impl Into<String>, columns: &[(&'static str, Kind)]) -> Self {
        let columns = columns.iter().map(|&(name, kind)| Column { name, kind }).collect();
        Self { sql: sql.into(), columns, names: Vec::new() }
    }

    /// Says that this name has to exist: where it doesn't, a similar one is suggested.
    pub fn names(mut self, noun: Noun, name: &str) -> Self {
        self.names.push((noun, name.to_owned()));
        self
    }
}

/// A call of a function of the schema sequin: first what it needs by position, then the rest by name.
#[derive(Clone, Debug)]
pub struct Call {
    function: &'static str,
    arguments: Vec<String>,
}

impl Call {
    pub fn new(function: &'static str) -> Self {
        Self { function, arguments: Vec::new() }
    }

    /// An argument by position, as SQL.
    pub fn sql(mut self, sql: impl Into<String>) -> Self {
        self.arguments.push(sql.into());
        self
    }

    pub fn text(self, text: &str) -> Self {
        self.sql(literal(text))
    }

    /// An argument by name, as SQL; left out where there is none.
    pub fn with_sql(mut self, name: &str, sql: Option<impl AsRef<str>>) -> Self {
        if let Some(sql) = sql {
            self.arguments.push(format!("{name} => {}", sql.as_ref()));
        }
        self
    }

    pub fn with(self, name: &str, text: Option<impl AsRef<str>>) -> Self {
        self.with_sql(name, text.map(|text| literal(text.as_ref())))
    }

    pub fn with_number(self, name: &str, number: Option<impl ToString>) -> Self {
        self.with_sql(name, number.map(|number| number.to_string()))
    }

    pub fn with_array(self, name: &str, elements: &Option<Vec<String>>) -> Self {
        self.with_sql(name, elements.as_ref().map(|elements| array(elements)))
    }

    /// `sequin.function(..)`
    pub fn expression(&self) -> String {
        format!("sequin.{}({})", self.function, self.arguments.join(", "))
    }

    /// A statement whose result is one value.
    pub fn scalar(&self, column: &'static str, kind: Kind) -> Statement {
        Statement::new(format!("SELECT {} AS {column}", self.expression()), &[(column, kind)])
    }

    /// A statement of a function that returns nothing.
    pub fn void(&self) -> Statement {
        Statement::new(format!("SELECT {}", self.expression()), &[("", Kind::Void)])
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn literals_hold_quotes_and_backslashes() {
        assert_eq!(literal("it's"), "'it''s'");
        assert_eq!(literal(r"a\b'c"), r"E'a\\b''c'");
        assert_eq!(identifier("a\"b"), "\"a\"\"b\"");
    }

    #[test]
    fn arrays_quote_what_is_more_than_a_word() {
        assert_eq!(array(&["eu.*", "us.>"]), "'{eu.*,us.>}'");
        assert_eq!(array(&["1 s", "", "null", "a\"b"]), r#"E'{"1 s","","null","a\\"b"}'"#);
        assert_eq!(array(&[] as &[&str]), "'{}'");
    }

    #[test]
    fn a_call_has_its_arguments_by_position_then_by_name() {
        let none: Option<&str> = None;
        let call = Call::new("create_consumer").text("orders").text("billing");
        let call = call.with("ack_wait", Some("1 min")).with("backoff", none);
        let call = call.with_number("max_deliver", Some(5));
        assert_eq!(
            call.expression(),
            "sequin.create_consumer('orders', 'billing', ack_wait => '1 min', max_deliver => 5)"
        );
    }
}
