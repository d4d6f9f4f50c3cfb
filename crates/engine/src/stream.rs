//! One stream and its consumers: which rows must be read from the table, and which consumers get them.
//!
//! New rows are read once, at the tail, and routed by key to the consumers attached to it. A consumer that is
//! behind, full, or was rewound is detached: it reads the table from its own cursor, so it costs the others
//! nothing (I11), and attaches again when it has reached the tail.

use super::consumer::Consumer;
use super::consumer_state::ConsumerState;
use super::filter::Filter;
use super::ids::ConsumerId;
use super::key::{KeyId, Seq, key_id};
use super::router::{RouteScratch, Router};
use super::settings::Settings;
use super::tail::{Publisher, Reached, ReadPlan, Seen, Tail};
use std::collections::{BTreeMap, BTreeSet};

/// A row of the stream's table, without the columns that routing doesn't need.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    pub seq: Seq,
    pub key: String,
}

/// Rows read from the table, ascending.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    pub rows: Vec<Row>,
    pub reached: Reached,
}

#[derive(Debug)]
struct Member {
    consumer: Consumer,
    filters: Vec<Filter>,
    /// It is offered what the tail finds. Its cursor is at the tail's position then, or above.
    attached: bool,
    /// Rows above the cursor are being read for it, by a snapshot that sees all that the tail has found so far.
    reading: bool,
}

/// A stream, its tail, and its consumers.
#[derive(Debug)]
pub struct Stream {
    tail: Tail,
    router: Router,
    members: BTreeMap<ConsumerId, Member>,
    /// Consumers that were restored and still need [`Consumer::loaded`] after each look.
    settling: BTreeSet<ConsumerId>,
    scratch: RouteScratch,
    routed: Vec<ConsumerId>,
}

impl Stream {
    /// A stream that is seen for the first time. `last` is the sequence's last value; `open` are the publishers, read
    /// after it.
    pub fn new(last: Seq, open: &[Publisher]) -> Stream {
        Stream {
            tail: Tail::new(last, open),
            router: Router::new(),
            members: BTreeMap::new(),
            settling: BTreeSet::new(),
            scratch: RouteScratch::default(),
            routed: Vec::new(),
        }
    }

    pub fn tail(&self) -> &Tail {
        &self.tail
    }

    /// Adds a consumer in this state, or replaces it.
    pub fn put(
        &mut self,
        id: ConsumerId,
        filters: Vec<Filter>,
        settings: Settings,
        from: ConsumerState,
    ) {
        let mut consumer = Consumer::restore(settings, from);
        if let Some(old) = self.consumer(id) {
            consumer.budget = old.budget;
        }
        self.remove(id);
        for filter in &filters {
            self.router.insert(filter, id);
        }
        self.members.insert(id, Member { consumer, filters, attached: false, reading: false });
        self.settling.insert(id);
        self.settle(id);
    }

    /// The consumer is dropped.
    pub fn remove(&mut self, id: ConsumerId) {
        if self.members.remove(&id).is_some() {
            self.router.remove(id);
        }
    }

    /// True if it has no consumer.
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    pub fn consumer(&self, id: ConsumerId) -> Option<&Consumer> {
        self.members.get(&id).map(|member| &member.consumer)
    }

    pub fn consumer_mut(&mut self, id: ConsumerId) -> Option<&mut Consumer> {
        self.members.get_mut(&id).map(|member| &mut member.consumer)
    }

    pub fn consumers_mut(&mut self) -> impl Iterator<Item = (ConsumerId, &mut Consumer)> {
        self.members.iter_mut().map(|(&id, member)| (id, &mut member.consumer))
    }

    /// The seq up to which rows have been offered to a consumer.
    pub fn cursor(&self, id: ConsumerId) -> Option<Seq> {
        self.members.get(&id).map(|member| member.cursor(&self.tail))
    }

    /// The seq up to which all that matches a consumer is finished.
    pub fn floor(&self, id: ConsumerId) -> Option<Seq> {
        let cursor = self.cursor(id)?;
        Some(self.consumer(id)?.floor(cursor, self.tail.holes()))
    }

    /// The state of a consumer, for a checkpoint.
    pub fn state(&self, id: ConsumerId) -> Option<ConsumerState> {
        let cursor = self.cursor(id)?;
        Some(self.consumer(id)?.state(cursor, self.tail.holes()))
    }

    /// The range of rows that a detached consumer must be offered next: above the first seq, up to and with the second.
    /// They must be read under a snapshot taken after this. `None` once it is attached to the tail, or while it is
    /// full.
    pub fn behind(&mut self, id: ConsumerId) -> Option<(Seq, Seq)> {
        self.settle(id);
        let member = self.members.get_mut(&id)?;
        member.reading = !member.attached && member.consumer.wants_more();
        member.reading.then_some((member.consumer.cursor, self.tail.pos()))
    }

