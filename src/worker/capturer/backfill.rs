//! Reading the rows that a table has already, while it is written to, with no lock on it and no long snapshot.
//!
//! A chunk is read under a fresh snapshot, then a watermark goes into the WAL, and when WAL has been decoded up to
//! there, the chunk follows the changes before the watermark into the stream, without the rows that were changed
//! by transactions which the snapshot did not see. So no row goes back behind a change that was captured before.
//!
//! DBLog has a second watermark below the chunk, in place of the snapshot; but the order of commits in WAL is not
//! the order in which they become visible. So a chunk is read only when all transactions that were decoded before
//! are visible.

use super::relations::Known;
use super::writing::Writer;
use crate::capture::json;
use crate::capture::message::{Change, Message, Table, Transaction};
use crate::capture::pgoutput::{Identity, Relation, RelationColumn};
use crate::capture::types::Types;
use crate::capture::window::{Chunk, Row};
use crate::error::{Error, Result};
use crate::pg::capturers::Capturer as Entry;
use crate::pg::decode::{self, Decoder};
use crate::pg::{condition, now, process, role, transactions};
use crate::store::backfills::{self, End, Job};
use crate::store::chunks::{self, Target, Wanted};
use crate::store::sources::Source;
use crate::store::{tables, types};
use std::time::Duration;

/// Rows of the first chunk; the next ones are larger or smaller, as their rows are.
const FIRST_ROWS: usize = 100;
const MOST_ROWS: usize = 5_000;

/// Bytes that a chunk should have: it is in memory until its watermark has been decoded.
const CHUNK_BYTES: usize = 2 << 20;

/// When a chunk is read anew that could not be written.
const RETRY: Duration = Duration::from_millis(500);

/// When a table is tried again that somebody has locked.
const RETRY_LOCKED: Duration = Duration::from_millis(100);

/// The backfills of a source, one after the other.
pub struct Backfill {
    source: String,
    publication: String,
    running: Option<Running>,
    /// There may be one to begin.
    look: bool,
    /// The last chunk could not be written.
    has_failed: bool,
    /// One that is to begin, by its id, when all transactions before this one have ended.
    waiting: Option<(i64, i64)>,
    /// Transactions that were decoded, and perhaps are not visible yet.
    decoded: Vec<u32>,
}

/// A backfill that has begun.
struct Running {
    job: Job,
    target: Target,
    /// The target as the stream's messages name it.
    table: Table,
    /// The columns that it is read in the order of.
    key: Vec<usize>,
    types: Types,
    rows: usize,
    pending: Option<Pending>,
}

/// A chunk that waits until its watermark has been decoded.
struct Pending {
    chunk: Chunk,
    count: usize,
    last_key: Vec<String>,
    watermark: u64,
    read_at: i64,
}

impl Backfill {
    pub fn new(source: &Source) -> Backfill {
        Backfill {
            source: source.name.clone(),
            publication: source.publication.clone(),
            running: None,
            look: true,
            has_failed: false,
            waiting: None,
            decoded: Vec::new(),
        }
    }

    /// Backfills may have been asked for, or cancelled.
    pub fn look_again(&mut self) {
        self.look = true;
        self.running = None;
    }

    /// A decoded transaction has changed a table.
    pub fn changed(&mut self, relation: u32, known: &Known, change: Change, xid: u32) {
        if self.running.is_none() && !self.look {
            return;
        }
        if self.decoded.last() != Some(&xid) {
            self.decoded.push(xid);
        }
        let Some(Running { target, pending: Some(pending), .. }) = &mut self.running else {
            return;
        };
        if target.oid.to_u32() != relation {
            return;
        }
        match (&known.key, change) {
            (_, Change::Truncate) | (None, _) => pending.chunk.truncated(xid),
            (Some(key), change) => {
                let table = &known.table;
                for values in [table.new_values(change, key), table.old_values(change, key)] {
                    values.iter().for_each(|values| pending.chunk.changed(xid, values));
                }
            }
        }
    }

