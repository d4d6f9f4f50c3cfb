//! `message send --from`: lines are read and encoded while the batch before is sent.

use std::io::IsTerminal;
use std::path::Path;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use sequin_client::calls::message;
use sequin_client::error::ErrorKind;
use sequin_client::rows::Kind;
use sequin_client::session::Session;
use sequin_client::sql::Statement;
use sequin_client::{Error, Result};
use tokio::io::{AsyncBufRead, AsyncBufReadExt, BufReader};
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::app::{App, Exit};
use crate::lines::{Batch, Work};
use crate::output::Layout;

pub struct SendFile {
    pub stream: String,
    /// A path, or `-`.
    pub from: String,
    pub skip: u64,
    pub is_single_transaction: bool,
}

/// How far it is.
#[derive(Default)]
struct Progress {
    sent: u64,
    /// The last line whose message is sent.
    line: u64,
}

/// What reads gives to what sends: batches, then the end or an error.
type Read = Result<Batch>;

/// Lines that come slowly are sent after this time, not only when a batch is full.
const LINGER: Duration = Duration::from_millis(200);

impl SendFile {
    pub async fn run(&self, app: &mut App) -> Result<Exit> {
        if app.prints_sql(&Statement::new(message::copy_sql(&self.stream), &[]))? {
            return Ok(Exit::Done);
        }
        let format = app.format()?;
        app.query(&message::check(&self.stream, None)).await?;
        let bar = progress_bar(&self.from);
        let (sender, batches) = mpsc::channel(1);
        let reader = tokio::spawn(read(self.from.clone(), self.skip, sender));
        let begun = Instant::now();
        let mut progress = Progress { sent: 0, line: self.skip };
        let result = self.send_all(app, batches, &mut progress, &bar).await;
        bar.finish_and_clear();
        reader.abort();
        match result {
            Ok(()) => {
                let rate = progress.sent as f64 / begun.elapsed().as_secs_f64().max(0.001);
                let verb = if app.options.dry_run { "would be sent (dry run)" } else { "sent" };
                app.say(&format!("{} messages {verb}, {rate:.0} a second", progress.sent));
                let count = Statement::new("", &[("sent", Kind::Int)]);
                let rows = sequin_client::rows::Rows {
                    columns: count.columns,
                    rows: vec![vec![Some(progress.sent.to_string())]],
                };
                format.print(Layout::Value, &rows)?;
                Ok(Exit::Done)
            }
            Err(error) => Err(self.say_where(error, &progress)),
        }
    }

    /// Adds where it stands to an error.
    fn say_where(&self, error: Error, progress: &Progress) -> Error {
        let stand = if self.is_single_transaction {
            "nothing was sent".to_owned()
        } else if progress.line == 0 {
            "nothing was sent; it begins with line 1".to_owned()
        } else {
            format!("sent up to line {0}; go on with --skip {0}", progress.line)
        };
        let is_unknown = error.kind == ErrorKind::Connection && !self.is_single_transaction;
        let doubt = if is_unknown { ", if the batch after that was not committed" } else { "" };
        let detail = match &error.detail {
            Some(detail) => format!("{detail}\n{stand}{doubt}"),
            None => format!("{stand}{doubt}"),
        };
        error.with_detail(detail)
    }

    async fn send_all(
        &self,
        app: &mut App,
        mut batches: mpsc::Receiver<Read>,
        progress: &mut Progress,
        bar: &ProgressBar,
    ) -> Result<()> {
        let is_dry = app.options.dry_run;
        let session = app.session().await?;
        if self.is_single_transaction && !is_dry {
            session.execute("BEGIN").await?;
        }
        let mut interrupt = std::pin::pin!(tokio::signal::ctrl_c());
        loop {
            // A batch that is being sent comes to its end first.
            let batch = tokio::select! {
                biased;
                _ = &mut interrupt => return Err(Error::new(ErrorKind::Interrupted, "interrupted")),
                batch = batches.recv() => batch,
            };
            let Some(batch) = batch else { break };
            let batch = batch?;
            let (count, line, bytes) = (batch.count, batch.last_line, batch.bytes_read);
            if !is_dry {
                self.send(session, batch).await?;
            }
            progress.sent += count;
            progress.line = line;
            bar.set_position(bytes);
            bar.set_message(format!("{} messages", progress.sent));
        }
        if self.is_single_transaction && !is_dry {
            session.execute("COMMIT").await?;
        }
        Ok(())
    }

