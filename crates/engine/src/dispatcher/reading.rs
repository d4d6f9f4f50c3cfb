//! Reading the streams' tables: the tail once for all consumers that keep up with it, and a part of its own for each
//! that doesn't. Only as much is read as sessions wait for: a stream that nobody receives from costs nothing.

use super::filling::Fill;
use super::interface::{Effect, Failure, Look, Shared};
use super::{Dispatcher, Step};
use crate::ids::{ConsumerId, StreamId};
use crate::key::Seq;
use crate::settings::Micros;
use crate::stream::Found;

/// Ranges of holes looked at again at a time: an index descent, about 1 us, each.
pub(super) const MAX_RANGES: usize = 1024;

/// Reads for one consumer before the others have their turn.
pub(super) const READS_PER_TURN: usize = 4;

/// When a locked table is tried again.
pub(super) const RETRY_LOCKED: Micros = 100_000;

/// When a table is tried again that can't be read for another reason: each time is a line in the server's log.
pub(super) const RETRY_FAILED: Micros = 5_000_000;

/// The same for sessions that can't wait: they ask every 0.1 s until they give up.
pub(super) const RETRY_ASKED: Micros = 1_000_000;

/// What there is for waiting sessions. If not all is known, there may be earlier messages than those that are loaded:
/// see [`Dispatcher::has_late`].
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Supply {
    /// What is wanted is loaded.
    Loaded,
    /// All is loaded that there is, or that may be.
    AtTheEnd,
    /// A read is out.
    Reading,
    /// There is more to be read, when the others have had their turn.
    Later,
    /// The table can't be read now.
    NotNow,
}

impl Dispatcher {
    /// Has at least `wanted` messages of the consumer deliverable, as far as there are any.
    ///
    /// If all sessions can wait on, the table isn't looked at before somebody publishes. Before one gets an empty
    /// answer it is: its client may know of a commit that is visible and has not been announced yet.
    pub(super) fn supply<S: Shared>(
        &mut self,
        id: ConsumerId,
        wanted: usize,
        can_wait: bool,
        fill: Fill,
        s: &mut Step<S>,
    ) -> Supply {
        let late = self.has_late(id, s);
        let Some(stream) = self.world.entry_of_mut(id) else { return Supply::AtTheEnd };
        let (caught_up, failing_until) = (stream.caught_up, stream.failing_until);
        let has_looked = stream.looks > fill.looks;
        let Some(stream) = stream.stream.as_mut() else { return Supply::AtTheEnd };
        let Some(consumer) = stream.consumer(id) else { return Supply::AtTheEnd };
        if consumer.settings().paused {
            return Supply::AtTheEnd;
        }
        if consumer.deliverable() >= wanted.min(consumer.room()) && !late {
            return Supply::Loaded;
        }
        if fill.failed || s.now() < failing_until {
            return Supply::NotNow;
        }
        if fill.reads >= READS_PER_TURN {
            return Supply::Later;
        }
        if !late {
            if let Some((after, upto)) = stream.behind(id) {
                return self.read_range(id, after, upto, s);
            }
            let is_full = stream.consumer(id).is_none_or(|consumer| consumer.is_full());
            if is_full || has_looked || can_wait && caught_up {
                return Supply::AtTheEnd;
            }
        }
        self.look(id, s)
    }

    /// Whether messages may have become visible that are earlier than some that have been read: nothing of the stream is
    /// to be given out before they have been looked for.
    pub(super) fn has_late<S: Shared>(&self, id: ConsumerId, s: &mut Step<S>) -> bool {
        let Some(stream) = self.world.stream_id(id) else { return false };
        let Some(tail) = self.world.stream_of(id).map(|stream| stream.tail()) else { return false };
        // Mostly there are no holes, and no entries to be looked through for their sake.
        tail.lowest_hole().is_some() && tail.is_outdated(s.shared.publishers(stream))
    }

    /// Reads on for a consumer that is behind the tail.
    fn read_range<S: Shared>(
        &mut self,
        id: ConsumerId,
        after: Seq,
        upto: Seq,
        s: &mut Step<S>,
    ) -> Supply {
        let Some(stream) = self.await_read(id) else { return Supply::AtTheEnd };
        self.reads += 1;
        s.out.push(Effect::ReadRange { consumer: id, stream, after, upto });
        Supply::Reading
    }