    /// Does what there is to do now: reads a chunk, or writes the one that has been read. True if there is more.
    pub fn step(
        &mut self,
        entry: &Entry,
        decoder: &Decoder,
        writer: &mut Writer,
    ) -> Result<bool, String> {
        if self.running.is_none() {
            if !self.look {
                return Ok(false);
            }
            self.begin(writer)?;
        }
        let Some(running) = &mut self.running else { return Ok(false) };
        match running.pending.take_if(|pending| pending.watermark <= decoder.position()) {
            Some(pending) => self.write(entry, pending, writer),
            None if running.pending.is_none() => self.read()?,
            // The rest of the WAL up to the watermark is decoded first.
            None => {}
        }
        Ok(true)
    }

    /// Takes up the next backfill, if there is one.
    fn begin(&mut self, writer: &Writer) -> Result<(), String> {
        let Some(job) = process::transaction(|| backfills::next(&self.source))? else {
            self.look = false;
            self.decoded.clear();
            return Ok(());
        };
        if !self.may_begin(job.id)? {
            return Ok(());
        }
        match process::transaction(|| chunks::target(&self.publication, job.tbl)) {
            Ok(Some(target)) => {
                let table = described(&target, writer);
                match key_of(&target, &table) {
                    Ok(key) => {
                        let (types, rows, pending) = (Types::default(), FIRST_ROWS, None);
                        self.running =
                            Some(Running { job, target, table, key, types, rows, pending });
                        Ok(())
                    }
                    Err(reason) => self.end(job.id, Err(reason.into())),
                }
            }
            Ok(None) => self.end(job.id, Err("the publication does not have the table".into())),
            Err(error) => self.end(job.id, Err(error)),
        }
    }

    /// True once those transactions have ended that were open when the backfill was first seen. What they have changed
    /// before the publication had the table isn't captured, so that they must be visible to the first chunk; and one
    /// that another capturer has decoded isn't decoded again, so that it must be visible to the next chunk.
    fn may_begin(&mut self, id: i64) -> Result<bool, String> {
        let (ended, next) = process::transaction(chunks::horizon)?;
        self.decoded.retain(|&xid| transactions::is_in_progress(xid));
        let (_, until) = *self.waiting.insert(match self.waiting {
            Some(waiting) if waiting.0 == id => waiting,
            _ => (id, next),
        });
        Ok(ended >= until)
    }

    fn end(&mut self, id: i64, result: Result<(), String>) -> Result<(), String> {
        self.running = None;
        let (end, error) = match &result {
            Ok(()) => (End::Done, None),
            Err(error) => (End::Failed, Some(error.as_str())),
        };
        if let Some(error) = error {
            pgrx::warning!("sequin capturer: backfill {id} of source \"{}\": {error}", self.source);
        }
        process::transaction(|| backfills::finish(id, end, error)).map(drop)
    }

    /// Reads a chunk, once all that has been decoded is visible.
    fn read(&mut self) -> Result<(), String> {
        self.decoded.retain(|&xid| transactions::is_in_progress(xid));
        let Some(running) = &mut self.running else { return Ok(()) };
        if !self.decoded.is_empty() {
            process::wait(Some(Duration::from_millis(1)));
            return Ok(());
        }
        let Running { job, target, table, key, types, rows, .. } = running;
        // A composite type may have been altered since the last chunk.
        *types = Types::default();
        let read = process::patient_transaction(|| {
            role::as_role(job.owner, || {
                if let Some(text) = &job.condition {
                    condition::check(&target.facts.name, text)?;
                }
                let wanted = Wanted {
                    condition: job.condition.as_deref(),
                    after: job.last_key.as_deref(),
                    limit: *rows,
                };
                let (snapshot, rows) = chunks::read(target, &wanted)?;
                types::load(types, &table.type_oids().collect::<Vec<_>>())?;
                let rows = rows.into_iter().map(|texts| row(table, key, &texts, types));
                Ok((snapshot, rows.collect::<Result<Vec<Row>>>()?))
            })
        });
        let id = job.id;
        let (snapshot, found) = match read {
            Ok(read) => read,
            // An ALTER TABLE or VACUUM FULL: read later.
            Err(error) if error.is_lock => {
                process::wait(Some(RETRY_LOCKED));
                return Ok(());
            }
            Err(error) => return self.end(id, Err(error.text)),
        };
        let Some(last) = found.last() else { return self.end(id, Ok(())) };
        let last_key = last.key.clone();
        let bytes: usize = found.iter().map(|row| row.record.len()).sum();
        *rows = (found.len() * CHUNK_BYTES / bytes.max(1)).clamp(1, (*rows * 2).min(MOST_ROWS));
        let watermark = process::transaction(chunks::watermark)?;
        decode::flush(watermark);
        let count = found.len();
        let chunk = Chunk::new(snapshot, found);
        running.pending = Some(Pending { chunk, count, last_key, watermark, read_at: now() });
        Ok(())
    }

