//! A set of seqs kept as ranges: its size is the number of ranges, not of seqs.
//!
//! The ranges are disjoint and coalesced (two never touch), both ends inclusive. Every operation
//! costs O(log ranges), plus the ranges it merges, cuts or yields.

use super::key::Seq;
use std::collections::BTreeMap;
use thiserror::Error;

/// See the module.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RangeSet {
    /// First seq of a range to its last.
    ranges: BTreeMap<Seq, Seq>,
}

/// Why a flat list is not a set of ranges. Lists come from a table, and a role that may write it can put anything
/// there.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum RangesError {
    #[error("list of ranges has {0} bounds, an odd number")]
    OddLength(usize),
    #[error("range from {lo} to {hi} ends before it starts")]
    Reversed { lo: Seq, hi: Seq },
    #[error("range from {lo} does not lie above the one before it, which ends at {before}")]
    Unordered { before: Seq, lo: Seq },
}

impl RangeSet {
    /// The empty set.
    pub fn new() -> Self {
        Self::default()
    }

    /// The set without these ranges, which ascend and don't overlap: in one pass over both.
    pub fn without(&self, ranges: impl Iterator<Item = (Seq, Seq)>) -> Self {
        let mut ranges = ranges.peekable();
        let mut rest = self.iter();
        let mut cut = None;
        let pieces = std::iter::from_fn(|| {
            loop {
                let (lo, hi) = cut.take().or_else(|| rest.next())?;
                while ranges.next_if(|&(_, end)| end < lo).is_some() {}
                match ranges.peek() {
                    Some(&(start, end)) if start <= hi => {
                        cut = (end < hi).then(|| (end + 1, hi));
                        if lo < start {
                            return Some((lo, start - 1));
                        }
                    }
                    _ => return Some((lo, hi)),
                }
            }
        });
        Self { ranges: pieces.collect() }
    }

    /// Adds one seq.
    pub fn insert(&mut self, seq: Seq) {
        self.insert_range(seq, seq);
    }

    /// Adds all from `lo` to `hi`; nothing if `lo` is above `hi`.
    pub fn insert_range(&mut self, mut lo: Seq, mut hi: Seq) {
        if lo > hi {
            return;
        }
        // The range that starts at or before lo, if it overlaps or touches.
        if let Some((&start, end)) = self.ranges.range_mut(..=lo).next_back()
            && *end >= lo.saturating_sub(1)
        {
            if *end >= hi {
                return;
            }
            lo = start;
            *end = hi;
        }
        // The ranges that start inside or right after it.
        while let Some((&start, &end)) =
            self.ranges.range(lo.saturating_add(1)..=hi.saturating_add(1)).next()
        {
            self.ranges.remove(&start);
            hi = hi.max(end);
        }
        self.ranges.insert(lo, hi);
    }

    /// Removes one seq; says whether it was there.
    pub fn remove(&mut self, seq: Seq) -> bool {
        let there = self.contains(seq);
        if there {
            self.remove_range(seq, seq);
        }
        there
    }

    /// Removes all from `lo` to `hi`.
    pub fn remove_range(&mut self, lo: Seq, hi: Seq) {
        if lo > hi {
            return;
        }
        let mut rest = None;
        if let Some((&start, end)) = self.ranges.range_mut(..lo).next_back()
            && *end >= lo
        {
            debug_assert!(start < lo);
            rest = Some(*end);
            *end = lo - 1;
        }
        while let Some((&start, &end)) = self.ranges.range(lo..=hi).next() {
            self.ranges.remove(&start);
            rest = Some(end);
        }
        if let Some(end) = rest
            && end > hi
        {
            self.ranges.insert(hi + 1, end);
        }
    }

    /// Whether `seq` is in the set.
    pub fn contains(&self, seq: Seq) -> bool {
        self.ranges.range(..=seq).next_back().is_some_and(|(_, &end)| end >= seq)
    }

    /// Whether the set is empty.
    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// How many ranges: what the set costs.
    pub fn range_count(&self) -> usize {
        self.ranges.len()
    }

    /// The lowest seq.
    pub fn first(&self) -> Option<Seq> {
        self.ranges.first_key_value().map(|(&lo, _)| lo)
    }

    /// The highest seq.
    pub fn last(&self) -> Option<Seq> {
        self.ranges.last_key_value().map(|(_, &hi)| hi)
    }

    /// The ranges, ascending.
    pub fn iter(&self) -> impl Iterator<Item = (Seq, Seq)> + '_ {
        self.ranges.iter().map(|(&lo, &hi)| (lo, hi))
    }

    /// The part of the set at or above `from`, as ranges, ascending.
    pub fn iter_from(&self, from: Seq) -> impl Iterator<Item = (Seq, Seq)> + '_ {
        self.iter_within(from, Seq::MAX)
    }

    /// The part of the set from `from` to `to`, as ranges, ascending.
    pub fn iter_within(&self, from: Seq, to: Seq) -> impl Iterator<Item = (Seq, Seq)> + '_ {
        let cut = self.ranges.range(..from).next_back().map(|(_, &hi)| (from, hi));
        let cut = cut.filter(|&(lo, hi)| hi >= lo);
        cut.into_iter()
            .chain(self.ranges.range(from..).map(|(&lo, &hi)| (lo, hi)))
            .take_while(move |&(lo, _)| lo <= to)
            .map(move |(lo, hi)| (lo, hi.min(to)))
    }

    /// The lowest value at or above `seq` that is not in the set. (`Seq::MAX` counts as not in it.)
    pub fn first_gap_from(&self, seq: Seq) -> Seq {
        match self.ranges.range(..=seq).next_back() {
            Some((_, &hi)) if hi >= seq => hi.saturating_add(1),
            _ => seq,
        }
    }

    /// The lowest range.
    pub fn first_range(&self) -> Option<(Seq, Seq)> {
        self.ranges.first_key_value().map(|(&lo, &hi)| (lo, hi))
    }

    /// Takes away the lowest range.
    pub fn pop_first(&mut self) -> Option<(Seq, Seq)> {
        self.ranges.pop_first()
    }

    /// The set as `[lo, hi, lo, hi, ..]`, for a table.
    pub fn to_pairs(&self) -> Vec<Seq> {
        self.iter().flat_map(|(lo, hi)| [lo, hi]).collect()
    }

    /// The set that [`to_pairs`](Self::to_pairs) wrote.
    pub fn from_pairs(pairs: &[Seq]) -> Result<Self, RangesError> {
        let (chunks, odd) = pairs.as_chunks::<2>();
        if !odd.is_empty() {
            return Err(RangesError::OddLength(pairs.len()));
        }
        let mut set = Self::new();
        let mut before = None;
        for &[lo, hi] in chunks {
            if lo > hi {
                return Err(RangesError::Reversed { lo, hi });
            }
            if let Some(before) = before.filter(|&before| before >= lo) {
                return Err(RangesError::Unordered { before, lo });
            }
            before = Some(hi);
            set.insert_range(lo, hi);
        }
        Ok(set)
    }
}

#[cfg(test)]
mod tests;
