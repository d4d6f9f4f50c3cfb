//! What surrounds the rules, done wrong in one way each: the simulation must notice every one of them, or it would not
//! notice if the rules relied on it in vain.

use super::{OPS, Op, op, run};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::{RngAlgorithm, TestError, TestRng, TestRunner};
use std::cell::Cell;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mistake {
    /// Requests are handed in before the ends of transactions that were collected with them.
    RequestsFirst,
    /// A dispatcher starts without a look at what its predecessor has promised.
    NoReset,
    /// It doesn't wait for transactions that are just committing.
    NoWaitForCommits,
    /// Publishers are read after the snapshot that is read by.
    SnapshotFirst,
    /// A transaction's publishing is over before its messages are visible.
    ClearedTooEarly,
    /// Sessions are not told that they have to ask.
    NoRevoke,
    /// The journal is said to be written, and is not.
    JournalLost,
    /// Checkpoints don't say which transactions were open.
    NoOpenAcks,
    /// A change of configuration is taken note of before the sessions are told that they have to ask.
    ChangeFirst,
    /// Of what a transaction has changed, one thing is not told.
    ChangeUntold,
    /// What was asked for and isn't there any more is taken as not asked for.
    DropForgotten,
    /// Publishers wake nobody.
    DeafToPublishers,
    /// Ends of transactions wake nobody.
    DeafToEnds,
    /// Whoever has acked may commit while there is no dispatcher, whatever dispatchers have been since.
    AnyDispatcherBefore,
    /// Whoever has acked may commit under any dispatcher.
    NoFence,
    /// A process takes an entry over before what the last one has left was collected.
    OwnTooEarly,
    /// A rollback to a savepoint is not told.
    SavepointForgotten,
    /// The same epoch twice: ids come again.
    SameEpoch,
    /// A dispatcher that ends writes nothing.
    NoFlush,
}

const ALL: [Mistake; 19] = [
    Mistake::RequestsFirst,
    Mistake::NoReset,
    Mistake::NoWaitForCommits,
    Mistake::SnapshotFirst,
    Mistake::ClearedTooEarly,
    Mistake::NoRevoke,
    Mistake::JournalLost,
    Mistake::NoOpenAcks,
    Mistake::ChangeFirst,
    Mistake::ChangeUntold,
    Mistake::DropForgotten,
    Mistake::DeafToPublishers,
    Mistake::DeafToEnds,
    Mistake::AnyDispatcherBefore,
    Mistake::NoFence,
    Mistake::OwnTooEarly,
    Mistake::SavepointForgotten,
    Mistake::SameEpoch,
    Mistake::NoFlush,
];

impl Mistake {
    /// What has to happen for it to show.
    fn takes(self) -> &'static [Op] {
        match self {
            Mistake::SavepointForgotten => &[Op::Savepoint, Op::Finish, Op::RollBackTo],
            Mistake::AnyDispatcherBefore | Mistake::NoFence => &[Op::Stop, Op::Kill, Op::Finish],
            Mistake::NoWaitForCommits => &[Op::Kill, Op::Commit],
            Mistake::OwnTooEarly => &[Op::Die, Op::Kill],
            _ => &[],
        }
    }
}

/// How many runs it may take: mostly a few hundred.
const RUNS: u32 = 20_000;

#[test]
fn every_mistake_is_noticed() {
    let mut unnoticed = Vec::new();
    for mistake in ALL {
        let config = ProptestConfig {
            cases: RUNS,
            failure_persistence: None,
            max_shrink_iters: 0,
            ..ProptestConfig::default()
        };
        let done = Cell::new(0);
        let runs = Cell::new(0);
        let attempt = |ops: Vec<(Op, u64)>| {
            runs.set(runs.get() + 1);
            run(&ops, &done, Some(mistake))
        };
        // The same operations in each run of the test: what is noticed once is noticed always.
        let random = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
        let mut runner = TestRunner::new_with_rng(config, random);
        match runner.run(&vec(op(mistake.takes()), OPS), attempt) {
            Err(TestError::Fail(reason, _)) => {
                println!("{mistake:?}, after {} runs: {}", runs.get(), reason.message());
            }
            _ => unnoticed.push(mistake),
        }
    }
    assert!(unnoticed.is_empty(), "{unnoticed:?}");
}
