//! How a command runs: it connects when it has to, asks before it destroys, and runs its SQL or prints it.

use std::io::{self, BufRead, IsTerminal, Write};

use sequin_client::conninfo::{self, Options as Pairs};
use sequin_client::context::Contexts;
use sequin_client::error::ErrorKind;
use sequin_client::rows::{Row, Rows};
use sequin_client::session::{Message, Session};
use sequin_client::settings::Environment;
use sequin_client::sql::Statement;
use sequin_client::{Error, Result, calls, connect};

use crate::args::Options;
use crate::output::{Format, Layout, Printer};
use crate::suggest::similar;

/// How the process ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    Done = 0,
    Error = 1,
    Usage = 2,
    /// No message, or no such message.
    Nothing = 3,
    /// Some ack_ids were no longer good.
    Late = 4,
    /// As a shell says it of SIGINT.
    Interrupted = 130,
}

pub struct App {
    pub options: Options,
    pub environment: Environment,
    session: Option<Session>,
    /// The names in the statements that have run: one of them may be a typo.
    names: Vec<(sequin_client::sql::Noun, String)>,
}

impl App {
    pub fn new(options: Options) -> Self {
        let environment = Environment::of_process();
        Self { options, environment, session: None, names: Vec::new() }
    }

    pub fn contexts(&self) -> Result<Contexts> {
        let home = self.environment.home.as_ref();
        home.map(|home| Contexts::new(home))
            .ok_or_else(|| Error::local("there is no home directory").with_hint("Set HOME."))
    }

    pub fn format(&self) -> Result<Format> {
        Format::parse(self.options.output.as_deref().unwrap_or("table"))
    }

    /// Whether somebody is there to ask.
    pub fn is_interactive(&self) -> bool {
        !self.options.no_input && io::stdin().is_terminal() && io::stdout().is_terminal()
    }

    /// Something for the person, not for the program behind the pipe.
    pub fn say(&self, text: &str) {
        eprintln!("{text}");
    }

    // ---- connection ----

    /// The settings that are given: by the context, then by the options.
    fn given(&self) -> Result<Pairs> {
        let mut given = Pairs::new();
        let context = match (&self.options.context, &self.options.dbname) {
            (Some(name), _) => Some(name.clone()),
            // A whole connection string stands for itself.
            (None, Some(text)) if conninfo::is_conninfo(text) => None,
            (None, _) => self.contexts().ok().and_then(|contexts| contexts.selected()),
        };
        if let Some(name) = context {
            given.extend(conninfo::parse(&self.contexts()?.read(&name)?.connection)?);
        }
        match &self.options.dbname {
            Some(text) if conninfo::is_conninfo(text) => given.extend(conninfo::parse(text)?),
            Some(name) => drop(given.insert("dbname".into(), name.clone())),
            None => {}
        }
        let options = &self.options;
        for (keyword, value) in
            [("host", &options.host), ("port", &options.port), ("user", &options.username)]
        {
            given.extend(value.as_ref().map(|value| (keyword.to_owned(), value.clone())));
        }
        Ok(given)
    }

    pub async fn session(&mut self) -> Result<&Session> {
        if self.session.is_none() {
            let session = self.connect().await?;
            self.session = Some(session);
        }
        self.session.as_ref().ok_or_else(|| Error::local("no session"))
    }

    /// A connection of its own.
    pub async fn connect(&self) -> Result<Session> {
        let mut settings = connect::settings(self.given()?, &self.environment)?;
        let mut note = |text: &str| eprintln!("sequin: warning: {text}");
        match connect::connect(&settings, &self.environment, &mut note).await {
            Err(error) if error.kind == ErrorKind::PasswordMissing && self.is_interactive() => {
                settings.password = Some(ask_password(&settings.user)?);
                connect::connect(&settings, &self.environment, &mut note).await
            }
            other => other,
        }
    }

    // ---- statements ----