    /// Offers rows that were read for a detached consumer, up to `upto`. Ignored if they may lack a row that the tail
    /// has found since [`Stream::behind`] was called, or if the consumer was replaced since.
    pub fn catch_up(&mut self, id: ConsumerId, found: &Found, upto: Seq) {
        let Some(member) = self.members.get_mut(&id) else { return };
        if !std::mem::take(&mut member.reading) {
            return;
        }
        let mut cursor = match found.reached {
            Reached::Nowhere => member.consumer.cursor,
            Reached::UpTo(seq) => seq.min(upto),
            Reached::End => upto,
        };
        for row in found.rows.iter().filter(|row| !self.tail.is_hole(row.seq)) {
            if member.consumer.is_full() {
                cursor = row.seq - 1;
                break;
            }
            if member.filters.iter().any(|filter| filter.matches(&row.key)) {
                member.consumer.offer(row.seq, key_id(&row.key));
            }
        }
        member.consumer.loaded(cursor, self.tail.lowest_hole());
        self.settle(id);
    }

    /// Plans a read of the tail, after steps 1 and 2 of it: see `Tail::plan_read`. The rows must be read under a
    /// snapshot taken after that.
    pub fn plan_read(&mut self, last: Seq, open: Vec<Publisher>, max_ranges: usize) -> ReadPlan {
        self.tail.plan_read(last, open, max_ranges)
    }

    /// Routes the rows that a look has found, `late` in old holes and `new` at the tail. Returns the consumers that
    /// have got some. Ignored if there has been another look since.
    pub fn apply_read(
        &mut self,
        plan: ReadPlan,
        late: &Found,
        new: &Found,
    ) -> BTreeSet<ConsumerId> {
        let mut given = BTreeSet::new();
        if !self.tail.is_current(&plan) {
            return given;
        }
        // If the read of the holes stopped short, new rows must not overtake them.
        let holes_first = !late.reached.is_end() && !plan.recheck.is_empty();
        let rows = if holes_first { &[] } else { &new.rows[..] };
        for row in late.rows.iter().chain(rows) {
            self.route(row, &mut given);
        }
        let seqs = |found: &Found| found.rows.iter().map(|row| row.seq).collect::<Vec<_>>();
        let (late_seqs, new_seqs) = (seqs(late), seqs(new));
        self.tail.apply_read(
            plan,
            Seen { seqs: &late_seqs, reached: late.reached },
            Seen { seqs: &new_seqs, reached: new.reached },
        );
        let pos = self.tail.pos();
        for id in std::mem::take(&mut self.settling) {
            let Some(member) = self.members.get_mut(&id) else { continue };
            if member.attached {
                member.consumer.loaded(pos, self.tail.lowest_hole());
                given.insert(id);
            }
            if member.consumer.is_settling() {
                self.settling.insert(id);
            }
        }
        given
    }

    /// True if a message is finished, and so can be redelivered, given that it exists, matches and has this key.
    pub fn seen(&self, id: ConsumerId, seq: Seq, key: KeyId) -> bool {
        let Some(member) = self.members.get(&id) else { return false };
        let is_past = seq <= member.cursor(&self.tail) && !self.tail.is_hole(seq);
        (is_past || member.consumer.done.contains(seq)) && !member.consumer.is_unfinished(seq, key)
    }

    fn route(&mut self, row: &Row, given: &mut BTreeSet<ConsumerId>) {
        self.router.route(&row.key, &mut self.scratch, &mut self.routed);
        let key: KeyId = key_id(&row.key);
        for &id in &self.routed {
            let Some(member) = self.members.get_mut(&id) else { continue };
            let is_past = row.seq <= member.cursor(&self.tail);
            if is_past || member.attached && !member.consumer.is_full() {
                member.consumer.offer(row.seq, key);
                given.insert(id);
            } else if member.attached {
                member.attached = false;
                member.consumer.loaded(row.seq - 1, self.tail.lowest_hole());
            } else {
                member.reading = false;
            }
        }
    }

    /// Moves a detached consumer's cursor past what it has finished, and attaches it if the cursor reaches the tail.
    fn settle(&mut self, id: ConsumerId) {
        let pos = self.tail.pos();
        let Some(member) = self.members.get_mut(&id).filter(|member| !member.attached) else {
            return;
        };
        // Not beyond the tail, which will offer all that it hasn't read yet.
        member.consumer.loaded(member.consumer.skip_done().min(pos), self.tail.lowest_hole());
        member.attached = member.consumer.cursor >= pos;
    }
}

impl Member {
    /// Rows up to here have been offered, and won't be again but for those that fill a hole.
    fn cursor(&self, tail: &Tail) -> Seq {
        let attached_at = if self.attached { tail.pos() } else { Seq::MIN };
        self.consumer.cursor.max(attached_at)
    }
}

#[cfg(test)]
mod tests;
