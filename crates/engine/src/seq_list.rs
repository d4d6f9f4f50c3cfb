//! An ordered list of seqs, coded as the gaps between runs of consecutive ones: a run costs a few bytes, however long,
//! and a seq on its own 2, or 3 if it is 130 or more above the one before.
//!
//! The runs are in blocks. Taking from the front and adding at the end change at most the last coded numbers; any other
//! change codes one block anew. Two runs may touch where one block ends and the next begins.

use super::key::Seq;
use super::varint;
use std::collections::BTreeMap;
use std::collections::btree_map::OccupiedEntry;
use std::ops::Bound::{Excluded, Unbounded};

/// The most coded bytes of a block; an insertion into a full one may exceed that. The larger it is, the less a block's
/// own cost matters. The smaller it is, the less a change in the middle costs: now 1 to 2 microseconds.
const BLOCK: usize = 512;

/// The most bytes of two varints.
const PAIR: usize = 20;

/// What every block but the lowest costs besides its coded bytes: 72 bytes in a tree that is at least half full, and
/// what malloc adds.
const BLOCK_OVERHEAD: usize = 150;

/// See the module.
#[derive(Debug, Default)]
pub struct SeqList {
    /// The block with the lowest seqs, which are taken first. Most lists have no other block, and so no tree.
    lowest: Option<Block>,
    /// The others, by their first seq.
    others: BTreeMap<Seq, Block>,
    len: usize,
    /// The capacity of the coded bytes of all blocks.
    coded: usize,
}

/// Some runs: the first as it is, and the others as pairs of varints.
#[derive(Debug)]
struct Block {
    first: (Seq, Seq),
    /// The highest seq.
    last: Seq,
    /// The number that was coded last: the length of the last run, less 1.
    last_len: u64,
    /// Of each run but the first: the gap to the run before, less 2, and its length, less 1.
    coded: Vec<u8>,
    /// How many bytes of `coded` have been taken from the front.
    taken: usize,
}

impl SeqList {
    /// How many seqs.
    pub fn len(&self) -> usize {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// How many bytes the list takes on the heap.
    pub fn bytes(&self) -> usize {
        self.coded + self.others.len() * BLOCK_OVERHEAD
    }

    /// The lowest seq.
    pub fn first(&self) -> Option<Seq> {
        self.lowest.as_ref().map(|block| block.first.0)
    }

    /// The highest seq.
    pub fn last(&self) -> Option<Seq> {
        let last = self.others.last_key_value().map(|(_, block)| block);
        last.or(self.lowest.as_ref()).map(|block| block.last)
    }

    /// The seqs at or above `from`, as runs, ascending.
    pub fn runs_from(&self, from: Seq) -> impl Iterator<Item = (Seq, Seq)> + '_ {
        let above = self.others.range((Excluded(from), Unbounded)).map(|(_, block)| block);
        let runs = self.around(from).into_iter().chain(above).flat_map(Block::runs);
        runs.skip_while(move |&(_, hi)| hi < from).map(move |(lo, hi)| (lo.max(from), hi))
    }

    pub fn contains(&self, seq: Seq) -> bool {
        let mut runs = self.around(seq).into_iter().flat_map(Block::runs);
        runs.any(|(lo, hi)| (lo..=hi).contains(&seq))
    }

    /// Adds one seq; says whether it is new.
    pub fn insert(&mut self, seq: Seq) -> bool {
        if self.last().is_none_or(|last| last < seq) {
            self.push(seq);
        } else if self.contains(seq) {
            return false;
        } else {
            self.change_block(seq, |runs| {
                let at = runs.partition_point(|&(lo, _)| lo < seq);
                runs.insert(at, (seq, seq));
            });
        }
        self.len += 1;
        true
    }

    /// Removes one seq; says whether it was there.
    pub fn remove(&mut self, seq: Seq) -> bool {
        let is_there = self.contains(seq);
        if is_there {
            self.change_block(seq, |runs| {
                let at = runs.partition_point(|&(_, hi)| hi < seq);
                let Some(&(lo, hi)) = runs.get(at) else { return };
                let below = (lo < seq).then(|| (lo, seq - 1));
                let above = (seq < hi).then(|| (seq + 1, hi));
                runs.splice(at..=at, below.into_iter().chain(above));
            });
            self.len -= 1;
        }
        is_there
    }

    /// Takes away the lowest seq.
    pub fn pop_first(&mut self) -> Option<Seq> {
        let block = self.lowest.as_mut()?;
        let seq = block.first.0;
        if !block.skip_first() {
            self.coded -= block.coded.capacity();
            self.lowest = self.others.pop_first().map(|(_, next)| next);
        }
        self.len -= 1;
        Some(seq)
    }

    /// The block that has a seq, if any block has it.
    fn around(&self, seq: Seq) -> Option<&Block> {
        let others = self.others.range(..=seq).next_back();
        others.map(|(_, block)| block).or(self.lowest.as_ref())
    }