    /// Writes the rows of a chunk that still hold.
    fn write(&mut self, entry: &Entry, pending: Pending, writer: &mut Writer) {
        let Some(Running { job, table, .. }) = &mut self.running else { return };
        let Pending { chunk, count, last_key, watermark, read_at } = pending;
        // Its end is where the next record begins, which may be a commit; the byte before is nobody else's.
        let transaction = Transaction::new(watermark - 1, read_at, None);
        let rows = chunk.into_rows();
        let messages = rows
            .iter()
            .zip(0..)
            .map(|(row, n): (&Row, u64)| -> Message { table.read(&transaction, n, row) });
        let rows = i64::try_from(count).unwrap_or(i64::MAX);
        let mut goes_on = true;
        let written = writer.write_rows(messages, || {
            goes_on = backfills::progress(job.id, last_key.clone(), rows)?;
            if goes_on { Ok(()) } else { Err(Error::BackfillCancelled(job.id)) }
        });
        match written {
            Ok(()) => {
                job.last_key = Some(last_key);
                if std::mem::take(&mut self.has_failed) {
                    entry.status.set_error("");
                }
            }
            // Read anew later what can't be written now, or is not wanted any more.
            Err(error) => {
                let id = job.id;
                self.look_again();
                if goes_on {
                    if !std::mem::replace(&mut self.has_failed, true) {
                        let source = &self.source;
                        pgrx::warning!(
                            "sequin capturer: backfill {id} of source \"{source}\": {error}"
                        );
                    }
                    entry.status.set_error(&error);
                }
                process::wait(Some(RETRY));
            }
        }
    }
}

/// The columns that the table is read in the order of, or why it can't be.
fn key_of(target: &Target, table: &Table) -> Result<Vec<usize>, &'static str> {
    let names: Vec<&str> = target.facts.key.iter().map(String::as_str).collect();
    if names.is_empty() {
        return Err("the table has no primary key to be read in the order of");
    }
    table.positions(&names).ok_or("the publication does not have all columns of the table's key")
}

/// A row that was read, as a chunk has it.
fn row(table: &Table, key: &[usize], texts: &[Option<String>], types: &Types) -> Result<Row> {
    let all = |columns: &[usize]| {
        columns.iter().map(|&column| texts.get(column)?.clone()).collect::<Option<Vec<String>>>()
    };
    let named = table.columns.iter().map(|column| (column.name.as_str(), column.type_oid));
    let cast = &mut |oid: u32, text: &str| tables::to_json(oid, text);
    Ok(Row {
        key: all(key).unwrap_or_default(),
        pk: all(&table.pk).filter(|pk| !pk.is_empty()),
        columns: table.key_values(texts),
        record: json::record::<Error>(types, named.zip(texts), cast)?,
    })
}

/// The table as the stream's messages name it.
fn described(target: &Target, writer: &Writer) -> Table {
    let columns = target.columns.iter().map(|(name, type_oid)| RelationColumn {
        name,
        type_oid: *type_oid,
        is_key: target.facts.key.contains(name),
    });
    let relation = Relation {
        oid: target.oid.to_u32(),
        schema: &target.schema,
        name: &target.name,
        identity: Identity::Default,
        columns: columns.collect(),
    };
    let key: Vec<&str> = target.facts.key.iter().map(String::as_str).collect();
    Table::new(&writer.source, &relation, &key)
}