    /// Runs a statement. Ctrl-C cancels it on the server, too.
    pub async fn query(&mut self, statement: &Statement) -> Result<Rows> {
        self.names.extend(statement.names.iter().cloned());
        let session = self.session().await?;
        let canceller = session.canceller();
        let query = session.query(statement);
        tokio::pin!(query);
        let result = tokio::select! {
            result = &mut query => result,
            _ = tokio::signal::ctrl_c() => {
                canceller.cancel().await;
                let outcome = query.await;
                // It may have come to its end before.
                if outcome.is_ok() { outcome } else { Err(interrupted()) }
            }
        };
        for notice in session.notices() {
            eprintln!("sequin: {notice}");
        }
        result
    }

    /// Runs a statement and shows its rows; or prints it, with --as-sql.
    pub async fn show(&mut self, statement: Statement, layout: Layout) -> Result<Exit> {
        if self.prints_sql(&statement)? {
            return Ok(Exit::Done);
        }
        let format = self.format()?;
        let rows = self.query(&statement).await?;
        format.print(layout, &rows)?;
        Ok(Exit::Done)
    }

    /// The same for one object that has to be there.
    pub async fn show_one(&mut self, statement: Statement) -> Result<Exit> {
        if self.prints_sql(&statement)? {
            return Ok(Exit::Done);
        }
        let format = self.format()?;
        let rows = self.query(&statement).await?;
        if rows.rows.is_empty() {
            return Err(missing(&statement));
        }
        format.print(Layout::Record, &rows)?;
        Ok(Exit::Done)
    }

    /// With --as-sql, prints the statement.
    pub fn prints_sql(&self, statement: &Statement) -> Result<bool> {
        if self.options.as_curl {
            return Err(Error::usage("there is no HTTP to print a request for")
                .with_hint("--as-sql prints the SQL of a command."));
        }
        if self.options.as_sql {
            writeln!(io::stdout(), "{};", statement.sql)?;
        }
        Ok(self.options.as_sql)
    }

    /// Runs a statement that changes something: prints it with --as-sql, and rolls it back with --dry-run. None if it was
    /// only printed.
    pub async fn change(&mut self, statement: &Statement) -> Result<Option<Rows>> {
        if self.prints_sql(statement)? {
            return Ok(None);
        }
        if !self.options.dry_run {
            return self.query(statement).await.map(Some);
        }
        self.session().await?.execute("BEGIN").await?;
        let result = self.query(statement).await;
        self.session().await?.execute("ROLLBACK").await?;
        let rows = result?;
        self.say("dry run: nothing was changed");
        Ok(Some(rows))
    }

    /// The same for a statement without a result; `done` is said then.
    pub async fn change_and_say(&mut self, statement: &Statement, done: &str) -> Result<Exit> {
        if self.change(statement).await?.is_some() && !self.options.dry_run {
            self.say(done);
        }
        Ok(Exit::Done)
    }

    /// The same for a statement whose result is one value, which goes to standard output.
    pub async fn change_and_show(&mut self, statement: &Statement) -> Result<Option<Rows>> {
        let format = self.format()?;
        let rows = self.change(statement).await?;
        if let Some(rows) = &rows {
            format.print(Layout::Value, rows)?;
        }
        Ok(rows)
    }

    /// Prints the rows that are wanted, one after the other: any number of them. Returns how many there were.
    pub async fn print_stream(
        &mut self,
        statement: &Statement,
        printer: &mut Printer,
        mut is_wanted: impl FnMut(&Row) -> bool,
    ) -> Result<u64> {
        use futures_util::StreamExt;
        self.names.extend(statement.names.iter().cloned());
        let session = self.session().await?;
        let canceller = session.canceller();
        let stream = session.stream(&statement.sql).await?;
        let mut stream = std::pin::pin!(stream);
        let mut count = 0;
        let mut interrupt = std::pin::pin!(tokio::signal::ctrl_c());
        loop {
            let message = tokio::select! {
                message = stream.next() => message,
                _ = &mut interrupt => {
                    canceller.cancel().await;
                    printer.end()?;
                    return Err(interrupted());
                }
            };
            match message {
                None => return Ok(count),
                Some(message) => {
                    if let Message::Row(row) = message.map_err(Error::from)? {
                        let row = sequin_client::session::texts(&row);
                        if is_wanted(&row) {
                            printer.row(&row)?;
                            count += 1;
                        }
                    }
                }
            }
        }
    }

    // ---- questions ----

