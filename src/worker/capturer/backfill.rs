//! Backfills: capturing a table's existing rows while other sessions write it, without a long lock or a long snapshot.
//!
//! A chunk is read under a fresh snapshot, then a watermark goes into the WAL, and when WAL has been decoded up to
//! there, the chunk follows the changes before the watermark into the stream, without the rows that were changed
//! by transactions which the snapshot did not see. So no row goes back behind a change that was captured before.
//!
//! The DBLog algorithm has a second watermark before the chunk, in place of the snapshot. That is not enough here:
//! commits become visible in another order than that in WAL. So a chunk is read only when all transactions that were
//! decoded before are visible.

use super::chunk::{self, Attempt};
use super::relations::Known;
use super::writing::Writer;
use crate::error::Error;
use crate::pg::shared::capturers::Capturer as Entry;
use crate::pg::wal::decode::Decoder;
use crate::pg::wal::{position, transactions};
use crate::pg::{now, process};
use crate::store::backfills::{self, End, Job};
use crate::store::chunks::{self, Target};
use crate::store::sources::Source;
use sequin_capture::message::{self, Change, Message, Table, Transaction};
use sequin_capture::types::Types;
use sequin_capture::window::{Chunk, Row, Snapshot};
use sequin_engine::settings::Micros;
use std::time::Duration;

/// Rows of the first chunk. The number of the next ones depends on the size of the rows.
const FIRST_ROWS: usize = 100;
const MOST_ROWS: usize = 5_000;

/// Bytes that a chunk should have: it is in memory until its watermark has been decoded.
const CHUNK_BYTES: usize = 2 << 20;

/// After which time a chunk that could not be written is read again.
const RETRY: Micros = 500_000;

/// After which time a table that another session has locked is tried again.
const RETRY_LOCKED: Micros = 100_000;

/// The backfills of a source, one after the other.
pub struct Backfill {
    source: String,
    publication: String,
    running: Option<Running>,
    /// There may be a backfill to begin.
    look: bool,
    /// The last chunk could not be written.
    has_failed: bool,
    /// No step of a backfill is tried before this time. Changes are captured meanwhile.
    not_before: Micros,
    /// The id of the backfill that is to begin, and a transaction id: all transactions below must have ended first.
    waiting: Option<(i64, i64)>,
    /// Transactions that were decoded, and perhaps are not visible yet.
    decoded: Vec<u32>,
}

/// A backfill that has begun.
struct Running {
    job: Job,
    /// The table as it was when the last chunk was read.
    target: Option<Box<Target>>,
    types: Types,
    rows: usize,
    pending: Option<Pending>,
}

/// A chunk that waits until its watermark has been decoded.
struct Pending {
    /// See [`Target`]: as the table was when the chunk was read.
    version: String,
    key_version: String,
    /// The table as messages describe it.
    table: Box<Table>,
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
            not_before: 0,
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
        let Some(Running { job, pending: Some(pending), .. }) = &mut self.running else {
            return;
        };
        if job.tbl.to_u32() != relation {
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
        if now() < self.not_before {
            return Ok(false);
        }
        if self.running.is_none() {
            if !self.look {
                return Ok(false);
            }
            self.begin()?;
            // No backfill is left that the last failure could be about.
            if !self.look && std::mem::take(&mut self.has_failed) {
                entry.status.set_error("");
            }
        }
        let Some(running) = &mut self.running else { return Ok(false) };
        match running.pending.take_if(|pending| pending.watermark <= decoder.position()) {
            Some(pending) => self.write(entry, pending, writer),
            None if running.pending.is_none() => self.read(&writer.source)?,
            // The rest of the WAL up to the watermark is decoded first.
            None => {}
        }
        Ok(true)
    }

    /// Takes up the next backfill, if there is one.
    fn begin(&mut self) -> Result<(), String> {
        let Some(job) = process::transaction(|| backfills::next(&self.source))? else {
            self.look = false;
            self.decoded.clear();
            return Ok(());
        };
        if self.may_begin(job.id)? {
            let (target, types, pending) = (None, Types::default(), None);
            self.running = Some(Running { job, target, types, rows: FIRST_ROWS, pending });
        }
        Ok(())
    }

    /// True once those transactions have ended that were open when the backfill was first seen. Changes that they made
    /// before the publication had the table aren't captured, so these must be visible to the first chunk. And
    /// transactions that an earlier capturer process has decoded aren't decoded again, so these must be visible to the
    /// next chunk.
    fn may_begin(&mut self, id: i64) -> Result<bool, String> {
        let (ended, next) = process::transaction(chunks::horizon)?;
        self.decoded.retain(|&xid| transactions::is_in_progress(xid));
        let (_, until) = *self.waiting.insert(match self.waiting {
            Some(waiting) if waiting.0 == id => waiting,
            _ => (id, next),
        });
        Ok(ended >= until)
    }

    fn end(&mut self, id: i64, end: End, error: Option<&str>) -> Result<(), String> {
        self.running = None;
        if let (End::Failed, Some(error)) = (end, error) {
            pgrx::warning!("sequin capturer: backfill {id} of source \"{}\": {error}", self.source);
        }
        process::transaction(|| backfills::finish(id, end, error)).map(drop)
    }

