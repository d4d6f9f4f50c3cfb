//! Publishers and a dispatcher take single steps in random turns. No message may get lost or come twice, and none may
//! overtake a lower one that its look could see, or one whose commit was over before its own transaction began. Orders
//! of steps that are known to be wrong must be caught. (That no message comes before its commit needs no test: rows are
//! read under a snapshot.)

mod publishers;

use super::*;
use publishers::{Backend, PUBLISHERS, Random, World};
use std::collections::{BTreeMap, BTreeSet};

const TRANSACTIONS_EACH: u64 = 3;

/// What is broken on purpose.
#[derive(Clone, Copy, PartialEq)]
enum Broken {
    Nothing,
    EntryClearedBeforeCommit,
    SnapshotBeforeEntries,
    EntriesBeforeLast,
    EntriesTakenAtTheirWord,
}

/// What a run can find wrong.
#[derive(Debug, PartialEq)]
enum Fault {
    Lost(Seq),
    Twice(Seq),
    Overtaken { committed: usize, by: usize },
    Skipped(Seq),
    NeverDone,
}

/// What a look reads before the rows. Reading each entry is a step of its own.
enum Part {
    Last,
    Entries,
    Snapshot,
}

/// The dispatcher: in the middle of a look, and all it has delivered.
#[derive(Default)]
struct Dispatcher {
    parts_done: usize,
    entries_read: usize,
    last: Seq,
    open: Vec<Publisher>,
    snapshot: u64,
    tail: Option<Tail>,
    /// The seqs that the dispatcher has delivered, as it knows since its last start.
    known: BTreeSet<Seq>,
    /// The position of each seq in the order of first deliveries.
    order: BTreeMap<Seq, usize>,
    /// The first seq that a look should have delivered and did not.
    skipped: Option<Seq>,
}

impl Dispatcher {
    fn step(&mut self, world: &World, random: &mut Random, broken: Broken) -> Result<(), Fault> {
        let order = match broken {
            Broken::SnapshotBeforeEntries => [Part::Last, Part::Snapshot, Part::Entries],
            Broken::EntriesBeforeLast => [Part::Entries, Part::Last, Part::Snapshot],
            _ => [Part::Last, Part::Entries, Part::Snapshot],
        };
        match order.get(self.parts_done) {
            Some(Part::Last) => self.last = world.last,
            Some(Part::Snapshot) => self.snapshot = world.now,
            Some(Part::Entries) => {
                self.open.extend(world.entries[self.entries_read]);
                self.entries_read += 1;
                if self.entries_read < PUBLISHERS {
                    return Ok(());
                }
            }
            None => {
                (self.parts_done, self.entries_read) = (0, 0);
                let mut open = std::mem::take(&mut self.open);
                if broken != Broken::EntriesTakenAtTheirWord {
                    open.retain(|publisher| world.is_running(publisher, self.snapshot));
                }
                return match self.tail.take() {
                    Some(tail) if !random.one_in(20) => self.look(tail, open, world, random),
                    _ => self.start(&open, world),
                };
            }
        }
        self.parts_done += 1;
        Ok(())
    }

    /// After a start, what lies at or below the position is read from the table by the consumers.
    fn start(&mut self, open: &[Publisher], world: &World) -> Result<(), Fault> {
        let tail = Tail::new(self.last, open);
        self.known.retain(|&seq| seq <= tail.pos());
        let (mut seqs, _) = world.read(&[(0, tail.pos())], self.snapshot, usize::MAX, usize::MAX);
        seqs.retain(|seq| !self.known.contains(seq));
        self.tail = Some(tail);
        self.deliver(seqs)
    }

    fn look(
        &mut self,
        mut tail: Tail,
        open: Vec<Publisher>,
        world: &World,
        random: &mut Random,
    ) -> Result<(), Fault> {
        let plan = tail.plan_read(self.last, open, 1 + random.below(3) as usize);
        // Sometimes the reading fails.
        if random.one_in(10) {
            self.tail = Some(tail);
            return Ok(());
        }
        let limit = 1 + random.below(5) as usize;
        let visits = 1 + random.below(8) as usize;
        let (refound, reached) = world.read(&plan.recheck, self.snapshot, limit, visits);
        let refound = Seen { seqs: &refound, reached };
        let ranges: Vec<_> = plan.scan.iter().map(|&(after, upto)| (after + 1, upto)).collect();
        let limit = limit - refound.seqs.len();
        let (rows, reached) = world.read(&ranges, self.snapshot, limit, visits);
        let rows = Seen { seqs: &rows, reached };
        let rows = if refound.reached.is_end() { rows } else { Seen::UNREAD };
        tail.apply_read(plan, refound, rows);
        self.tail = Some(tail);
        let highest = refound.seqs.iter().chain(rows.seqs).max().copied().unwrap_or(0);
        self.deliver([refound.seqs, rows.seqs].concat())?;
        // All that the look could see below what it has delivered, it has delivered.
        let (visible, _) = world.read(&[(0, highest)], self.snapshot, usize::MAX, usize::MAX);
        self.skipped = self.skipped.or(visible.into_iter().find(|seq| !self.known.contains(seq)));
        Ok(())
    }

