//! What can go wrong, each with a sentence and the fix.

use std::fmt;

pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error: the server's own, or one of the way to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    pub message: String,
    pub detail: Option<String>,
    pub hint: Option<String>,
    /// The SQLSTATE, if it came from the server.
    pub code: Option<String>,
    /// The line of a COPY that it is about, from 1.
    pub line: Option<u64>,
    pub kind: ErrorKind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// What was asked for makes no sense: a bad option.
    Usage,
    /// There is no connection, or it was lost.
    Connection,
    /// The server wants a password, and none was given.
    PasswordMissing,
    /// The server refused a statement.
    Server,
    /// Ctrl-C.
    Interrupted,
    /// A file, or anything else here.
    Local,
}

impl Error {
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { message: message.into(), detail: None, hint: None, code: None, line: None, kind }
    }

    pub fn usage(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Usage, message)
    }

    pub fn local(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Local, message)
    }

    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    pub fn with_detail(mut self, detail: impl Into<String>) -> Self {
        self.detail = Some(detail.into());
        self
    }

    pub fn is(&self, code: &str) -> bool {
        self.code.as_deref() == Some(code)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{}", self.message)?;
        if let Some(code) = &self.code {
            write!(f, " (SQLSTATE {code})")?;
        }
        if let Some(detail) = &self.detail {
            write!(f, "\ndetail: {detail}")?;
        }
        if let Some(hint) = &self.hint {
            write!(f, "\nhint: {hint}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Error {}

impl From<std::io::Error> for Error {
    fn from(error: std::io::Error) -> Self {
        Self::local(error.to_string())
    }
}

/// An error of tokio-postgres while the connection is up.
impl From<tokio_postgres::Error> for Error {
    fn from(error: tokio_postgres::Error) -> Self {
        if let Some(server) = error.as_db_error() {
            return explain(Self {
                message: server.message().to_owned(),
                detail: server.detail().map(str::to_owned),
                hint: server.hint().map(str::to_owned),
                code: Some(server.code().code().to_owned()),
                line: server.where_().and_then(copy_line),
                kind: ErrorKind::Server,
            });
        }
        let lost = Self::new(
            ErrorKind::Connection,
            format!("the connection to the server was lost: {}", causes(&error)),
        );
        lost.with_hint(
            "Whether the last statement was committed is not known. Look, then try again.",
        )
    }
}

/// The line in a context such as "COPY orders, line 17, column data".
fn copy_line(context: &str) -> Option<u64> {
    let (_, rest) = context.split_once(", line ")?;
    rest.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

/// An error with those behind it.
pub fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        next = cause.source();
    }
    text
}

/// Adds the fix to what a standby says.
fn explain(error: Error) -> Error {
    let code = error.code.as_deref().unwrap_or_default();
    if code == "25006" && error.hint.is_none() {
        return error.with_hint(
            "Connect to the primary: name all hosts, and target_session_attrs=read-write.",
        );
    }
    error
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(code: &str, message: &str) -> Error {
        let mut error = Error::new(ErrorKind::Server, message);
        error.code = Some(code.into());
        explain(error)
    }

    #[test]
    fn a_standby_is_named_with_the_remedy() {
        let standby = server("25006", "cannot execute INSERT in a read-only transaction");
        assert!(standby.to_string().contains("target_session_attrs=read-write"));
    }
}
