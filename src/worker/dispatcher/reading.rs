//! Reading the streams' tables: the tail for all who keep up with it, and for each who doesn't his own part.
//! Only as much as somebody waits for: a stream that nobody receives from costs nothing.

use super::Dispatcher;
use crate::pg::exec::snapshot::Snapshot;
use crate::pg::shared::session_entry;
use crate::pg::{now, process};
use crate::store::messages::{self, Table};
use crate::store::streams::{self, Tail};
use sequin_engine::settings::Micros;
use sequin_engine::stream::ConsumerId;

/// Rows read at a time: about 1 ms, so that nobody else waits longer for that (I11), and enough to make the
/// transaction around it, about 15 us, cheap.
const READ_ROWS: usize = 2048;

/// Ranges of holes looked at again at a time: an index descent, about 1 us, each.
const READ_RANGES: usize = 1024;

/// Reads for one consumer before the others have their turn.
const READS_PER_TURN: usize = 4;

/// When a locked table is tried again.
pub(super) const RETRY_LOCKED: Micros = 100_000;

/// When a table is tried again that can't be read for another reason: each time is a line in the server's log.
const RETRY_FAILED: Micros = 5_000_000;

/// And when for those who can't wait: they ask every 0.1 s until their patience ends.
const RETRY_ASKED: Micros = 1_000_000;

/// What looking for messages has come to.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Looked {
    /// What is wanted is loaded, or all that there is.
    Well,
    /// There is more to be read, when the others have had their turn.
    More,
    /// The table can't be read now.
    NotNow,
}

/// What a read brought.
enum Progress {
    /// There may be more: read on.
    More,
    /// All that is there has been offered.
    AtTheEnd,
    /// The table can't be read now.
    NotNow,
}

impl Dispatcher {
    /// Has at least `wanted` messages of the consumer deliverable, as far as there are any. If it didn't go well, there may
    /// be earlier ones than those that are: see [`Dispatcher::has_late`].
    ///
    /// If all who wait can wait on, the table isn't looked at before somebody publishes. Who is to be told that there is
    /// nothing may know of a commit that is visible and has not been announced yet: for him it is.
    pub(super) fn load_messages(
        &mut self,
        id: ConsumerId,
        wanted: usize,
        can_wait: bool,
    ) -> Looked {
        for _ in 0..READS_PER_TURN {
            let Some(consumer) = self.world.stream_of(id).and_then(|s| s.consumer(id)) else {
                return Looked::Well;
            };
            if consumer.settings().paused {
                return Looked::Well;
            }
            let enough = consumer.deliverable() >= wanted.min(consumer.room());
            let late = self.has_late(id);
            if enough && !late {
                return Looked::Well;
            }
            if self.is_failing(id) {
                return Looked::NotNow;
            }
            match if late { self.read_tail(id) } else { self.read_for(id, can_wait) } {
                Progress::More => {}
                Progress::AtTheEnd if late => {}
                Progress::AtTheEnd => return Looked::Well,
                Progress::NotNow => return Looked::NotNow,
            }
        }
        self.has_more.insert(id);
        Looked::More
    }

    /// Whether messages may have become visible that are earlier than some that have been read: nothing of the stream is to
    /// be given out before they have been looked for.
    pub(super) fn has_late(&mut self, id: ConsumerId) -> bool {
        let Some(table) = self.world.table_of(id) else { return false };
        let database = self.database;
        let Some(stream) = self.world.stream_of(id) else { return false };
        let tail = stream.tail();
        // Mostly there are no holes, and no entries to be looked through for their sake.
        tail.lowest_hole().is_some()
            && tail.is_outdated(session_entry::publishers(database, table).all())
    }

    fn read_for(&mut self, id: ConsumerId, can_wait: bool) -> Progress {
        let Some(state) = self.world.consumers.get(&id) else { return Progress::AtTheEnd };
        let name = state.config.stream.clone();
        let Some(stream) = self.world.stream_of(id) else { return Progress::AtTheEnd };
        if let Some((after, upto)) = stream.behind(id) {
            return self.catch_up(id, &name, after, upto);
        }
        if stream.consumer(id).is_none_or(|consumer| consumer.is_full()) {
            return Progress::AtTheEnd;
        }
        let is_caught_up = |table| self.caught_up.contains(&table);
        match can_wait && self.world.table_of(id).is_some_and(is_caught_up) {
            true => Progress::AtTheEnd,
            false => self.read_tail(id),
        }
    }

