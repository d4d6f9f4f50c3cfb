//! One run: two databases, and the sessions that use them.

use super::super::stored::ConsumerConfig;
use super::checker::Promised;
use super::client::Client;
use super::mistakes::Mistake;
use super::server::Worker;
use super::tables::{Consumer, Storage, Stream};
use super::{Checked, Op};
use crate::changes::Changes;
use crate::ids::{AckId, ConsumerId, Generation, SessionId, StreamId};
use crate::key::Seq;
use crate::settings::{Micros, Settings};
use std::collections::{BTreeMap, BTreeSet};

pub const SESSIONS: usize = 5;
pub const KEYS: [&str; 5] = ["a.x", "a.y", "b.x", "b.y", "c"];
pub const FILTERS: [&str; 5] = [">", "a.*", "*.x", "b.>", "c"];
pub const STREAMS: [StreamId; 2] = [StreamId(1001), StreamId(1002)];
const HOUR: Micros = 3_600_000_000;
pub const SECOND: Micros = 1_000_000;

/// Random numbers from one: splitmix64.
pub struct Numbers(pub u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }

    pub fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    pub fn pick<T: Copy>(&mut self, from: &[T]) -> Option<T> {
        (!from.is_empty()).then(|| from[self.below(from.len())])
    }
}

/// One database.
#[derive(Default)]
pub struct Database {
    pub storage: Storage,
    /// `None` while it has no dispatcher, or while that is in a step.
    pub worker: Option<Worker>,
    /// The number of the dispatcher whose word counts; 0 if there is none.
    pub reign: u64,
    /// That one's, or of the last that there was.
    pub last_reign: u64,
    pub config_changed: bool,
    /// What of it, as long as that is so.
    pub changes: Changes,
    /// Sessions that have something for the dispatcher.
    pub marked: BTreeSet<SessionId>,
    pub published: BTreeSet<StreamId>,
    pub listening: BTreeSet<StreamId>,
    pub waited_for: bool,
    /// The dispatcher's latch.
    pub is_woken: bool,
    pub locked: BTreeSet<StreamId>,
    pub journal_is_locked: bool,
    /// When it could be known that a message's transaction had ended.
    pub noticed: BTreeMap<(StreamId, i64), u64>,
    /// Deliveries that workers may come back to.
    pub handed: Vec<(ConsumerId, AckId, Seq)>,
    pub promised: BTreeMap<ConsumerId, Promised>,
    pub next_table: u32,
    /// The wall clock was set since the dispatcher started: the next one takes its deadlines for other times.
    pub clock_was_set: bool,
}

pub struct World {
    pub now: Micros,
    pub wall_offset: Micros,
    pub databases: [Database; 2],
    pub clients: Vec<Client>,
    pub reigns: u64,
    pub pids: i32,
    pub operations: u64,
    /// Nothing happens but what is asked for.
    pub is_calm: bool,
    /// What a session has seen that must not be.
    pub violation: Option<String>,
    /// Something is done wrong on purpose.
    pub mistake: Option<Mistake>,
}

fn consumers() -> [ConsumerConfig; 4] {
    let config = |id, stream: &str, filter: &str, settings| ConsumerConfig {
        id,
        name: format!("c{id}"),
        stream: stream.into(),
        generation: Generation(1),
        filters: vec![filter.into()],
        settings,
        start_after: 0,
        start_done: Vec::new(),
        start_last: 0,
    };
    let usual = Settings { ack_wait: 30 * SECOND, ..Settings::default() };
    let few = Settings { max_ack_pending: 3, ..usual.clone() };
    let unordered = Settings { max_ack_pending: 5, ordered: false, ..usual.clone() };
    let strict = Settings { max_deliver: Some(3), backoff: vec![SECOND], ..usual.clone() };
    [
        config(ConsumerId(1), "s", ">", usual),
        config(ConsumerId(2), "s", "a.*", few),
        config(ConsumerId(3), "s", ">", unordered),
        config(ConsumerId(4), "t", ">", strict),
    ]
}

impl World {
    pub fn new() -> World {
        let mut world = World {
            now: HOUR,
            wall_offset: 1000 * HOUR,
            databases: Default::default(),
            clients: (0..SESSIONS).map(|_| Client::new()).collect(),
            reigns: 0,
            pids: 0,
            operations: 0,
            is_calm: false,
            violation: None,
            mistake: None,
        };
        for database in &mut world.databases {
            database.next_table = 2000;
            database.storage.write(true, |tables| {
                for (id, name) in STREAMS.into_iter().zip(["s", "t"]) {
                    tables.streams.insert(id, Stream { name: name.into(), ..Stream::default() });
                }
                for config in consumers() {
                    tables.consumers.insert(config.id, Consumer::new(config));
                }
            });
        }
        (0..SESSIONS).for_each(|c| world.come(c, c % 2));
        (0..2).for_each(|db| world.start(db));
        world
    }

    pub fn op(&mut self, op: Op, numbers: u64) -> Checked {
        self.operations += 1;
        let n = &mut Numbers(numbers);
        let (c, db) = (n.below(SESSIONS), n.below(2));
        match op {
            Op::Step => {
                self.step(db, n)?;
                self.check_wakefulness(db)?;
                self.check_config(db)?;
            }
            Op::Wait => {
                let waits = [1_000, 60_000, 150_000, SECOND, 10 * SECOND, 70 * SECOND];
                self.now += waits[n.below(waits.len())];
            }
            Op::StepWallClock => {
                self.wall_offset += if n.one_in(2) { HOUR } else { -HOUR };
                self.databases.iter_mut().for_each(|database| database.clock_was_set = true);
                (0..2).for_each(|db| self.doubt_unloaded(db));
            }
            Op::Kill => self.kill(db),
            Op::Stop => self.stop(db, n)?,
            Op::CutPower => self.cut_power(n),
            Op::Lock => self.lock(db, n),
            Op::Unlock => self.unlock(db),
            Op::Alter => self.alter(db, n),
            Op::Rewind => self.rewind(db, n),
            Op::Drop => self.drop_something(db, n),
            Op::Create => self.create(db, n),
            Op::Retain => self.retain(db, n),
            Op::SpendIds => self.spend_ids(db),
            Op::Die => self.die(c, n),
            _ => self.client_op(op, c, n),
        }
        Ok(())
    }
}
