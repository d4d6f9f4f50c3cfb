//! The engine against a reference, under random operations: transactions that publish, receive, ack and roll
//! back; clocks that step; restarts that lose nothing, the dispatcher's memory, or the end of the log.
//!
//! `world` has the tables, `session` and `dispatcher` drive the engine as the dispatcher and the sessions do,
//! `reference` says what a consumer promises, `checks` compares. proptest shortens a run that fails.
//! `PROPTEST_CASES=100000` searches longer.

mod checks;
mod dispatcher;
mod drain;
mod op;
mod reference;
mod requests;
mod run;
mod session;
mod trouble;
mod world;

use op::{Op, op};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::{TestCaseError, TestError, TestRunner};
use run::{Reached, Run};
use std::cell::Cell;

/// What a check returns.
type Checked<T = ()> = Result<T, TestCaseError>;

/// Runs of an ordinary test; at 500 operations on average, some 250,000 of these in 10 s.
const RUNS: u32 = 512;

/// Operations of one run. The least is none, so that proptest can leave out the operations of a failing run one by one.
const OPS: std::ops::RangeInclusive<usize> = 0..=1000;

fn run(ops: &[Op], done: &Cell<usize>, reached: &Cell<Reached>) -> Checked {
    let mut run = Run::new();
    run.reached = reached.get();
    for op in ops {
        run.op(*op)?;
        done.set(done.get() + 1);
    }
    reached.set(run.reached);
    run.drain()
}

#[test]
fn whatever_happens_each_message_is_delivered_in_order_until_it_is_acked() {
    let config = ProptestConfig {
        cases: RUNS.max(ProptestConfig::default().cases),
        failure_persistence: None,
        max_shrink_iters: 20_000,
        ..ProptestConfig::default()
    };
    let (done, reached) = (Cell::new(0), Cell::new(Reached::default()));
    let result = TestRunner::new(config).run(&vec(op(), OPS), |ops| run(&ops, &done, &reached));
    if let Err(TestError::Fail(reason, ops)) = &result {
        let ops: Vec<String> = ops.iter().map(|op| format!("    Op::{op:?},\n")).collect();
        panic!("{reason}, after\n{}", ops.concat());
    }
    result.unwrap();
    assert!(done.get() >= 100_000, "only {} operations", done.get());
    let Reached { shelved, full, full_and_shelved, above_budget } = reached.get();
    let rarest = [shelved, full, full_and_shelved, above_budget].into_iter().min();
    assert!(rarest >= Some(200), "not often enough: {:?}", reached.get());
}
