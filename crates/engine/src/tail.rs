//! The tail of a stream: which of its messages have become visible, in the order of their commits.
//!
//! Seqs commit out of order, so there is no "last seq seen". The tail has a position and **holes**:
//! at or below the position every seq has been delivered, or is a hole, or never comes. A look is
//! taken in this order, and the order is what makes it right:
//!
//! 1. the last value of the stream's sequence,
//! 2. the open publishers: each writes its lower bound into its entry before it takes its first seq,
//!    and clears that after its commit has become visible,
//! 3. a fresh snapshot, under which old holes are looked at again, then new rows are read.
//!
//! A publisher that step 2 did not see either is visible to the snapshot or takes only seqs above the last value. So a
//! gap below the floor, the lowest bound open, is final. A gap at or above it becomes a hole. A publisher's end can
//! only fill holes at or above its own bound; then these are looked at again, and those that are still gaps below the
//! floor are final. As long as no publisher ends, holes cost nothing.
//!
//! Holes go first: no new row is read before all holes that the ended publishers may have filled have been looked at.
//! So a message that is published after the commit of another one never overtakes that.

use super::key::Seq;
use super::ranges::RangeSet;

/// The most ranges of holes that are remembered, some 30 MB. When they are reached no new row is
/// read until a publisher's end closes holes: only a transaction that stays open while others roll
/// back or interleave with it a million times gets there.
pub const MAX_HOLE_RANGES: usize = 1_000_000;

/// One open publishing transaction, as its session's entry shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Publisher {
    pub session: u32,
    /// Counts the transactions of the entry, so that the next one can be told from this one.
    pub transaction: u64,
    /// The transaction takes no seq below this.
    pub bound: Seq,
}

/// See the module.
#[derive(Debug)]
pub struct Tail {
    pos: Seq,
    holes: RangeSet,
    /// Parts of the stream whose holes are to be looked at again: not the holes themselves, so that
    /// a publisher's end costs the same however many there are. The first part has a hole in it.
    recheck: RangeSet,
    /// The open publishers of the last look, ascending.
    open: Vec<Publisher>,
    /// Counts the looks.
    number: u64,
    max_holes: usize,
}

/// What to read under a snapshot that is taken now. The plan of a look whose transaction failed may be dropped: the
/// next plan contains the same again.
#[must_use]
#[derive(Debug)]
pub struct ReadPlan {
    /// Old holes, as ranges, ascending: to be read first.
    pub recheck: Vec<(Seq, Seq)>,
    /// New rows: those above the first seq, up to and with the second. Not to be read if the
    /// reading of `recheck` stopped before its end.
    pub scan: Option<(Seq, Seq)>,
    floor: Seq,
    number: u64,
}

/// What was read of one part of a look.
#[derive(Clone, Copy, Debug)]
pub struct Seen<'a> {
    /// The seqs that exist, ascending.
    pub seqs: &'a [Seq],
    pub reached: Reached,
}

/// How far a read came. It stops at a limit of rows, or of time: index entries of invisible rows (their transactions
/// have failed or not ended, or the rows were deleted) take time as well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reached {
    Nowhere,
    /// All rows with this seq or a lower one have been read.
    UpTo(Seq),
    End,
}

impl Reached {
    pub fn is_end(self) -> bool {
        self == Reached::End
    }

    /// The seq up to which all has been read, if the read was to go up to `end`; `None` if nothing has.
    fn upto(self, end: Seq) -> Option<Seq> {
        match self {
            Reached::Nowhere => None,
            Reached::UpTo(seq) => Some(seq.min(end)),
            Reached::End => Some(end),
        }
    }
}

impl Seen<'_> {
    /// This part was not read.
    #[cfg(test)]
    pub const UNREAD: Self = Seen { seqs: &[], reached: Reached::Nowhere };
}

impl Tail {
    /// The tail when the dispatcher starts: `last` and `open` read in the order of steps 1 and 2.
    /// Under a snapshot taken after, all that will ever be at or below [`pos`](Self::pos) is
    /// visible.
    pub fn new(last: Seq, open: &[Publisher]) -> Self {
        Self {
            pos: settled_upto(last, lowest_bound(open)),
            holes: RangeSet::new(),
            recheck: RangeSet::new(),
            open: Vec::new(),
            number: 0,
            max_holes: MAX_HOLE_RANGES,
        }
    }

    /// Steps 1 and 2 are done: `last`, then `open`. Says what to read in step 3, at most `max_ranges` ranges of holes.
    /// The previous look is void if its result has not been [applied](Self::apply_read).
    pub fn plan_read(
        &mut self,
        last: Seq,
        mut open: Vec<Publisher>,
        max_ranges: usize,
    ) -> ReadPlan {
        open.sort_unstable();
        let floor = floor(last, &open);
        let ended = self.open.iter().filter(|old| !is_open(&open, old)).map(|old| old.bound).min();
        if let (Some(bound), Some(last_hole)) = (ended, self.holes.last()) {
            self.recheck.insert_range(bound, last_hole);
        }
        self.open = open;
        self.number += 1;
        self.drop_parts_without_holes();

        let max_ranges = max_ranges.max(1);
        let mut recheck: Vec<_> =
            self.holes_to_recheck().take(max_ranges.saturating_add(1)).collect();
        let all = recheck.len() <= max_ranges;
        recheck.truncate(max_ranges);
        let scan = all && last > self.pos && !self.is_full();
        ReadPlan { recheck, scan: scan.then_some((self.pos, last)), floor, number: self.number }
    }

