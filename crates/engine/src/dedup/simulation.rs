//! Publishers and a janitor take single steps in random turns. Of two publications of one id that commit, the second must
//! have looked for it a window after the first one's commit, at the least. What is broken on purpose must be caught.

use super::*;
use std::collections::BTreeMap;

const WINDOW: Micros = 1_000_000;
const PUBLISHERS: usize = 4;
const IDS: u64 = 3;

#[derive(Clone, Copy, PartialEq)]
enum Broken {
    Nothing,
    /// A table is closed while transactions are open that may write into it.
    ClosedAtOnce,
    /// A closed table is emptied after half a window.
    EmptiedEarly,
    /// A table is emptied though an open transaction has looked into it.
    EmptiedInUse,
    /// Ids are not claimed in the closing table.
    ClosingLeftOut,
    /// That a commit was late is not noted, or noted when the entry is cleared already.
    LateIgnored,
    LateNotedLast,
    /// Entries of transactions whose commit is visible already are not looked at, or after the notes.
    OpenIgnored,
    OpenAskedLast,
}

/// SplitMix64: the same numbers in every run.
struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % n
    }
}

#[derive(Clone, Copy, PartialEq)]
enum State {
    Open,
    Committed(Micros),
    RolledBack,
}

struct Transaction {
    state: State,
    /// What its entry says: since when it publishes. None when it has ended, and that was noted.
    entry: Option<Micros>,
    claimed: Option<Micros>,
    /// The tables that it has looked into, and locked.
    locked: Vec<usize>,
    /// The ids that it has published, and when it had looked for each.
    published: Vec<(u64, Micros)>,
}

#[derive(Clone, Copy)]
struct Row {
    at: Micros,
    by: usize,
}

/// Where a publisher is.
enum Doing {
    Idle,
    Between,
    /// It has read the turns, and looks for the id; then it asks for open transactions, then for late ones.
    Looks,
    AsksOpen(Vec<Row>),
    AsksLate(Vec<Row>, Option<Micros>),
    /// It claims the id in these tables. Rows before this time have expired.
    Claims(Vec<usize>, Micros),
    /// Its commit is visible, and its entry is not cleared yet.
    Ends,
}

struct Publisher {
    step: Doing,
    transaction: usize,
    /// As it has read them when it looked.
    turns: Vec<Turn>,
    id: u64,
    /// When it began to publish the id, and when it looked for it.
    now: Micros,
    looked: Micros,
    /// Late commits as it has read them before, where the order is broken.
    late: Option<Micros>,
}

struct World {
    now: Micros,
    broken: Broken,
    tables: Vec<Table>,
    rows: Vec<BTreeMap<u64, Row>>,
    transactions: Vec<Transaction>,
    late: Late,
    /// The transactions that were open when the closing table's turn began.
    awaited: Option<Vec<usize>>,
}

impl World {
    fn turns(&self) -> Vec<Turn> {
        self.tables.iter().map(|table| table.turn).collect()
    }

    fn is_visible(&self, row: Row, to: usize) -> bool {
        row.by == to || matches!(self.transactions[row.by].state, State::Committed(_))
    }

    fn oldest_open(&self) -> Option<Micros> {
        self.transactions.iter().filter_map(|transaction| transaction.entry).min()
    }

    fn janitor(&mut self) {
        let is_over = |&n: &usize| self.transactions[n].state != State::Open;
        if self.awaited.is_none() {
            let open = (0..self.transactions.len()).filter(|n| !is_over(n));
            self.awaited = Some(open.collect());
            return;
        }
        let have_all_ended = self.broken == Broken::ClosedAtOnce
            || self.awaited.as_ref().is_some_and(|all| all.iter().all(is_over));
        let current = self.tables.iter().position(|table| table.turn == Turn::Current);
        let facts = Facts {
            now: self.now,
            window: if self.broken == Broken::EmptiedEarly { WINDOW / 2 } else { WINDOW },
            has_ids: current.is_some_and(|n| !self.rows[n].is_empty()),
            have_all_ended,
        };
        for step in steps(&self.tables, &facts) {
            let mut set = |number: i16, turn| {
                let n = usize::try_from(number).unwrap();
                let uses = |it: &Transaction| it.state == State::Open && it.locked.contains(&n);
                if turn == Turn::Free
                    && self.broken != Broken::EmptiedInUse
                    && self.transactions.iter().any(uses)
                {
                    return;
                }
                self.tables[n] = Table { number, turn, since: self.now };
                if turn == Turn::Free {
                    self.rows[n].clear();
                }
            };
            match step {
                Step::Open { number, instead_of } => {
                    set(number, Turn::Current);
                    set(instead_of, Turn::Closing);
                    self.awaited = None;
                }
                Step::Close(number) => set(number, Turn::Closed),
                Step::Empty(number) => set(number, Turn::Free),
            }
        }
    }