    /// True once all that has been decoded is visible. Waits a moment otherwise.
    fn all_is_visible(&mut self) -> bool {
        self.decoded.retain(|&xid| transactions::is_in_progress(xid));
        if !self.decoded.is_empty() {
            process::wait(Some(Duration::from_millis(1)));
        }
        self.decoded.is_empty()
    }

    /// Reads a chunk, once all that has been decoded is visible.
    fn read(&mut self, source: &message::Source) -> Result<(), String> {
        if !self.all_is_visible() {
            return Ok(());
        }
        let Some(running) = &mut self.running else { return Ok(()) };
        let id = running.job.id;
        // A composite type may have been altered since the last chunk.
        running.types = Types::default();
        let attempt = process::try_transaction(|| {
            let Running { job, target, types, rows, .. } = running;
            chunk::read(&self.publication, source, (job, types, *rows), target)
        });
        match attempt {
            Ok(Attempt::Read(_, _, rows)) if rows.is_empty() => self.end(id, End::Done, None),
            Ok(Attempt::Read(table, snapshot, rows)) => running.has_read(table, snapshot, rows),
            Ok(Attempt::Ends(end, reason)) => self.end(id, end, Some(reason)),
            Ok(Attempt::Locked) => {
                self.not_before = now() + RETRY_LOCKED;
                Ok(())
            }
            // Read it later if a lock was in the way, or if the table has changed meanwhile: ALTER SCHEMA takes no lock
            // on it.
            Err(error) => {
                let read = running.target.as_ref().map(|target| target.version.clone());
                if !error.is_lock && read.is_none_or(|read| !self.has_changed(&read)) {
                    return self.end(id, End::Failed, Some(&error.text));
                }
                self.not_before = now() + RETRY_LOCKED;
                Ok(())
            }
        }
    }

    /// True if the table is not any more what it was when it was read.
    fn has_changed(&self, read: &str) -> bool {
        let Some(running) = &self.running else { return false };
        let now = process::transaction(|| chunks::version(&self.publication, running.job.tbl));
        !matches!(now, Ok(Some(now)) if now == read)
    }

    /// Writes the rows of a chunk that have not changed since they were read. If the table was altered since, writes
    /// nothing: the chunk is read again from the table as it is now.
    fn write(&mut self, entry: &Entry, pending: Pending, writer: &mut Writer) {
        // The check below must see all decoded changes of the catalogs: the key of the table may be another one.
        if !self.all_is_visible() {
            if let Some(running) = &mut self.running {
                running.pending = Some(pending);
            }
            return;
        }
        if self.has_changed(&pending.version) {
            return;
        }
        let Some(Running { job, .. }) = &mut self.running else { return };
        let Pending { key_version, table, chunk, count, last_key, watermark, read_at, .. } =
            pending;
        // The watermark's end is the start of the next record, which may be a commit. No other record has the byte
        // before.
        let transaction = Transaction::new(watermark - 1, read_at, None);
        let rows = chunk.into_rows();
        let messages = rows
            .iter()
            .zip(0..)
            .map(|(row, n): (&Row, u64)| -> Message { table.read(&transaction, n, row) });
        let rows = i64::try_from(count).unwrap_or(i64::MAX);
        let mut goes_on = true;
        let written = writer.write_rows(messages, || {
            goes_on = backfills::progress(job.id, last_key.clone(), &key_version, rows)?;
            if goes_on { Ok(()) } else { Err(Error::BackfillCancelled(job.id)) }
        });
        match written {
            Ok(()) => {
                job.last_key = Some(last_key);
                job.key_version = Some(key_version);
                if std::mem::take(&mut self.has_failed) {
                    entry.status.set_error("");
                }
            }
            // What can't be written now is read again later, if the backfill still exists then.
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
                self.not_before = now() + RETRY;
            }
        }
    }
}

impl Running {
    /// Keeps the rows of a chunk, at least one, and writes a watermark into WAL after them.
    fn has_read(
        &mut self,
        table: Box<Table>,
        snapshot: Snapshot,
        rows: Vec<Row>,
    ) -> Result<(), String> {
        let Some(target) = &self.target else { return Ok(()) };
        let (version, key_version) = (target.version.clone(), target.key_version.clone());
        let (count, last) = (rows.len(), rows.last());
        let last_key = last.map(|row| row.key.clone()).unwrap_or_default();
        let bytes: usize = rows.iter().map(|row| row.record.len()).sum();
        self.rows = (count * CHUNK_BYTES / bytes.max(1)).clamp(1, (self.rows * 2).min(MOST_ROWS));
        let watermark = process::transaction(chunks::watermark)?;
        position::flush(watermark);
        let (chunk, read_at) = (Chunk::new(snapshot, rows), now());
        self.pending = Some(Pending {
            version,
            key_version,
            table,
            chunk,
            count,
            last_key,
            watermark,
            read_at,
        });
        Ok(())
    }
}
