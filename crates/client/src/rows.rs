//! What comes back: each value as the text that the server wrote, so that nothing is rounded on the way.

/// What a column's text is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Text,
    Int,
    /// An integer that other programs must not round: a string in JSON.
    Id,
    Bool,
    /// A JSON value.
    Json,
    /// A JSON array; with commas between its elements where people read it.
    List,
    /// A timestamptz in the ISO style.
    Time,
    /// A number of bytes.
    Size,
    /// Nothing: the result of a function that returns void.
    Void,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Column {
    pub name: &'static str,
    pub kind: Kind,
}

pub type Row = Vec<Option<String>>;

/// The result of a statement.
#[derive(Clone, Debug, Default)]
pub struct Rows {
    pub columns: Vec<Column>,
    pub rows: Vec<Row>,
}

impl Rows {
    /// The value of a column in the first row; None for NULL, and where there is no row.
    pub fn first(&self, column: &str) -> Option<&str> {
        let at = self.columns.iter().position(|c| c.name == column)?;
        self.rows.first()?.get(at)?.as_deref()
    }

    pub fn first_number(&self, column: &str) -> Option<i64> {
        self.first(column)?.parse().ok()
    }

    /// All values of a column that are not NULL.
    pub fn all<'a>(&'a self, column: &str) -> impl Iterator<Item = &'a str> + use<'a> {
        let at = self.columns.iter().position(|c| c.name == column);
        self.rows.iter().filter_map(move |row| row.get(at?)?.as_deref())
    }
}