    /// Reads the tail of a stream, and old holes that may have filled: see `tail` for why in this order. One look is for
    /// all who wait.
    fn look<S: Shared>(&mut self, id: ConsumerId, s: &mut Step<S>) -> Supply {
        let Some(stream) = self.await_read(id) else { return Supply::AtTheEnd };
        let Some(entry) = self.world.streams.get_mut(&stream) else { return Supply::AtTheEnd };
        entry.readers.push(id);
        if !std::mem::replace(&mut entry.looking, true) {
            let pos = entry.stream.as_ref().map_or(0, |stream| stream.tail().pos());
            entry.known.last = entry.known.last.max(pos);
            self.reads += 1;
            s.out.push(Effect::Look { stream, known: entry.known });
        }
        Supply::Reading
    }

    fn await_read(&mut self, id: ConsumerId) -> Option<StreamId> {
        let entry = self.world.consumers.get_mut(&id)?;
        let fill = entry.fill.as_mut()?;
        fill.is_reading = true;
        fill.reads += 1;
        entry.stream
    }

    /// A read for a consumer has come to its end: its waiting sessions have their turn.
    pub(super) fn resume(&mut self, id: ConsumerId, failed: bool) {
        if let Some(fill) = self.world.consumers.get_mut(&id).and_then(|entry| entry.fill.as_mut())
        {
            fill.is_reading = false;
            fill.failed |= failed;
        }
        self.to_fill.insert(id);
    }

    pub(super) fn looked<S: Shared>(
        &mut self,
        id: StreamId,
        read: Result<Look, Failure>,
        s: &mut Step<S>,
    ) {
        self.reads = self.reads.saturating_sub(1);
        let Some(entry) = self.world.streams.get_mut(&id) else { return };
        entry.looking = false;
        let readers = std::mem::take(&mut entry.readers);
        let failed = read.is_err();
        match read {
            Ok(Look { known, plan, late, new }) => {
                if let Some(stream) = entry.stream.as_mut() {
                    let is_all = late.reached.is_end() && new.reached.is_end();
                    self.world.touched.extend(stream.apply_read(plan, &late, &new));
                    entry.caught_up = is_all && !stream.tail().pending();
                    entry.looks += u64::from(entry.caught_up);
                }
                entry.known = known;
                self.read_well(id);
                self.note_fault(id, None, s);
            }
            Err(failure) => self.read_failed(id, readers.first().copied(), failure, s),
        }
        readers.into_iter().for_each(|id| self.resume(id, failed));
        self.fill_all(s);
    }

    pub(super) fn range_read<S: Shared>(
        &mut self,
        id: ConsumerId,
        upto: Seq,
        read: Result<Found, Failure>,
        s: &mut Step<S>,
    ) {
        self.reads = self.reads.saturating_sub(1);
        let failed = read.is_err();
        match read {
            Ok(found) => {
                if let Some(stream) = self.world.stream_of_mut(id) {
                    stream.catch_up(id, &found, upto);
                }
                if let Some(stream) = self.world.stream_id(id) {
                    self.read_well(stream);
                }
            }
            Err(failure) => {
                if let Some(stream) = self.world.stream_id(id) {
                    self.read_failed(stream, Some(id), failure, s);
                }
            }
        }
        self.resume(id, failed);
        self.fill_all(s);
    }

    /// Where a read had failed before, all sessions that wait for the stream have their turn, not only those that it
    /// was tried again for.
    pub(super) fn read_well(&mut self, id: StreamId) {
        let Some(entry) = self.world.streams.get_mut(&id) else { return };
        entry.failing_until = 0;
        if std::mem::take(&mut entry.retry_at) != 0 {
            let waits = |of: &&ConsumerId| self.world.stream_id(**of) == Some(id);
            self.to_fill.extend(self.waited_for.iter().filter(waits));
        }
    }

    /// A table that somebody has locked is tried again soon, one that fails later; other streams don't notice.
    fn read_failed<S: Shared>(
        &mut self,
        id: StreamId,
        reader: Option<ConsumerId>,
        failure: Failure,
        s: &mut Step<S>,
    ) {
        let now = s.now();
        let (mut retry_at, mut failing_until) = (now + RETRY_LOCKED, 0);
        match failure {
            Failure::Damaged(fault) => return self.note_fault(id, Some(fault), s),
            Failure::Locked | Failure::Missing => {}
            Failure::Error { text, .. } => {
                (retry_at, failing_until) = (now + RETRY_FAILED, now + RETRY_ASKED);
                let name = self.stream_name(id).unwrap_or_default();
                let what = format!("cannot read stream \"{name}\"");
                if let Some(reader) = reader {
                    self.fail_consumer(reader, &what, &text, s);
                }
            }
        }
        if let Some(entry) = self.world.streams.get_mut(&id) {
            (entry.retry_at, entry.failing_until) = (retry_at, failing_until);
        }
        self.next_wait = self.next_wait.map(|next| next.min(retry_at));
    }
}