    /// Asks before something that can't be undone. Without a terminal, --yes has to be the answer.
    pub fn confirm(&self, question: &str) -> Result<bool> {
        if self.options.yes || self.options.as_sql || self.options.dry_run {
            return Ok(true);
        }
        if !self.is_interactive() {
            return Err(Error::usage(format!("{question} Nobody is there to ask"))
                .with_hint("Say --yes. --dry-run shows what would happen."));
        }
        self.ask(question)
    }

    /// Asks where somebody is there, else goes on.
    pub fn confirm_if_interactive(&self, question: &str) -> Result<bool> {
        match self.options.yes || !self.is_interactive() {
            true => Ok(true),
            false => self.ask(question),
        }
    }

    fn ask(&self, question: &str) -> Result<bool> {
        eprint!("{question} [y/N] ");
        io::stderr().flush()?;
        let mut answer = String::new();
        io::stdin().lock().read_line(&mut answer)?;
        let is_yes = matches!(answer.trim().to_lowercase().as_str(), "y" | "yes");
        if !is_yes {
            self.say("nothing was changed");
        }
        Ok(is_yes)
    }

    // ---- failures ----

    /// Reports an error, with the name that was probably meant.
    pub async fn fail(&mut self, error: Error) -> Exit {
        // Nobody reads on: `sequin message view s | head`.
        if error.kind == ErrorKind::Local && error.message.contains("Broken pipe") {
            return Exit::Done;
        }
        let error = self.explain(error).await;
        eprintln!("sequin: error: {error}");
        if error.is("42704")
            && let Some(name) = self.similar_name().await
        {
            eprintln!("did you mean: {name}");
        }
        match error.kind {
            ErrorKind::Usage => Exit::Usage,
            ErrorKind::Interrupted => Exit::Interrupted,
            _ => Exit::Error,
        }
    }

    /// What isn't known to the server may be so because the extension is missing, or of another version.
    async fn explain(&mut self, error: Error) -> Error {
        let is_unknown = ["3F000", "42P01", "42883", "42703"].iter().any(|code| error.is(code));
        if !is_unknown {
            return error;
        }
        let own = env!("CARGO_PKG_VERSION");
        let (message, hint) = match self.extension_version().await {
            Err(_) => return error,
            Ok(Some(version)) if version == own => return error,
            Ok(None) => (
                "the extension sequin is not installed in this database".to_owned(),
                "As a superuser, run: CREATE EXTENSION sequin; or choose another database by -d.",
            ),
            Ok(Some(version)) => (
                format!(
                    "the extension in this database is of version {version}, this program of {own}"
                ),
                "As a superuser, run: ALTER EXTENSION sequin UPDATE;",
            ),
        };
        let detail = error.message.clone();
        Error { message, ..error }.with_detail(detail).with_hint(hint)
    }

    async fn extension_version(&mut self) -> Result<Option<String>> {
        let sql = "SELECT extversion FROM pg_catalog.pg_extension WHERE extname = 'sequin'";
        Ok(self.session().await?.first_row(sql).await?.into_iter().next().flatten())
    }

    async fn similar_name(&mut self) -> Option<String> {
        for (noun, name) in std::mem::take(&mut self.names) {
            let rows = self.query(&calls::names(noun)).await.ok()?;
            if rows.all("name").any(|other| other == name) {
                continue;
            }
            if let Some(found) = similar(&name, rows.all("name")) {
                return Some(found.to_owned());
            }
        }
        None
    }
}

fn interrupted() -> Error {
    Error::new(ErrorKind::Interrupted, "interrupted")
}

/// The error for an object that a view doesn't have, as the functions have it.
pub fn missing(statement: &Statement) -> Error {
    let (noun, name) = match statement.names.last() {
        Some((noun, name)) => (noun.word(), name.as_str()),
        None => ("object", ""),
    };
    let mut error = Error::new(ErrorKind::Server, format!("{noun} \"{name}\" does not exist"));
    error.code = Some("42704".into());
    error.with_hint(format!("List them: sequin {noun} ls"))
}

fn ask_password(user: &str) -> Result<String> {
    eprint!("Password for user {user}: ");
    io::stderr().flush()?;
    Ok(console::Term::stderr().read_secure_line()?)
}
