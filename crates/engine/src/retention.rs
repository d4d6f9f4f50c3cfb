//! Retention: into which partitions a stream's seqs are divided, and which of them are given back.
//!
//! Space is given back a whole partition at a time, by TRUNCATE, which leaves no dead rows and needs no lock on the stream.
//! The empty shell is dropped later. So the partition that is written to must not last long: its seqs are so many as are used
//! up in a tenth of the time to keep, and where publishers are slower than they were, the rest of them is taken away. What is
//! published faster than that goes into the *rest*, the partition for all other seqs. A message never moves: if the rest has
//! messages, it becomes an ordinary partition as it is, and an empty rest takes its place.

use crate::key::Seq;
use crate::settings::Micros;

/// What is kept of a stream. A message goes when one of the limits says so; but none before all consumers have finished it,
/// if it is to be kept until then. Without a limit, that alone counts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Limits {
    pub age: Option<Micros>,
    pub messages: Option<u64>,
    pub bytes: Option<u64>,
    pub until_acked: bool,
}

/// A partition for the seqs between two, both included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Partition {
    pub table: u32,
    pub from: Seq,
    pub upto: Seq,
    /// Its size: 0 for one that was never used, and for one that was truncated.
    pub bytes: u64,
}

/// A stream as it is.
#[derive(Debug, Clone, Default)]
pub struct Facts {
    pub now: Micros,
    /// The last seq that was taken.
    pub last: Seq,
    /// The lowest seq that an open transaction may still publish with.
    pub open: Option<Seq>,
    /// Ascending, without gaps between them, and without the rest.
    pub partitions: Vec<Partition>,
    /// The rest has messages beyond the last partition.
    pub rest_is_used: bool,
    /// So many seqs were taken per second lately.
    pub rate: f64,
    /// Up to where all consumers have finished; `None` if there are none.
    pub acked: Option<Seq>,
    /// When the last message was inserted of the oldest partition that has any.
    pub oldest_ended: Option<Micros>,
    /// How many messages there are behind that partition; counted only if there is such a limit.
    pub messages_behind: u64,
    /// When the first message was inserted of the partition that is written to.
    pub current_began: Option<Micros>,
}

/// One thing to do, each in a transaction of its own. If something stands in its way, it is tried again later.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// The rest becomes the partition for these seqs, and is replaced.
    Adopt { from: Seq, upto: Seq },
    /// A new partition for these seqs.
    Extend { from: Seq, upto: Seq },
    /// Takes seqs up to this one without using them.
    Close { upto: Seq },
    /// Gives the messages of a partition back.
    Cut { table: u32 },
    /// Drops empty partitions.
    Drop { tables: Vec<u32> },
}

/// The fewest and the most seqs of a partition. The fewest only where a stream keeps few messages, or bytes.
const NARROWEST: Seq = 100;
const WIDEST: Seq = 5_000_000;

/// The seqs of a partition of a stream that is as good as idle.
pub const IDLE: Seq = 1000;

/// So many partitions are ready for seqs to come, at least and at most: for an hour, if that is in between.
const AHEAD: std::ops::RangeInclusive<Seq> = 2..=12;
const AHEAD_TIME: f64 = 3600.0;

/// The shortest and the longest time for which a partition is written to.
const BRIEFEST: Micros = 1_000_000;
const LONGEST: Micros = 86_400_000_000;

/// That time for a stream that is kept until it is acked.
const UNTIL_ACKED: Micros = 6_000_000;

/// So many empty partitions are dropped at a time: meanwhile nobody publishes.
const DROPPED: usize = 4;

/// So far beyond the last seq a rest reaches that becomes a partition: until it is one, nobody must get there.
const BEYOND: Seq = 1_000_000_000;
const BEYOND_TIME: f64 = 86_400.0;

/// A partition that is so much wider than a new one would be is closed when that would be full.
const TOO_WIDE: Seq = 10;

impl Limits {
    /// Whether there is any.
    pub fn is_any(&self) -> bool {
        self.until_acked || self.has_limit()
    }

    fn has_limit(&self) -> bool {
        self.age.is_some() || self.messages.is_some() || self.bytes.is_some()
    }

    /// For how long a partition is written to; `None` if time doesn't matter.
    fn period(&self) -> Option<Micros> {
        let by_age = self.age.map(|age| (age / 10).clamp(BRIEFEST, LONGEST));
        let by_ack = self.until_acked.then_some(UNTIL_ACKED);
        by_age.into_iter().chain(by_ack).min()
    }

    /// How many seqs a new partition should have.
    fn width(&self, facts: &Facts) -> Seq {
        let by_time = self.period().map(|period| times(facts.rate, period as f64 / 1e6).max(IDLE));
        let by_count = self.messages.map(|messages| seq(messages / 10));
        let by_size = self.bytes.map(|bytes| seq(bytes / 10 / facts.bytes_per_seq()));
        let widths = by_time.into_iter().chain(by_count).chain(by_size);
        let briefest = times(facts.rate, BRIEFEST as f64 / 1e6);
        widths.min().unwrap_or(WIDEST).max(briefest).clamp(NARROWEST, WIDEST)
    }

