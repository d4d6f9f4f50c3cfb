//! One run: the engine, the world around it, and the references it is compared with.

use super::Checked;
use super::dispatcher::{Dispatcher, Limits};
use super::op::{Op, SESSIONS};
use super::reference::Reference;
use super::session::{Ended, Session};
use super::world::{Config, KEYS, Message, Record, World};
use crate::ids::{AckId, ConsumerId, RequestId};
use crate::key::Seq;
use crate::settings::{Micros, Settings};
use crate::tail::Publisher;
use std::collections::{BTreeMap, BTreeSet, HashSet};

const HOUR: Micros = 3_600_000_000;

/// The consumer that no session receives from.
pub const IDLE: ConsumerId = ConsumerId(5);

/// What a consumer is compared with.
#[derive(Debug, Default)]
pub struct Watched {
    pub reference: Reference,
    /// What it was before a restart that loses nothing.
    pub before: Option<Reference>,
    /// Messages that were offered before the filters were changed such that they don't match, or do: they may be
    /// delivered or not.
    pub maybe: BTreeSet<Seq>,
    /// Redelivered by a transaction, but another one asked for the same, committed first, and its redelivery was acked.
    /// A restart may forget such a message, as it has been delivered since it was asked for.
    pub raced: BTreeSet<Seq>,
}

pub struct Run {
    pub world: World,
    pub dispatcher: Dispatcher,
    pub sessions: [Session; SESSIONS],
    pub watched: BTreeMap<ConsumerId, Watched>,
    /// All ack_ids that were ever given.
    pub ack_ids: HashSet<AckId>,
    /// The last deliveries to sessions, live or not.
    pub handed: Vec<(ConsumerId, AckId)>,
    /// The step at which the end of each message's transaction was noticed.
    pub ended: BTreeMap<Seq, u64>,
    pub now: Micros,
    /// The latest time of a tick.
    pub ticked: Micros,
    pub step: u64,
    pub reached: Reached,
}

/// How often a consumer was compared in each state that a test must reach.
#[derive(Debug, Clone, Copy, Default)]
pub struct Reached {
    pub shelved: usize,
    pub full: usize,
    pub full_and_shelved: usize,
    /// It takes more than its budget and isn't full, since too many of its messages are withheld.
    pub above_budget: usize,
}

fn consumers() -> [Config; 6] {
    let config = |start, filters, settings| Config { generation: 1, start, filters, settings };
    let usual = Settings::default();
    let few = Settings { max_ack_pending: 3, ..usual.clone() };
    let unordered = Settings { max_ack_pending: 5, ordered: false, ..usual.clone() };
    let strict = Settings { max_deliver: Some(3), backoff: vec![20, 60], ..usual.clone() };
    [
        config(0, 0, usual.clone()),
        config(0, 1, few),
        config(0, 0, unordered),
        config(0, 2, strict),
        config(0, 0, usual.clone()),
        config(20, 3, usual),
    ]
}

impl Run {
    pub fn new() -> Run {
        let mut world = World::default();
        let mut watched = BTreeMap::new();
        for (id, config) in (1..).map(ConsumerId).zip(consumers()) {
            world.write(Record::Configure(id, config), true);
            watched.insert(id, Watched::default());
        }
        Run {
            dispatcher: Dispatcher::start(&mut world),
            world,
            sessions: Default::default(),
            watched,
            ack_ids: HashSet::new(),
            handed: Vec::new(),
            ended: BTreeMap::new(),
            now: 1000 * HOUR,
            ticked: 0,
            step: 0,
            reached: Reached::default(),
        }
    }

    pub fn op(&mut self, op: Op) -> Checked {
        self.step += 1;
        let session = |session: u8| usize::from(session) % SESSIONS;
        let consumer = |consumer: u8| ConsumerId(1 + i32::from(consumer % 6));
        match op {
            Op::Publish { session: s, count, keys } => self.publish(session(s), count, keys)?,
            Op::Receive { session: s, consumer: c, batch, lease } => {
                if consumer(c) != IDLE {
                    self.receive(session(s), consumer(c), batch.into(), lease.into())?;
                }
            }
            Op::Finish { session: s, which, count, rejected } => {
                self.finish(session(s), which.into(), count.into(), rejected)?;
            }
            Op::Nack { session: s, which, count, delay } => {
                self.nack(session(s), which.into(), count.into(), delay.map(Micros::from))?;
            }
            Op::Extend { which, lease } => self.extend(which.into(), lease.into())?,
            Op::Redeliver { session: s, consumer: c, which } => {
                self.redeliver(session(s), consumer(c), which.into())?;
            }
            Op::Savepoint { session: s } => {
                self.notice(session(s))?;
                self.sessions[session(s)].set_savepoint();
            }
            Op::RollBackTo { session: s, which } => self.roll_back_to(session(s), which.into())?,
            Op::Commit { session: s, synced, noticed } => {
                self.end(session(s), Some(synced), noticed)?;
            }
            Op::Abort { session: s, noticed } => self.end(session(s), None, noticed)?,
            Op::Look { ranges, rows, visits, fails } => {
                let limits =
                    Limits { ranges: ranges.into(), rows: rows.into(), visits: visits.into() };
                self.dispatcher.look(&self.world, self.open(), limits, fails);
                self.check_look()?;
            }
            Op::CatchUp { consumer: c, rows, visits, interrupted } => {
                self.catch_up(consumer(c), rows.into(), visits.into(), interrupted)?;
            }
            Op::Tick => self.tick()?,
            Op::Wait { micros } => self.now += Micros::from(micros),
            Op::StepClock { forth } => self.now += if forth { HOUR } else { -HOUR },
            Op::WriteOutbox { consumer: c } => {
                self.dispatcher.write_outbox(consumer(c), &mut self.world);
            }
            Op::Checkpoint { consumer: c } => {
                self.dispatcher.checkpoint(consumer(c), &mut self.world)?;
            }
            Op::Restart { how } => self.restart(how)?,
            Op::Alter { consumer: c, what, value, anew } => {
                self.alter(consumer(c), what, value.into(), anew)?;
            }
            Op::Rewind { consumer: c, to } => self.rewind(consumer(c), to.into())?,
            Op::Budget { consumer: c, share } => {
                // For messages of some 215 bytes: none, 2, 5, and as many as usual.
                let bytes = [0, 500, 1000, 7000][usize::from(share % 4)];
                let stream = self.dispatcher.streams.0.as_mut();
                let consumer = stream.and_then(|stream| stream.consumer_mut(consumer(c)));
                consumer.into_iter().for_each(|consumer| consumer.set_budget(bytes));
            }
            Op::Retain { count } => self.retain(count.into()),
        }
        self.after_step()
    }