    /// Adds a seq above all others.
    fn push(&mut self, seq: Seq) {
        let last = self.others.last_entry().map(OccupiedEntry::into_mut);
        let mut is_pushed = false;
        if let Some(block) = last.or(self.lowest.as_mut()) {
            self.coded -= block.coded.capacity();
            is_pushed = block.push(seq);
            self.coded += block.coded.capacity();
        }
        if !is_pushed {
            self.put(&[(seq, seq)]);
        }
    }

    /// Codes the block anew that a seq belongs to.
    fn change_block(&mut self, seq: Seq, change: impl FnOnce(&mut Vec<(Seq, Seq)>)) {
        let other = self.others.range(..=seq).next_back().map(|(&first, _)| first);
        let block = match other {
            Some(first) => self.others.remove(&first),
            None => self.lowest.take(),
        };
        let Some(block) = block else { return };
        self.coded -= block.coded.capacity();
        let mut runs = block.runs().collect();
        change(&mut runs);
        self.put(&runs);
    }

    /// Puts runs into a block of their own, or into two. If there is no lowest block, the runs are from it, or there
    /// are no others.
    fn put(&mut self, runs: &[(Seq, Seq)]) {
        let Some(block) = Block::new(runs) else {
            if self.lowest.is_none() {
                self.lowest = self.others.pop_first().map(|(_, block)| block);
            }
            return;
        };
        if block.coded.len() > BLOCK && runs.len() > 1 {
            let (low, high) = runs.split_at(runs.len() / 2);
            self.put(low);
            return self.put(high);
        }
        self.coded += block.coded.capacity();
        match self.lowest {
            None => self.lowest = Some(block),
            Some(_) => drop(self.others.insert(block.first.0, block)),
        }
    }
}

impl Block {
    /// A block of these runs, which ascend, and become one where they touch; nothing if there are none.
    fn new(runs: &[(Seq, Seq)]) -> Option<Block> {
        let (&first, others) = runs.split_first()?;
        let mut block = Block { first, last: first.1, last_len: 0, coded: Vec::new(), taken: 0 };
        for &(lo, hi) in others {
            match block.last.checked_add(1) == Some(lo) {
                true => block.extend(hi),
                false => block.code(lo, hi),
            }
        }
        block.coded.shrink_to_fit();
        Some(block)
    }

    fn runs(&self) -> impl Iterator<Item = (Seq, Seq)> + '_ {
        let mut coded = self.coded.get(self.taken..).unwrap_or_default();
        let mut before = self.first.1;
        let others = std::iter::from_fn(move || {
            let run = take_run(&mut coded, before)?;
            before = run.1;
            Some(run)
        });
        std::iter::once(self.first).chain(others)
    }

    /// Adds a seq above all others; false if there is no room for it.
    fn push(&mut self, seq: Seq) -> bool {
        if self.last.checked_add(1) == Some(seq) {
            self.extend(seq);
        } else if self.coded.len() + PAIR <= BLOCK {
            self.code(seq, seq);
        } else {
            self.coded.shrink_to_fit();
            return false;
        }
        true
    }

    /// Extends the last run to a higher seq.
    fn extend(&mut self, hi: Seq) {
        if self.taken == self.coded.len() {
            self.first.1 = hi;
        } else {
            self.coded.truncate(self.coded.len() - width(self.last_len));
            self.last_len += hi.wrapping_sub(self.last).cast_unsigned();
            varint::put(self.last_len, |byte| self.coded.push(byte));
        }
        self.last = hi;
    }

    /// Adds a run above all others, which touches none of them.
    fn code(&mut self, lo: Seq, hi: Seq) {
        let gap = lo.wrapping_sub(self.last).wrapping_sub(2).cast_unsigned();
        varint::put(gap, |byte| self.coded.push(byte));
        self.last_len = hi.wrapping_sub(lo).cast_unsigned();
        varint::put(self.last_len, |byte| self.coded.push(byte));
        self.last = hi;
    }

    /// Takes away the lowest seq; false if there is no other.
    fn skip_first(&mut self) -> bool {
        let (lo, hi) = self.first;
        if lo < hi {
            self.first.0 = lo + 1;
            return true;
        }
        let mut coded = self.coded.get(self.taken..).unwrap_or_default();
        let Some(run) = take_run(&mut coded, hi) else { return false };
        self.taken = self.coded.len() - coded.len();
        self.first = run;
        true
    }
}

/// Takes the next run, which is above `before`.
fn take_run(coded: &mut &[u8], before: Seq) -> Option<(Seq, Seq)> {
    let (gap, len) = (varint::take(coded)?, varint::take(coded)?);
    let lo = before.wrapping_add(2).wrapping_add_unsigned(gap);
    Some((lo, lo.wrapping_add_unsigned(len)))
}

/// The bytes that [`varint::put`] makes.
fn width(value: u64) -> usize {
    (u64::BITS - (value | 1).leading_zeros()).div_ceil(7) as usize
}

#[cfg(test)]
mod tests;