    fn deliver(&mut self, mut seqs: Vec<Seq>) -> Result<(), Fault> {
        seqs.sort_unstable();
        for seq in seqs {
            let number = self.order.len();
            self.order.entry(seq).or_insert(number);
            if !self.known.insert(seq) {
                return Err(Fault::Twice(seq));
            }
        }
        Ok(())
    }

    /// True between two looks, if nothing is left to be done.
    fn is_done(&self, world: &World) -> bool {
        let done = |tail: &Tail| tail.pos() == world.last && tail.lowest_hole().is_none();
        self.parts_done == 0 && self.tail.as_ref().is_some_and(|tail| done(tail) && !tail.pending())
    }
}

fn run(seed: u64, broken: Broken) -> Result<(), Fault> {
    let mut random = Random(seed);
    let mut world = World::default();
    let mut dispatcher = Dispatcher::default();
    let mut backends = [(Backend::Idle, TRANSACTIONS_EACH); PUBLISHERS];
    // In some runs the dispatcher is slow, or the first publisher stays open for long.
    let slowness = 1 + random.below(8);
    let haste = 1 + random.below(8);
    while backends.iter().any(|&(_, left)| left > 0) {
        world.now += 1;
        let turn = random.below(PUBLISHERS as u64 + haste) as usize;
        match backends.get_mut(turn) {
            None => dispatcher.step(&world, &mut random, broken)?,
            Some((_, 0)) => {}
            Some(_) if turn == 0 && !random.one_in(slowness) => {}
            Some((backend, left)) => {
                *left -= u64::from(backend.step(turn, &mut world, &mut random, broken));
            }
        }
    }
    let deadline = world.now + 10_000;
    while !dispatcher.is_done(&world) {
        world.now += 1;
        dispatcher.step(&world, &mut random, broken)?;
        if world.now > deadline {
            return Err(Fault::NeverDone);
        }
    }
    check(&world, &dispatcher.order)?;
    dispatcher.skipped.map_or(Ok(()), |seq| Err(Fault::Skipped(seq)))
}

/// After everything has ended and been looked at: what was delivered is what was committed, in an order that the
/// publishers could expect.
fn check(world: &World, order: &BTreeMap<Seq, usize>) -> Result<(), Fault> {
    let mut delivered: Vec<Option<(usize, usize)>> = vec![None; world.transactions.len()];
    for (seq, &owner) in &world.taken {
        match (world.transactions[owner].visible, order.get(seq)) {
            (Some(_), None) => return Err(Fault::Lost(*seq)),
            (None, Some(_)) => unreachable!("a rolled-back row was read"),
            (None, None) => {}
            (Some(_), Some(&at)) => {
                let (first, last) = delivered[owner].unwrap_or((at, at));
                delivered[owner] = Some((first.min(at), last.max(at)));
            }
        }
    }
    for (committed, one) in world.transactions.iter().enumerate() {
        for (by, other) in world.transactions.iter().enumerate() {
            if one.entry_cleared < other.begun
                && let (Some((_, last)), Some((first, _))) = (delivered[committed], delivered[by])
                && last > first
            {
                return Err(Fault::Overtaken { committed, by });
            }
        }
    }
    Ok(())
}

fn runs_that_skip(runs: u64, broken: Broken) -> usize {
    (0..runs).filter(|&seed| matches!(run(seed, broken), Err(Fault::Skipped(_)))).count()
}

fn runs_that_lose(runs: u64, broken: Broken) -> usize {
    (0..runs).filter(|&seed| matches!(run(seed, broken), Err(Fault::Lost(_)))).count()
}

#[test]
fn no_interleaving_loses_repeats_or_reorders_a_message() {
    for seed in 0..20_000 {
        assert_eq!(run(seed, Broken::Nothing), Ok(()), "seed {seed}");
    }
}

#[test]
fn clearing_the_entry_before_the_commit_is_visible_loses_messages() {
    assert!(runs_that_lose(1_000, Broken::EntryClearedBeforeCommit) > 10);
}

#[test]
fn taking_the_snapshot_before_reading_the_entries_loses_messages() {
    assert!(runs_that_lose(1_000, Broken::SnapshotBeforeEntries) > 10);
}

#[test]
fn taking_a_publisher_for_open_whose_commit_is_visible_skips_messages() {
    assert!(runs_that_skip(1_000, Broken::EntriesTakenAtTheirWord) > 10);
}

#[test]
fn reading_the_entries_before_the_last_value_loses_messages() {
    assert!(runs_that_lose(1_000, Broken::EntriesBeforeLast) > 10);
}