    /// The publishers' entries in shared memory.
    pub fn open(&self) -> Vec<Publisher> {
        self.sessions.iter().filter_map(|session| session.publisher).collect()
    }

    /// Loads the consumer, unless it is in memory, and its reference.
    pub fn load(&mut self, id: ConsumerId) -> Checked {
        let open = self.open();
        if self.dispatcher.load(id, &self.world, &open)? {
            self.compare_with_history(id)?;
        }
        Ok(())
    }

    pub fn watched(&mut self, id: ConsumerId) -> &mut Watched {
        self.watched.entry(id).or_default()
    }

    fn publish(&mut self, s: usize, count: u8, keys: u16) -> Checked {
        self.notice(s)?;
        let last = self.world.now.last;
        let session = &mut self.sessions[s];
        session.open();
        session.begin_to_publish(s, last, self.step);
        let (begun, mut keys) = (session.begun, usize::from(keys));
        for seq in (last + 1..).take(count.into()) {
            self.world.write(Record::Sequence(seq), false);
            let message = Message { key: KEYS[keys % KEYS.len()], begun, removed: false };
            session.open().messages.push((seq, message));
            keys /= KEYS.len();
        }
        Ok(())
    }

    /// Commits or aborts the session's transaction.
    pub fn end(&mut self, s: usize, synced: Option<bool>, noticed: bool) -> Checked {
        self.notice(s)?;
        let Some(mut transaction) = self.sessions[s].transaction.take() else { return Ok(()) };
        let committed = synced.is_some() && !transaction.doomed;
        if committed {
            for (seq, message) in &transaction.messages {
                self.world.watch_commit(*seq, message)?;
            }
            let messages = transaction.messages.clone();
            let acks = std::mem::take(&mut transaction.acks);
            self.world.write(Record::Commit { messages, acks }, synced == Some(true));
        }
        self.sessions[s].ended = Some(Ended { committed, transaction });
        if noticed { self.notice(s) } else { Ok(()) }
    }

    /// The session clears its entry, and the dispatcher learns what became of the transaction.
    pub fn notice(&mut self, s: usize) -> Checked {
        let Some(Ended { committed, transaction }) = self.sessions[s].ended.take() else {
            return Ok(());
        };
        self.sessions[s].publisher = None;
        if committed {
            for (seq, _) in transaction.messages {
                self.ended.insert(seq, self.step);
            }
            self.dispatcher.apply(s, self.now);
            self.expect_commit(transaction.asked)
        } else {
            self.dispatcher.abort(s, RequestId::NONE, self.now);
            self.expect_abort(transaction.asked)
        }
    }

    fn roll_back_to(&mut self, s: usize, which: usize) -> Checked {
        self.notice(s)?;
        let Some((from, asked)) = self.sessions[s].roll_back_to(which) else { return Ok(()) };
        self.dispatcher.abort(s, from, self.now);
        self.expect_abort(asked)
    }

    fn catch_up(
        &mut self,
        id: ConsumerId,
        rows: usize,
        visits: usize,
        interrupted: bool,
    ) -> Checked {
        self.load(id)?;
        let Some((after, upto)) = self.dispatcher.stream_mut()?.behind(id) else { return Ok(()) };
        let found = self.world.now.read(&[(after + 1, upto)], rows, visits);
        if interrupted {
            // Transactions commit after the table was read, and a look finds their messages before the rows are used.
            (0..SESSIONS).try_for_each(|s| self.end(s, Some(true), true))?;
            self.dispatcher.look(&self.world, self.open(), Limits::WIDE, false);
        }
        self.dispatcher.stream_mut()?.catch_up(id, &found, upto);
        Ok(())
    }

    pub fn tick(&mut self) -> Checked {
        self.ticked = self.ticked.max(self.now);
        for id in self.dispatcher.loaded.keys().copied().collect::<Vec<_>>() {
            let (consumer, mut context) = self.dispatcher.at(id, self.now)?;
            consumer.tick(&mut context);
            let settings = self.world.config(id)?.settings;
            let now = self.now;
            self.watched(id).reference.tick(now, &settings);
        }
        Ok(())
    }

    fn retain(&mut self, count: usize) {
        let messages = &self.world.now.messages;
        let left = messages.iter().filter(|(_, message)| !message.removed);
        if let Some((&upto, _)) = left.take(count).last() {
            self.world.write(Record::Remove { upto }, false);
        }
    }
}