    /// Claims an id in a table: `Ok(true)` if it is claimed, `Ok(false)` if it had been published, an error if an open
    /// transaction stands in the way.
    fn claim(&mut self, n: usize, publisher: &Publisher, expired: Micros) -> Result<bool, ()> {
        if let Some(&row) = self.rows[n].get(&publisher.id) {
            match self.transactions[row.by].state {
                State::Open if row.by != publisher.transaction => return Err(()),
                State::RolledBack => {}
                _ if row.at >= expired => return Ok(false),
                _ => {}
            }
        }
        let row = Row { at: publisher.now, by: publisher.transaction };
        self.rows[n].insert(publisher.id, row);
        Ok(true)
    }
}

impl Publisher {
    fn step(&mut self, world: &mut World, random: &mut Random) {
        self.step = match std::mem::replace(&mut self.step, Doing::Between) {
            Doing::Idle if random.below(4) == 0 => {
                self.transaction = world.transactions.len();
                let transaction = Transaction {
                    state: State::Open,
                    entry: None,
                    claimed: None,
                    locked: Vec::new(),
                    published: Vec::new(),
                };
                world.transactions.push(transaction);
                Doing::Between
            }
            Doing::Idle => Doing::Idle,
            Doing::Between => match random.below(10) {
                0..=3 => {
                    self.id = random.below(IDS);
                    self.now = world.now;
                    let own = &mut world.transactions[self.transaction];
                    own.entry.get_or_insert(world.now);
                    Doing::Looks
                }
                4 => self.end(world, State::Committed(world.now)),
                5 if random.below(3) == 0 => self.end(world, State::RolledBack),
                _ => Doing::Between,
            },
            Doing::Looks => {
                self.looked = world.now;
                self.turns = world.turns();
                let used = (0..self.turns.len()).filter(|&n| self.turns[n] != Turn::Free);
                let used: Vec<usize> = used.collect();
                let rows = used.iter().filter_map(|&n| world.rows[n].get(&self.id).copied());
                let seen = rows.filter(|&row| world.is_visible(row, self.transaction)).collect();
                if world.broken == Broken::OpenAskedLast {
                    let late = expired_before(self.now, WINDOW, None, &world.late);
                    self.late = Some(late);
                }
                world.transactions[self.transaction].locked.extend(used);
                Doing::AsksOpen(seen)
            }
            Doing::AsksOpen(seen) => {
                let open = world.oldest_open().filter(|_| world.broken != Broken::OpenIgnored);
                Doing::AsksLate(seen, open)
            }
            Doing::AsksLate(seen, open) => {
                let none = Late::NONE;
                let late = if world.broken == Broken::LateIgnored { &none } else { &world.late };
                let mut expired = expired_before(self.now, WINDOW, open, late);
                if let Some(late) = self.late.take() {
                    expired = expired_before(self.now, WINDOW, open, &none).min(late);
                }
                if seen.iter().any(|row| row.at >= expired) {
                    Doing::Between
                } else {
                    let leaves_out = world.broken == Broken::ClosingLeftOut;
                    let closing = Some(Turn::Closing).filter(|_| !leaves_out);
                    let wanted = closing.into_iter().chain([Turn::Current]);
                    let find = |turn| self.turns.iter().position(|&it| it == turn);
                    Doing::Claims(wanted.filter_map(find).collect(), expired)
                }
            }
            Doing::Claims(mut tables, expired) => match tables.first().copied() {
                None => {
                    let own = &mut world.transactions[self.transaction];
                    own.claimed.get_or_insert(self.now);
                    own.published.push((self.id, self.looked));
                    Doing::Between
                }
                Some(n) => match world.claim(n, self, expired) {
                    Ok(true) => {
                        tables.remove(0);
                        Doing::Claims(tables, expired)
                    }
                    Ok(false) => Doing::Between,
                    // Opposite orders deadlock, and one of them rolls back.
                    Err(()) if random.below(20) == 0 => self.end(world, State::RolledBack),
                    Err(()) => Doing::Claims(tables, expired),
                },
            },
            Doing::Ends => {
                let own = &mut world.transactions[self.transaction];
                let is_over = own.entry.take().is_none();
                let claimed = own.claimed.take();
                if let Some(claimed) = claimed
                    && matches!(own.state, State::Committed(_))
                {
                    let notes_last = world.broken == Broken::LateNotedLast;
                    if notes_last && !is_over {
                        own.claimed = Some(claimed);
                        self.step = Doing::Ends;
                        return;
                    }
                    world.late.add(claimed, world.now);
                }
                Doing::Idle
            }
        };
    }