    /// Whether a partition is no longer to be kept that all seqs are gone of. `newer` is the size of those behind it.
    fn let_go(&self, partition: &Partition, newer: u64, facts: &Facts) -> bool {
        if self.until_acked && facts.acked.is_none_or(|acked| acked < partition.upto) {
            return false;
        }
        // One whose messages have all been rolled back or deleted has no last one.
        let is_old = |age| facts.oldest_ended.is_none_or(|at| at < facts.now.saturating_sub(age));
        !self.has_limit()
            || self.age.is_some_and(is_old)
            || self.messages.is_some_and(|most| facts.messages_behind >= most)
            || self.bytes.is_some_and(|most| newer >= most)
    }
}

impl Facts {
    /// The partition that is written to.
    pub fn current(&self) -> Option<&Partition> {
        self.partitions.iter().find(|it| self.last < it.upto)
    }

    /// The oldest partition that has messages.
    pub fn oldest(&self) -> Option<&Partition> {
        self.partitions.iter().find(|it| it.bytes > 0)
    }

    /// Whether nobody can publish with a seq of this partition any more.
    fn is_over(&self, partition: &Partition) -> bool {
        partition.upto <= self.last && self.open.is_none_or(|open| open > partition.upto)
    }

    fn bytes_per_seq(&self) -> u64 {
        let used = self.partitions.iter().filter(|it| it.bytes > 0 && it.from > 0);
        let (bytes, seqs) = used.fold((0, 0), |(bytes, seqs), it| {
            let upto = it.upto.min(self.last);
            (bytes + it.bytes, seqs + u64::try_from(upto - it.from + 1).unwrap_or(0))
        });
        if seqs < 100 { 500 } else { (bytes / seqs).max(1) }
    }
}

/// What is to be done now: each of it whatever becomes of the others.
pub fn steps(limits: &Limits, facts: &Facts) -> Vec<Step> {
    let mut steps = Vec::new();
    let width = limits.width(facts);
    let end = facts.partitions.last().map_or(0, |it| it.upto);
    if facts.rest_is_used || facts.last > end {
        let beyond = times(facts.rate, BEYOND_TIME).max(BEYOND);
        steps.push(Step::Adopt {
            from: end.saturating_add(1),
            upto: facts.last.max(end).saturating_add(beyond),
        });
    } else {
        let ahead = facts.partitions.iter().filter(|it| it.from > facts.last).count();
        let wanted = times(facts.rate, AHEAD_TIME) / width + 1;
        let wanted = wanted.clamp(*AHEAD.start(), *AHEAD.end());
        // One at a time: where this one can't be made, a next one would leave a gap.
        if ahead < usize::try_from(wanted).unwrap_or(0) && end < Seq::MAX - width {
            steps.push(Step::Extend { from: end + 1, upto: end + width });
        }
    }
    if let (Some(began), Some(current)) = (facts.current_began, facts.current()) {
        let used = facts.last.saturating_sub(current.from.max(1));
        let is_over_due = limits.period().is_some_and(|it| facts.now.saturating_sub(began) >= it);
        let is_too_wide = used >= width && (current.upto - facts.last) / TOO_WIDE >= width;
        if is_over_due || (limits.is_any() && is_too_wide) {
            steps.push(Step::Close { upto: current.upto });
        }
    }
    if let Some(oldest) = facts.oldest().filter(|it| limits.is_any() && facts.is_over(it)) {
        let newer = facts.partitions.iter().filter(|it| it.from > oldest.from);
        if limits.let_go(oldest, newer.map(|it| it.bytes).sum(), facts) {
            steps.push(Step::Cut { table: oldest.table });
        }
    }
    // The last partition stays, as the next one begins where it ends.
    let others = facts.partitions.split_last().map_or(&[][..], |(_, others)| others);
    let empty = others.iter().take_while(|it| it.bytes == 0 && facts.is_over(it));
    let tables: Vec<u32> = empty.map(|it| it.table).collect();
    if tables.len() >= DROPPED {
        steps.push(Step::Drop { tables: tables[..DROPPED].to_vec() });
    }
    steps
}

/// How many seqs are taken in so many seconds.
fn times(rate: f64, seconds: f64) -> Seq {
    #[allow(clippy::cast_possible_truncation)]
    let seqs = (rate * seconds).clamp(0.0, 1e15) as Seq;
    seqs
}

fn seq(count: u64) -> Seq {
    Seq::try_from(count).unwrap_or(Seq::MAX)
}

#[cfg(test)]
mod tests;