    /// Whether `plan` is the last one, so that what it found counts.
    pub fn is_current(&self, plan: &ReadPlan) -> bool {
        plan.number == self.number
    }

    /// Applies what a look has read: `refound` of the holes, `rows` of the scan. The caller delivers both, in the order
    /// of their seqs. A look that is void is ignored, and so are `rows` if the read of the holes stopped before its
    /// end.
    pub fn apply_read(&mut self, plan: ReadPlan, refound: Seen<'_>, rows: Seen<'_>) {
        if !self.is_current(&plan) {
            return;
        }
        if let Some(&(_, end)) = plan.recheck.last() {
            if let Some(reached) = refound.reached.upto(end) {
                for &(lo, hi) in &plan.recheck {
                    self.settle(lo, hi.min(reached), refound, plan.floor);
                }
                self.recheck.remove_range(Seq::MIN, reached);
                self.drop_parts_without_holes();
            }
            if !refound.reached.is_end() {
                return;
            }
        }
        if let Some((after, upto)) = plan.scan
            && let Some(reached) = rows.reached.upto(upto)
        {
            self.settle(after.saturating_add(1), reached, rows, plan.floor);
            self.pos = self.pos.max(reached);
        }
    }

    /// The position. Every seq at or below it has been delivered, or is a hole, or never comes.
    pub fn pos(&self) -> Seq {
        self.pos
    }

    /// The holes: seqs at or below `pos` that may still turn up.
    pub fn holes(&self) -> &RangeSet {
        &self.holes
    }

    /// The lowest hole.
    pub fn lowest_hole(&self) -> Option<Seq> {
        self.holes.first()
    }

    /// Whether `seq` is a hole: not delivered yet, though below the position, whatever a newer
    /// snapshot may show already.
    pub fn is_hole(&self, seq: Seq) -> bool {
        self.holes.contains(seq)
    }

    /// How many ranges of holes there are.
    #[cfg(test)]
    pub fn hole_ranges(&self) -> usize {
        self.holes.range_count()
    }

    /// Whether [`MAX_HOLE_RANGES`] keeps new rows from being read.
    pub fn is_full(&self) -> bool {
        self.holes.range_count() >= self.max_holes
    }

    /// Whether more holes are to be looked at: the next look should follow without a wake-up.
    pub fn pending(&self) -> bool {
        !self.recheck.is_empty()
    }

    /// Whether a publisher that the last look saw isn't `open` any more, and may have filled holes: then there may be
    /// messages with lower seqs than those that were found.
    pub fn is_outdated(&self, mut open: Vec<Publisher>) -> bool {
        let Some(last) = self.holes.last() else { return false };
        open.sort_unstable();
        let may_have_filled = |old: &Publisher| old.bound <= last && !is_open(&open, old);
        self.pending() || self.open.iter().any(may_have_filled)
    }

    /// Everything from `lo` to `hi` has been read: what is not in `seen` becomes a hole or is
    /// final.
    fn settle(&mut self, lo: Seq, hi: Seq, seen: Seen<'_>, floor: Seq) {
        if lo > hi {
            return;
        }
        self.holes.remove_range(lo, hi);
        let from = seen.seqs.partition_point(|&seq| seq < lo);
        let mut next = lo;
        for &seq in seen.seqs[from..].iter().take_while(|&&seq| seq <= hi) {
            self.holes.insert_range(next.max(floor), seq.saturating_sub(1));
            next = seq.saturating_add(1);
        }
        self.holes.insert_range(next.max(floor), hi);
    }

    fn holes_to_recheck(&self) -> impl Iterator<Item = (Seq, Seq)> + '_ {
        self.recheck.iter().flat_map(|(lo, hi)| self.holes.iter_within(lo, hi))
    }

    fn drop_parts_without_holes(&mut self) {
        while let Some((lo, hi)) = self.recheck.first_range()
            && self.holes.iter_within(lo, hi).next().is_none()
        {
            self.recheck.pop_first();
        }
    }
}

/// Up to this seq no transaction can take any more: `last` was read first, and then the lowest bound of the publishers. A
/// transaction whose entry was read before it noted its bound takes seqs above `last`, whatever the bounds of others.
pub fn settled_upto(last: Seq, bound: Option<Seq>) -> Seq {
    bound.map_or(last, |bound| last.min(bound.saturating_sub(1)))
}

/// The lowest seq that a transaction can still take.
fn floor(last: Seq, open: &[Publisher]) -> Seq {
    lowest_bound(open).unwrap_or(last.saturating_add(1))
}

fn lowest_bound(open: &[Publisher]) -> Option<Seq> {
    open.iter().map(|publisher| publisher.bound).min()
}

/// Whether the transaction of `old` is among `open`, which is sorted.
fn is_open(open: &[Publisher], old: &Publisher) -> bool {
    open.binary_search_by_key(&(old.session, old.transaction), |new| (new.session, new.transaction))
        .is_ok()
}

#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;
