//! Reads that the rules have asked for: the configuration, the journals, and the streams' tables.

use super::{Worker, table_of};
use crate::error::{Error, Result};
use crate::pg::exec::catalog;
use crate::pg::exec::snapshot::Snapshot;
use crate::pg::process;
use crate::pg::shared::session_entry;
use crate::store::messages::{self, Table};
use crate::store::streams::{self, Tail};
use crate::store::{consumers, journal, retention, sources};
use sequin_engine::changes::Changes;
use sequin_engine::dispatcher::{Config, Failure, Found, Journal, Look};
use sequin_engine::fault::{Fault, Known};
use sequin_engine::ids::{ConsumerId, Generation, StreamId};
use sequin_engine::key::Seq;

/// Rows read at a time. That takes about 1 ms: other sessions wait no longer for it (I11), and the cost of the
/// transaction around it, about 15 us, hardly matters.
const READ_ROWS: usize = 2048;

impl Worker {
    /// Reads the streams and consumers that have changed; and the sources, which the rules know nothing of, and applies
    /// these. `None` if the extension is gone.
    pub(super) fn read_config(&mut self, changes: &Changes) -> Result<Option<Config>, String> {
        let read = process::transaction(|| {
            if catalog::extension().is_none() {
                return Ok(None);
            }
            let streams = streams::list(changes.streams())?;
            if retention::has_any()? {
                self.database.janitor.want();
            }
            Ok(Some((streams, consumers::list(changes.consumers())?, sources::list()?)))
        })?;
        Ok(read.map(|(streams, consumers, sources)| {
            self.apply_sources(&sources);
            Config { streams, consumers }
        }))
    }

    /// A stream's last value.
    pub(super) fn open(&mut self, stream: StreamId, known: Known) -> Result<Known, Failure> {
        let name = self.name_of(stream)?;
        process::try_transaction(|| Ok(locked(stream, streams::tail(&name, known))))?
    }

    /// What the tables have of a consumer.
    pub(super) fn restore(&mut self, id: ConsumerId) -> Result<Journal, Failure> {
        let generation =
            self.rules.config(id).map_or(Generation::default(), |config| config.generation);
        Ok(process::try_transaction(|| journal::read(id, generation))?)
    }

    /// A look: reads old holes that may have filled, and the tail of a stream.
    pub(super) fn look(&mut self, stream: StreamId, known: Known) -> Result<Look, Failure> {
        let name = self.name_of(stream)?;
        let (rules, database, table) = (&mut self.rules, self.database, table_of(stream));
        process::try_transaction(|| {
            let known = match locked(stream, streams::tail(&name, known)) {
                Ok(known) => known,
                Err(failure) => return Ok(Err(failure)),
            };
            let publishers = session_entry::publishers(database, table);
            // One snapshot for all that is read: so a transaction that commits meanwhile is seen whole or not at all.
            let snapshot = Snapshot::newest();
            let open = publishers.open(|xid| snapshot.is_running(xid));
            let Some(plan) = rules.plan_look(stream, known.last, open) else {
                return Ok(Err(Failure::Missing));
            };
            let read = || {
                let late = messages::rows_in(&snapshot, table, &plan.recheck, READ_ROWS)?;
                let scan = plan.scan.filter(|_| late.reached.is_end());
                let scan = scan.map(|(after, upto)| (after + 1, upto));
                let new = messages::rows_in(&snapshot, table, scan.as_slice(), READ_ROWS)?;
                let is_nothing =
                    new.reached.is_end() && new.rows.is_empty() && late.rows.is_empty();
                let beyond = match is_nothing {
                    true => messages::beyond(&snapshot, table, known.last)?,
                    false => None,
                };
                Ok((late, new, beyond))
            };
            let found = unless_locked(read());
            snapshot.close();
            let (late, new, beyond) = match found? {
                Ok(found) => found,
                Err(failure) => return Ok(Err(failure)),
            };
            match beyond.map(|seq| used(stream, &name, known, seq)) {
                Some(Err(failure)) => Ok(Err(failure)),
                _ => Ok(Ok(Look { known, plan, late, new })),
            }
        })?
    }

    /// Rows for a consumer that is behind the tail.
    pub(super) fn read_range(
        &mut self,
        stream: StreamId,
        after: Seq,
        upto: Seq,
    ) -> Result<Found, Failure> {
        let name = self.name_of(stream)?;
        process::try_transaction(|| match messages::try_lock(&name) {
            Table::Locked(table) if table == table_of(stream) => {
                unless_locked(messages::rows(table, &[(after + 1, upto)], READ_ROWS))
            }
            Table::Busy => Ok(Err(Failure::Locked)),
            Table::Locked(_) | Table::Missing => Ok(Err(Failure::Missing)),
        })?
    }

    fn name_of(&self, stream: StreamId) -> Result<String, Failure> {
        self.rules.stream_name(stream).map(str::to_owned).ok_or(Failure::Missing)
    }
}

/// What was read, or that somebody has locked a partition.
fn unless_locked<R>(read: Result<R>) -> Result<Result<R, Failure>> {
    match read {
        Err(Error::PartitionLocked(_)) => Ok(Err(Failure::Locked)),
        other => other.map(Ok),
    }
}

/// Checks that a stream's sequence has given a seq that a message has: perhaps after it was last looked at. A message that
/// was given its seq otherwise (a COPY from another stream) is not read before the sequence has come that far.
fn used(stream: StreamId, name: &str, known: Known, seq: Seq) -> Result<(), Failure> {
    let last = locked(stream, streams::tail(name, known))?.last;
    match seq <= last {
        true => Ok(()),
        false => Err(Failure::Damaged(Fault::WentBack { last, known: seq })),
    }
}

/// The result for the rules. A table that was created anew under the same name is another stream.
fn locked(stream: StreamId, tail: Tail) -> Result<Known, Failure> {
    match tail {
        Tail::Locked(table, known) if table == table_of(stream) => Ok(known),
        Tail::Broken(fault) => Err(Failure::Damaged(fault)),
        Tail::Busy => Err(Failure::Locked),
        Tail::Locked(..) | Tail::Missing => Err(Failure::Missing),
    }
}