    async fn send(&self, session: &Session, batch: Batch) -> Result<()> {
        if batch.count == 0 {
            return Ok(());
        }
        let numbers: Vec<Option<u64>> = (1..=batch.count).map(|n| batch.line_of(n)).collect();
        let first = batch.first_line;
        match batch.into_work(&self.stream) {
            Work::Copy(sql, bytes) => {
                session.copy_in(&sql, bytes).await.map(|_| ()).map_err(|error| {
                    let at =
                        error.line.and_then(|n| numbers.get(n as usize - 1).copied().flatten());
                    match at {
                        Some(line) => at_line(line, error),
                        None => error,
                    }
                })
            }
            Work::Statements(statements) => {
                let sql: Vec<&str> = statements.iter().map(|s| s.sql.as_str()).collect();
                // As one string they are one transaction.
                let result = session.execute(&sql.join(";\n")).await;
                result.map_err(|mut error| {
                    error.message = format!("in the batch from line {first}: {}", error.message);
                    error
                })
            }
        }
    }
}

fn at_line(line: u64, mut error: Error) -> Error {
    error.message = format!("line {line}: {}", error.message);
    error
}

/// Of a file on a terminal; hidden elsewhere.
fn progress_bar(from: &str) -> ProgressBar {
    let length = std::fs::metadata(from).map(|metadata| metadata.len()).ok();
    let (Some(length), true) = (length, std::io::stderr().is_terminal()) else {
        return ProgressBar::hidden();
    };
    let bar = ProgressBar::new(length);
    let template = "{bar:40} {percent}% {msg}, {eta} left";
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    bar
}

async fn read(from: String, skip: u64, batches: mpsc::Sender<Read>) {
    let result = match from.as_str() {
        "-" => {
            let input = BufReader::with_capacity(BUFFER, tokio::io::stdin());
            read_lines(input, skip, &batches).await
        }
        path => match tokio::fs::File::open(Path::new(path)).await {
            Ok(file) => read_lines(BufReader::with_capacity(BUFFER, file), skip, &batches).await,
            Err(error) => Err(Error::usage(format!("could not open \"{path}\": {error}"))
                .with_hint("--from takes a file of JSON lines, or - for standard input.")),
        },
    };
    if let Err(error) = result {
        // Nobody listens any more if this fails.
        let _ = batches.send(Err(error)).await;
    }
}

/// Of a file that is read.
const BUFFER: usize = 1 << 20;

async fn read_lines(
    mut input: impl AsyncBufRead + Unpin,
    skip: u64,
    batches: &mpsc::Sender<Read>,
) -> Result<()> {
    let mut line = Vec::new();
    let (mut number, mut bytes_read) = (0, 0);
    let mut batch = Batch::new(1);
    loop {
        let next = input.read_until(b'\n', &mut line);
        // What has been read of a line stays in it if the time is over.
        let length = match batch.count {
            0 => next.await?,
            _ => match timeout(LINGER, next).await {
                Ok(length) => length?,
                Err(_) => {
                    let full = std::mem::replace(&mut batch, Batch::new(number + 1));
                    if batches.send(Ok(full)).await.is_err() {
                        return Ok(());
                    }
                    continue;
                }
            },
        };
        if length == 0 && line.is_empty() {
            break;
        }
        number += 1;
        bytes_read += line.len() as u64;
        if number > skip {
            let refused = |what: String| bad_line(number, &what);
            if !batch.add(&line, number).map_err(refused)? {
                let full = std::mem::replace(&mut batch, Batch::new(number));
                if batches.send(Ok(full)).await.is_err() {
                    return Ok(());
                }
                batch.add(&line, number).map_err(refused)?;
            }
            batch.bytes_read = bytes_read;
            if batch.is_full() {
                let full = std::mem::replace(&mut batch, Batch::new(number + 1));
                if batches.send(Ok(full)).await.is_err() {
                    return Ok(());
                }
            }
        }
        line.clear();
    }
    let _ = batches.send(Ok(batch)).await;
    Ok(())
}

fn bad_line(number: u64, what: &str) -> Error {
    Error::usage(format!("line {number} is no message: {what}")).with_hint(
        "A line is an object with key and data, and headers, dedup_id, deliver_at if you like: {\"key\": \"a.b\", \"data\": {}}",
    )
}
