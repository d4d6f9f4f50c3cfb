//! The functions and views of sequin, one file for each kind of object. What an argument may be is the server's to say.

pub mod consumer;
pub mod message;
pub mod source;
pub mod stream;

use crate::rows::Kind;
use crate::sql::{Noun, Statement, literal};

/// The names of all objects of a kind.
pub fn names(noun: Noun) -> Statement {
    let (view, word) = (noun.view(), noun.word());
    Statement::new(
        format!("SELECT {word} AS name FROM sequin.{view} ORDER BY 1"),
        &[("name", Kind::Text)],
    )
}

/// A condition for one object.
pub(crate) fn where_name(column: &str, name: &str) -> String {
    format!("{column} = {}", literal(name))
}
