//! The publishers' half of the simulation: what they share with the dispatcher, and their steps.

use super::super::{Publisher, Seq};
use super::Broken;
use crate::tail::Reached;
use std::collections::BTreeMap;

pub(super) const PUBLISHERS: usize = 4;

/// SplitMix64: the same numbers in every run.
pub(super) struct Random(pub u64);

impl Random {
    pub fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % n
    }

    pub fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }
}

#[derive(Clone, Copy)]
pub(super) struct Transaction {
    pub begun: u64,
    /// The step of its commit; None while it is open and if it rolls back.
    pub visible: Option<u64>,
    /// When it ended, for a snapshot.
    pub over: Option<u64>,
    pub entry_cleared: u64,
}

/// What publishers and dispatcher share. A time is the number of a step.
#[derive(Default)]
pub(super) struct World {
    pub now: u64,
    pub last: Seq,
    /// The transaction that took a seq.
    pub taken: BTreeMap<Seq, usize>,
    pub transactions: Vec<Transaction>,
    pub entries: [Option<Publisher>; PUBLISHERS],
}

impl World {
    /// Whether a snapshot shows the publisher's transaction as not ended.
    pub fn is_running(&self, publisher: &Publisher, snapshot: u64) -> bool {
        let over = self.transactions[publisher.transaction as usize].over;
        over.is_none_or(|over| over > snapshot)
    }

    /// At most `limit` of the seqs from `lo` to `hi` of each range, after no more than `visits` of those that were
    /// taken.
    pub fn read(
        &self,
        ranges: &[(Seq, Seq)],
        snapshot: u64,
        limit: usize,
        visits: usize,
    ) -> (Vec<Seq>, Reached) {
        let mut seqs = Vec::new();
        let mut reached = Reached::Nowhere;
        let taken = ranges.iter().flat_map(|&(lo, hi)| self.taken.range(lo..=hi));
        for (visited, (&seq, &owner)) in taken.enumerate() {
            if seqs.len() == limit || visited == visits {
                return (seqs, reached);
            }
            reached = Reached::UpTo(seq);
            if self.transactions[owner].visible.is_some_and(|time| time <= snapshot) {
                seqs.push(seq);
            }
        }
        (seqs, Reached::End)
    }
}

/// A backend, by what it has done last.
#[derive(Clone, Copy)]
pub(super) enum Backend {
    Idle,
    ReadLast { bound: Seq, begun: u64 },
    Publishing { me: usize, seqs_left: u64 },
    HalfEnded { me: usize, commits: bool },
}

impl Backend {
    /// One step. Says whether it was the last of a transaction.
    pub fn step(
        &mut self,
        session: usize,
        world: &mut World,
        random: &mut Random,
        broken: Broken,
    ) -> bool {
        let early = broken == Broken::EntryClearedBeforeCommit;
        let next = match *self {
            Self::Idle => Self::ReadLast { bound: world.last + 1, begun: world.now },
            Self::ReadLast { bound, begun } => {
                let me = world.transactions.len();
                world.transactions.push(Transaction {
                    begun,
                    visible: None,
                    over: None,
                    entry_cleared: 0,
                });
                let publisher =
                    Publisher { session: session as u32, transaction: me as u64, bound };
                world.entries[session] = Some(publisher);
                Self::Publishing { me, seqs_left: random.below(4) }
            }
            Self::Publishing { me, seqs_left: 0 } if random.one_in(3) => {
                Self::Publishing { me, seqs_left: 1 + random.below(2) }
            }
            Self::Publishing { me, seqs_left: 0 } => {
                let commits = !random.one_in(4);
                Self::end(me, session, commits, early, world);
                Self::HalfEnded { me, commits }
            }
            Self::Publishing { me, seqs_left } => {
                world.last += 1;
                world.taken.insert(world.last, me);
                Self::Publishing { me, seqs_left: seqs_left - 1 }
            }
            Self::HalfEnded { me, commits } => {
                Self::end(me, session, commits, !early, world);
                Self::Idle
            }
        };
        *self = next;
        matches!(next, Self::Idle)
    }

    /// Half of the end of a transaction: it clears its entry, or its rows become visible.
    fn end(me: usize, session: usize, commits: bool, clear: bool, world: &mut World) {
        let transaction = &mut world.transactions[me];
        if clear {
            world.entries[session] = None;
            transaction.entry_cleared = world.now;
        } else {
            transaction.visible = commits.then_some(world.now);
            transaction.over = Some(world.now);
        }
    }
}
