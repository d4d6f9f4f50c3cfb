//! From decoded changes to messages in the stream, with the position up to which they go, in one transaction.

use super::backfill::Backfill;
use super::last_changes::LastChanges;
use super::relations::{Known, Relations};
use crate::error::{Error, Result};
use crate::pg::exec::{memory, role};
use crate::pg::process;
use crate::pg::wal::spool::Spool;
use crate::pg::wal::transactions;
use crate::store::source_progress::Progress;
use crate::store::sources::Source;
use crate::store::{messages, source_progress, streams, tables};
use pgrx::pg_sys::Oid;
use sequin_capture::decoded::{self, Decoded, Generated};
use sequin_capture::message::{self, Change, Lookup, Message, Transaction};
use sequin_capture::pgoutput;
use std::time::Duration;

/// The most messages that are inserted at a time, and the bytes after which they are: enough to share the cost, and
/// bounded in memory.
const BATCH: usize = 1000;
const BATCH_BYTES: usize = 4 << 20;

/// How long to wait for a transaction whose commit is in WAL but not visible yet, if values must be read from its rows.
/// The wait happens once for each transaction: one that waits for a synchronous standby delays the others no longer
/// than this.
const PATIENCE: Duration = Duration::from_millis(100);

/// Writes messages of one source.
pub struct Writer {
    id: i32,
    generation: i32,
    stream: String,
    owner: Oid,
    pub source: message::Source,
    pub relations: Relations,
    progress: Progress,
    /// The progress must be written even if it does not change: its table doesn't have it yet.
    unsaved: bool,
}

/// The messages that one transaction of the writer has still to insert, and has inserted.
struct Batch<'a> {
    stream: &'a str,
    table: Oid,
    keys: Vec<String>,
    data: Vec<String>,
    bytes: usize,
    written: i64,
}

/// Where in the decoded changes the writer is.
struct Place {
    /// The source's transaction.
    transaction: Transaction,
    xid: u32,
    /// How many transactions came before it in this round.
    ordinal: i64,
    /// How many messages it has so far.
    index: u64,
    /// How many changes it has so far, including those of tables that are not captured.
    changes: u64,
    /// Its messages were written before.
    skipped: bool,
    /// Whether its rows are visible in the table, once that has been asked.
    visible: Option<bool>,
}

impl Writer {
    pub fn new(source: &Source, named: message::Source, progress: Option<Progress>) -> Writer {
        Writer {
            id: source.id,
            generation: source.generation,
            stream: source.stream.clone(),
            owner: source.owner,
            source: named,
            relations: Relations::default(),
            unsaved: false,
            progress: progress.unwrap_or_default(),
        }
    }

    /// Sets the LSN of the commit that opens the source: what commits after it is captured.
    pub fn start_lsn(&mut self, lsn: u64) {
        // The changes of that transaction itself are not captured.
        self.progress.lsn = self.progress.lsn.max(lsn);
        self.unsaved = true;
    }

    /// Writes all decoded changes, or nothing, and reports them to the backfill.
    pub fn write(&mut self, spool: &mut Spool, backfill: &mut Backfill) -> Result<(), String> {
        if spool.len() == 0 && !self.unsaved {
            return Ok(());
        }
        let before = self.relations.clone();
        let written = self.in_transaction(|writer, progress| {
            role::as_role(writer.owner, || writer.write_changes(spool, backfill, progress))
        });
        if written.is_err() {
            // All messages are read again, and so are the descriptions of tables among them.
            self.relations = before;
        }
        written
    }

    /// Runs `f` in a transaction, which also writes the progress that `f` has made.
    fn in_transaction(
        &mut self,
        f: impl FnOnce(&mut Writer, &mut Progress) -> Result<()>,
    ) -> Result<(), String> {
        let mut progress = self.progress.clone();
        process::transaction(|| {
            f(self, &mut progress)?;
            if progress != self.progress || self.unsaved {
                progress.id += 1;
                source_progress::write(self.id, self.generation, &progress)?;
            }
            Ok(())
        })?;
        self.unsaved = false;
        self.progress = progress;
        Ok(())
    }

    fn write_changes(
        &mut self,
        spool: &mut Spool,
        backfill: &mut Backfill,
        progress: &mut Progress,
    ) -> Result<()> {
        if spool.len() == 0 {
            return Ok(());
        }
        let mut batch = Batch::new(&self.stream)?;
        let Writer { source, relations, .. } = self;
        let mut place = None;
        match spool.in_memory() {
            Some(all) => {
                let mut last = LastChanges::new(all.clone());
                let mut each = Each { source, relations, backfill, progress, batch: &mut batch };
                for bytes in all {
                    each.message(bytes, &mut place, Some(&mut last))?;
                }
            }
            None => {
                let mut each = Each { source, relations, backfill, progress, batch: &mut batch };
                spool.read(|bytes| each.message(bytes, &mut place, None))?;
            }
        }
        batch.end(progress)
    }

    /// Writes the rows of a backfill's chunk, and what `also` writes, in one transaction.
    pub fn write_rows(
        &mut self,
        mut messages: impl Iterator<Item = Message>,
        also: impl FnOnce() -> Result<()>,
    ) -> Result<(), String> {
        self.in_transaction(|writer, progress| {
            role::as_role(writer.owner, || -> Result<()> {
                let mut batch = Batch::new(&writer.stream)?;
                messages.try_for_each(|message| batch.push(message))?;
                batch.end(progress)
            })?;
            also()
        })
    }
}

