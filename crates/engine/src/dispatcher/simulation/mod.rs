//! The dispatcher's rules against a simulated server, under random operations: sessions of two databases that share
//! entries, with transactions, savepoints and acks without asking; locked tables, late commits, deletes, messages that
//! replace others; dispatchers that end at any point; power cuts that tear the journals; clocks that step.
//!
//! `tables` is what commits make of the tables, `client` what a session does, `server` what the worker does around the
//! rules, `checker` what must hold for whoever can only see what clients see. An operation that fails is shortened by
//! proptest to the least that fails. `PROPTEST_CASES=100000` looks longer.

mod checker;
mod client;
mod drain;
mod insight;
mod mistakes;
mod scenarios;
mod server;
mod tables;
mod trouble;
mod world;

use mistakes::Mistake;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::{TestCaseError, TestError, TestRunner};
use std::cell::Cell;
use world::World;

/// What a check returns.
type Checked<T = ()> = Result<T, TestCaseError>;

fn fail<T>(reason: impl Into<String>) -> Checked<T> {
    Err(TestCaseError::fail(reason.into()))
}

/// Operations of one run. From none, so that those of a run that fails can be left out one by one.
const OPS: std::ops::RangeInclusive<usize> = 0..=600;

/// Runs of an ordinary test: more than two million operations, with those within a dispatcher's step, in some 5 s.
const RUNS: u32 = 4000;

/// Something that can happen, and random numbers for how: each is resolved against the state of the moment, so that any
/// sequence of operations means something and a failing one can be shortened anywhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Op {
    Publish,
    Receive,
    Finish,
    Nack,
    Extend,
    Redeliver,
    Stats,
    /// A session looks whether its answer is there; or gives up waiting for it.
    TakeAnswer,
    Cancel,
    Savepoint,
    Release,
    RollBackTo,
    /// One of the steps of a commit.
    Commit,
    RollBack,
    /// A session's process ends; another one takes its entry, perhaps in the other database.
    Die,
    /// A dispatcher does what it does between two sleeps, if it is woken.
    Step,
    Wait,
    StepWallClock,
    Kill,
    Stop,
    CutPower,
    Lock,
    Unlock,
    Alter,
    Rewind,
    Drop,
    Create,
    Retain,
    /// A dispatcher's ids are nearly spent: it needs another epoch.
    SpendIds,
}

/// How often each operation comes.
const WEIGHTS: [(u32, Op); 29] = [
    (14, Op::Publish),
    (16, Op::Receive),
    (14, Op::Finish),
    (5, Op::Nack),
    (2, Op::Extend),
    (2, Op::Redeliver),
    (1, Op::Stats),
    (24, Op::TakeAnswer),
    (1, Op::Cancel),
    (6, Op::Savepoint),
    (2, Op::Release),
    (5, Op::RollBackTo),
    (30, Op::Commit),
    (4, Op::RollBack),
    (1, Op::Die),
    (40, Op::Step),
    (8, Op::Wait),
    (1, Op::StepWallClock),
    (2, Op::Kill),
    (4, Op::Stop),
    (1, Op::CutPower),
    (2, Op::Lock),
    (3, Op::Unlock),
    (2, Op::Alter),
    (1, Op::Rewind),
    (1, Op::Drop),
    (1, Op::Create),
    (1, Op::Retain),
    (1, Op::SpendIds),
];

/// One operation; some come more often than usual.
fn op(often: &'static [Op]) -> impl Strategy<Value = (Op, u64)> {
    let weights: Vec<(u32, Op)> =
        WEIGHTS.into_iter().chain(often.iter().map(|&op| (15, op))).collect();
    let total: u32 = weights.iter().map(|(weight, _)| weight).sum();
    (0..total, any::<u64>()).prop_map(move |(mut at, numbers)| {
        for &(weight, op) in &weights {
            if at < weight {
                return (op, numbers);
            }
            at -= weight;
        }
        (Op::Step, numbers)
    })
}

fn run(ops: &[(Op, u64)], done: &Cell<u64>, mistake: Option<Mistake>) -> Checked {
    let mut world = World::new();
    world.mistake = mistake;
    for &(op, numbers) in ops {
        world.op(op, numbers)?;
    }
    world.drain()?;
    done.set(done.get() + world.operations);
    Ok(())
}

#[test]
fn whatever_happens_the_rules_keep_their_promises() {
    let config = ProptestConfig {
        cases: RUNS.max(ProptestConfig::default().cases),
        failure_persistence: None,
        max_shrink_iters: 20_000,
        ..ProptestConfig::default()
    };
    let done = Cell::new(0);
    let result = TestRunner::new(config).run(&vec(op(&[]), OPS), |ops| run(&ops, &done, None));
    if let Err(TestError::Fail(reason, ops)) = &result {
        let ops: Vec<String> = ops.iter().map(|op| format!("    {op:?},\n")).collect();
        panic!("{reason}, after\n{}", ops.concat());
    }
    result.unwrap();
    assert!(done.get() >= 1_000_000, "only {} operations", done.get());
}

/// `SIMULATE=file cargo test -p sequin-engine simulation::replay` runs what a failure has printed, and tells each step.
#[test]
fn replay() {
    let Some(file) = std::env::var_os("SIMULATE") else { return };
    let text = std::fs::read_to_string(file).unwrap();
    let mut world = World::new();
    for line in text.lines() {
        let Some((name, numbers)) = line.trim().trim_matches(['(', ')', ',']).split_once(", ")
        else {
            continue;
        };
        let named = |(_, op): &&(u32, Op)| format!("{op:?}") == name;
        let (_, op) = WEIGHTS.iter().find(named).unwrap();
        eprintln!("{op:?}");
        world.op(*op, numbers.parse().unwrap()).unwrap();
    }
    world.drain().unwrap();
}