    /// Reads on for a consumer that is behind the tail.
    fn catch_up(&mut self, id: ConsumerId, name: &str, after: i64, upto: i64) -> Progress {
        let read = process::transaction(|| {
            let Table::Locked(table) = messages::try_lock(name) else { return Ok(None) };
            messages::rows(table, &[(after + 1, upto)], READ_ROWS).map(Some)
        });
        match read {
            Ok(Some(found)) => {
                if let Some(stream) = self.world.stream_of(id) {
                    stream.catch_up(id, &found, upto);
                }
                self.read_well(name);
                Progress::More
            }
            other => self.read_failed(id, name, other.map(drop)),
        }
    }

    /// Reads the tail of a stream, and old holes that may have filled: see `engine::tail` for why in this
    /// order.
    fn read_tail(&mut self, id: ConsumerId) -> Progress {
        let database = self.database;
        let Some(name) = self.world.consumers.get(&id).map(|state| state.config.stream.clone())
        else {
            return Progress::AtTheEnd;
        };
        let name = name.as_str();
        let Some(state) = self.world.streams.get_mut(name) else { return Progress::AtTheEnd };
        let Some(stream) = state.stream.as_mut() else { return Progress::AtTheEnd };
        let (mut known, mut fault) = (state.known, None);
        known.last = known.last.max(stream.tail().pos());
        let read = process::transaction(|| {
            let table = match streams::tail(name, known) {
                Tail::Locked(table, now) => {
                    known = now;
                    table
                }
                Tail::Broken(found) => {
                    fault = Some(found);
                    return Ok(None);
                }
                Tail::Busy | Tail::Missing => return Ok(None),
            };
            let publishers = session_entry::publishers(database, table);
            // One for all that is read: of a transaction that commits meanwhile nothing, or all of it.
            let snapshot = Snapshot::newest();
            let plan = stream.plan_read(
                known.last,
                publishers.open(|xid| snapshot.is_running(xid)),
                READ_RANGES,
            );
            let late = messages::rows_in(&snapshot, table, &plan.recheck, READ_ROWS)?;
            let scan =
                plan.scan.filter(|_| late.reached.is_end()).map(|(after, upto)| (after + 1, upto));
            let new = messages::rows_in(&snapshot, table, scan.as_slice(), READ_ROWS)?;
            snapshot.close();
            Ok(Some((plan, late, new)))
        });
        match read {
            Ok(Some((plan, late, new))) => {
                let more =
                    !late.reached.is_end() || !new.reached.is_end() || stream.tail().pending();
                let given = stream.apply_read(plan, &late, &new);
                state.known = known;
                let table = state.table.filter(|_| !more);
                self.caught_up.extend(table);
                self.world.touched.extend(given);
                self.read_well(name);
                self.note_fault(name, None);
                if more { Progress::More } else { Progress::AtTheEnd }
            }
            Ok(None) if fault.is_some() => {
                self.note_fault(name, fault);
                Progress::NotNow
            }
            other => self.read_failed(id, name, other.map(drop)),
        }
    }

    fn is_failing(&self, id: ConsumerId) -> bool {
        let name = self.world.consumers.get(&id).map(|state| &state.config.stream);
        let state = name.and_then(|name| self.world.streams.get(name));
        state.is_some_and(|state| state.failing_until != 0 && now() < state.failing_until)
    }

    fn read_well(&mut self, name: &str) {
        if let Some(state) = self.world.streams.get_mut(name) {
            (state.retry_at, state.failing_until) = (0, 0);
        }
    }

    /// A table that somebody has locked is tried again soon, one that fails later; other streams don't notice.
    fn read_failed(&mut self, id: ConsumerId, name: &str, read: Result<(), String>) -> Progress {
        let retry = match &read {
            Ok(()) => RETRY_LOCKED,
            Err(error) => {
                self.fail_consumer(id, &format!("cannot read stream \"{name}\""), error);
                RETRY_FAILED
            }
        };
        let at = now() + retry;
        if let Some(state) = self.world.streams.get_mut(name) {
            state.retry_at = at;
            state.failing_until = if read.is_err() { now() + RETRY_ASKED } else { 0 };
        }
        self.next_wait = self.next_wait.min(at);
        Progress::NotNow
    }
}