/// What handling one decoded message needs.
struct Each<'a, 'b> {
    source: &'a message::Source,
    relations: &'a mut Relations,
    backfill: &'a mut Backfill,
    progress: &'a mut Progress,
    batch: &'a mut Batch<'b>,
}

impl Each<'_, '_> {
    fn message(
        &mut self,
        bytes: &[u8],
        place: &mut Option<Place>,
        last: Option<&mut LastChanges>,
    ) -> Result<()> {
        use pgoutput::Message::*;
        let decoded = decoded::parse(bytes).map_err(|e| Error::Internal(e.to_string()))?;
        let (message, generated) = match decoded {
            Decoded::Described(described) => {
                return self.relations.describe(self.source, &described);
            }
            Decoded::Message(message, generated) => (message, generated),
        };
        match (self.complete(message, generated)?, place) {
            (Begin { commit_lsn, commit_time, xid }, place) => {
                let ordinal = place.as_ref().map_or(0, |place| place.ordinal + 1);
                *place = Some(Place {
                    transaction: Transaction::new(commit_lsn, commit_time, Some(xid)),
                    xid,
                    ordinal,
                    index: 0,
                    changes: 0,
                    skipped: commit_lsn <= self.progress.lsn,
                    visible: None,
                });
                Ok(())
            }
            (Commit { commit_lsn, commit_time, .. }, _) => {
                if commit_lsn > self.progress.lsn {
                    self.progress.lsn = commit_lsn;
                    self.progress.commit_time = Some(commit_time);
                }
                Ok(())
            }
            (Relation(relation), _) => {
                self.relations.relation(relation.oid, bytes);
                Ok(())
            }
            (Insert { relation, new }, Some(place)) => {
                self.change(relation, Change::Insert { new: &new }, place, last)
            }
            (Update { relation, old, new }, Some(place)) => {
                let change = Change::Update { old: old.as_ref(), new: &new };
                self.change(relation, change, place, last)
            }
            (Delete { relation, old }, Some(place)) => {
                self.change(relation, Change::Delete { old: &old }, place, last)
            }
            (Truncate { relations }, Some(place)) => relations
                .into_iter()
                .try_for_each(|relation| self.change(relation, Change::Truncate, place, None)),
            _ => Ok(()),
        }
    }

    /// Puts the values of generated columns into the rows of a change.
    fn complete<'c>(
        &self,
        mut message: pgoutput::Message<'c>,
        generated: Option<Generated<'c>>,
    ) -> Result<pgoutput::Message<'c>> {
        use pgoutput::Message::*;
        if let (
            Some(generated),
            Insert { relation, .. } | Update { relation, .. } | Delete { relation, .. },
        ) = (generated, &message)
            && let Some(known) = self.relations.get(*relation)?
        {
            generated.complete(&known.table, &mut message);
        }
        Ok(message)
    }

    fn change(
        &mut self,
        relation: u32,
        change: Change,
        place: &mut Place,
        last: Option<&mut LastChanges>,
    ) -> Result<()> {
        place.changes += 1;
        let Some(known) = self.relations.get(relation)? else { return Ok(()) };
        if place.skipped {
            return Ok(());
        }
        self.backfill.changed(relation, known, change, place.xid);
        let filled = self.fill(known, relation, change, place, last);
        let cast = &mut |oid: u32, text: &str| -> Result<String> {
            memory::scoped(|| tables::to_json(oid, text))
        };
        let lookup = Lookup { filled: &filled };
        let message = known.table.message(
            &known.types,
            &place.transaction,
            place.index,
            change,
            &lookup,
            cast,
        )?;
        place.index += 1;
        self.batch.push(message)
    }

    /// Values of a new row that WAL does not have, as far as the table can tell for certain.
    fn fill(
        &self,
        known: &Known,
        relation: u32,
        change: Change,
        place: &mut Place,
        last: Option<&mut LastChanges>,
    ) -> Vec<(usize, String)> {
        let missing = known.table.unfilled(change);
        let Some(last) = last.filter(|_| !missing.is_empty()) else { return Vec::new() };
        let Some(pk) = known.table.new_values(change, &known.table.pk) else { return Vec::new() };
        let changes = last.of(self.source, self.relations, place.ordinal, relation, &pk);
        if changes != Some(place.changes) {
            return Vec::new();
        }
        let xid = place.xid;
        match *place.visible.get_or_insert_with(|| transactions::wait_for_end(xid, PATIENCE)) {
            true => known.look_up(change, &missing, xid),
            false => Vec::new(),
        }
    }
}

impl<'a> Batch<'a> {
    fn new(stream: &'a str) -> Result<Batch<'a>> {
        let table = streams::table(stream)?;
        Ok(Batch { stream, table, keys: Vec::new(), data: Vec::new(), bytes: 0, written: 0 })
    }

    fn push(&mut self, message: Message) -> Result<()> {
        self.bytes += message.data.len();
        self.keys.push(message.key);
        self.data.push(message.data);
        if self.keys.len() >= BATCH || self.bytes >= BATCH_BYTES { self.flush() } else { Ok(()) }
    }

    /// Writes the rest, and counts all of it.
    fn end(mut self, progress: &mut Progress) -> Result<()> {
        self.flush()?;
        progress.captured_total += self.written;
        Ok(())
    }

    fn flush(&mut self) -> Result<()> {
        if self.keys.is_empty() {
            return Ok(());
        }
        self.written += self.keys.len() as i64;
        self.bytes = 0;
        let (keys, data) = (std::mem::take(&mut self.keys), std::mem::take(&mut self.data));
        memory::scoped(|| messages::insert_texts(self.stream, self.table, keys, data))
    }
}