    fn end(&self, world: &mut World, state: State) -> Doing {
        world.transactions[self.transaction].state = state;
        Doing::Ends
    }
}

/// Returns whether all is well.
fn run(seed: u64, broken: Broken) -> bool {
    let mut random = Random(seed);
    let turn = |number| if number == 0 { Turn::Current } else { Turn::Free };
    let tables: Vec<Table> =
        (0..4).map(|number| Table { number, turn: turn(number), since: 0 }).collect();
    let mut world = World {
        now: 10 * WINDOW,
        broken,
        rows: vec![BTreeMap::new(); tables.len()],
        tables,
        transactions: Vec::new(),
        late: Late::NONE,
        awaited: None,
    };
    let mut publishers: Vec<Publisher> = (0..PUBLISHERS)
        .map(|_| Publisher {
            step: Doing::Idle,
            transaction: 0,
            turns: Vec::new(),
            id: 0,
            now: 0,
            looked: 0,
            late: None,
        })
        .collect();
    // In some runs time passes fast, and the first publisher is slow.
    let pace = 1 + random.below(100_000);
    let slowness = 1 + random.below(30);
    for _ in 0..1_500 {
        world.now += Micros::try_from(random.below(pace)).unwrap();
        match publishers.get_mut(usize::try_from(random.below(6)).unwrap()) {
            None => world.janitor(),
            Some(publisher) => publisher.step(&mut world, &mut random),
        }
        if random.below(slowness) == 0 {
            publishers[1].step(&mut world, &mut random);
        }
    }
    let mut commits: BTreeMap<u64, Vec<(Micros, Micros)>> = BTreeMap::new();
    for transaction in &world.transactions {
        if let State::Committed(at) = transaction.state {
            for &(id, looked) in &transaction.published {
                commits.entry(id).or_default().push((at, looked));
            }
        }
    }
    commits.into_values().all(|mut all| {
        all.sort_unstable();
        all.windows(2).all(|two| two[1].1 >= two[0].0 + WINDOW)
    })
}

fn caught(broken: Broken) -> usize {
    (0..4_000).filter(|&seed| !run(seed, broken)).count()
}

#[test]
fn no_id_is_published_twice_within_a_window() {
    for seed in 0..5_000 {
        assert!(run(seed, Broken::Nothing), "seed {seed}");
    }
}

#[test]
fn what_is_broken_is_caught() {
    for (name, broken) in [
        ("closed at once", Broken::ClosedAtOnce),
        ("emptied early", Broken::EmptiedEarly),
        ("emptied in use", Broken::EmptiedInUse),
        ("closing table left out", Broken::ClosingLeftOut),
        ("late commits ignored", Broken::LateIgnored),
        ("late commits noted last", Broken::LateNotedLast),
        ("open transactions ignored", Broken::OpenIgnored),
        ("open transactions asked for last", Broken::OpenAskedLast),
    ] {
        let runs = caught(broken);
        println!("{name}: {runs} of 4000");
        assert!(runs > 2, "{name}: {runs} of 4000");
    }
}
