//! What the worker does around the rules: it collects what has come in, and carries out what they ask for. In between,
//! sessions go on, and the dispatcher may end.

use super::super::Dispatcher;
use super::super::exchange::{Answer, FastPathAck};
use super::super::interface::{Clock, Effect, Failure, Input, Look, Shared};
use super::mistakes::Mistake;
use super::tables::Tables;
use super::world::{Numbers, SESSIONS, World};
use super::{Checked, Op};
use crate::changes::{Change, Changes};
use crate::consumer::Delivery;
use crate::event;
use crate::ids::{AckId, AckRowId, ConsumerId, Generation, RequestId, SessionId, StreamId};
use crate::settings::Micros;
use crate::tail::Publisher;
use crate::wire::MAX_BATCH;
use std::collections::{BTreeMap, VecDeque};

/// A dispatcher.
pub struct Worker {
    pub rules: Dispatcher,
    pub effects: VecDeque<Effect>,
    /// When the last look at each stream's tail began: the operation, and the time.
    pub looked: BTreeMap<StreamId, (u64, Micros)>,
}

/// Why a step comes to no good end.
pub enum Interrupted {
    /// The dispatcher is killed.
    Killed,
    /// It wants to end.
    Ended,
    Failed(super::TestCaseError),
}

impl From<super::TestCaseError> for Interrupted {
    fn from(error: super::TestCaseError) -> Interrupted {
        Interrupted::Failed(error)
    }
}

type Stepped<T = ()> = Result<T, Interrupted>;

/// An answer that a session was given.
#[derive(Debug)]
pub struct Given {
    pub session: SessionId,
    pub request: RequestId,
    pub answer: Answer,
}

/// One in so many requests has an answer that is too long, if it is of several deliveries.
const TOO_LONG: u64 = 13;

fn has_several(answer: &Answer) -> bool {
    matches!(answer, Answer::Deliveries { deliveries, .. } if deliveries.len() > 1)
}

/// The longest that there can be: all ids are far apart.
fn too_long() -> Answer {
    let far = |n: usize| if n.is_multiple_of(2) { i64::MIN } else { i64::MAX / 2 };
    let delivery = |n| Delivery { ack_id: AckId(far(n)), seq: far(n), deliveries: u32::MAX };
    let deliveries = (0..MAX_BATCH).map(delivery).collect();
    Answer::Deliveries { ack_row_id: AckRowId(0), generation: Generation(0), deliveries }
}

/// The memory that the sessions share with a dispatcher.
struct Memory<'a> {
    world: &'a mut World,
    db: usize,
    given: Vec<Given>,
}

impl Shared for Memory<'_> {
    fn take_changes(&mut self) -> Changes {
        let database = &mut self.world.databases[self.db];
        database.config_changed = false;
        std::mem::take(&mut database.changes)
    }

    fn publishers(&mut self, stream: StreamId) -> Vec<Publisher> {
        self.world.publishers(self.db, stream, true)
    }

    fn revoke(&mut self, session: SessionId, received_by: RequestId) -> Option<FastPathAck> {
        if self.world.mistake == Some(Mistake::NoRevoke) {
            return None;
        }
        self.world.clients[session].entry.revoke(received_by)
    }

    fn answer(
        &mut self,
        session: SessionId,
        request: RequestId,
        answer: &Answer,
        fast_path: bool,
    ) -> bool {
        let reign = self.world.databases[self.db].reign;
        let client = &mut self.world.clients[session];
        let is_too_long = has_several(answer) && request.0.is_multiple_of(TOO_LONG);
        let answer = if is_too_long { &too_long() } else { answer };
        let is_taken = client.entry.answer(request, answer, fast_path, reign);
        if is_taken {
            client.answered_under = reign;
            self.given.push(Given { session, request, answer: answer.clone() });
        }
        is_taken
    }

    fn ask_again(&mut self, session: SessionId, request: RequestId) {
        self.world.clients[session].entry.ask_again(request);
        let database = &mut self.world.databases[self.db];
        database.marked.insert(session);
        database.is_woken = true;
    }

    fn listen(&mut self, streams: &mut dyn Iterator<Item = StreamId>) {
        self.world.databases[self.db].listening = streams.collect();
    }

    fn set_waited_for(&mut self, waited_for: bool) -> bool {
        let database = &mut self.world.databases[self.db];
        !std::mem::replace(&mut database.waited_for, waited_for) && waited_for
    }
}

fn oid(db: usize) -> u32 {
    100 + db as u32
}

impl World {
    fn clock(&self) -> Clock {
        Clock { mono: self.now, wall: self.now + self.wall_offset }
    }

    /// A dispatcher starts: a new epoch, a new reign; what its predecessor has taken is asked again, and transactions that
    /// are just committing are waited for.
    pub fn start(&mut self, db: usize) {
        self.reigns += 1;
        let database = &mut self.databases[db];
        if self.mistake != Some(Mistake::SameEpoch) || database.storage.now.epoch == 0 {
            database.storage.write(true, |tables| tables.epoch += 1);
        }
        (database.reign, database.last_reign) = (self.reigns, self.reigns);
        let mut rules = Dispatcher::new(database.storage.now.epoch).unwrap();
        // Some have no room at all, some a little.
        if !self.is_calm {
            const BUDGETS: [usize; 5] = [0, usize::MAX, 3000, usize::MAX, usize::MAX];
            rules.set_memory_budget(BUDGETS[self.reigns as usize % BUDGETS.len()]);
        }
        for (c, client) in self.clients.iter_mut().enumerate() {
            if self.mistake != Some(Mistake::NoReset) {
                client.entry.reset(oid(db));
            }
            database.marked.insert(c);
        }
        database.is_woken = true;
        database.worker = Some(Worker { rules, effects: VecDeque::new(), looked: BTreeMap::new() });
        if std::mem::take(&mut self.databases[db].clock_was_set) {
            self.doubt_leases(db);
        }
        self.await_commits(db);
    }

    fn await_commits(&mut self, db: usize) {
        for c in 0..SESSIONS {
            if self.mistake == Some(Mistake::NoWaitForCommits) {
                break;
            }
            if self.clients[c].entry.is_committing(oid(db)) {
                self.finish_commit(c, &mut Numbers(1));
            }
        }
    }

    /// The dispatcher does what it does between two sleeps, if it is woken.
    pub fn step(&mut self, db: usize, n: &mut Numbers) -> Checked {
        let Some(mut worker) = self.databases[db].worker.take() else {
            self.start(db);
            return Ok(());
        };
        if !self.databases[db].is_woken && worker.rules.wake_at() > self.now {
            self.databases[db].worker = Some(worker);
            return Ok(());
        }
        self.databases[db].is_woken = false;
        match self.run_step(db, &mut worker, n) {
            Ok(()) => self.databases[db].worker = Some(worker),
            Err(Interrupted::Failed(error)) => return Err(error),
            Err(Interrupted::Killed) => self.kill(db),
            Err(Interrupted::Ended) => self.stop_worker(db, worker, n)?,
        }
        Ok(())
    }

    fn run_step(&mut self, db: usize, worker: &mut Worker, n: &mut Numbers) -> Stepped {
        self.apply_changes(db, worker, n)?;
        if !worker.rules.is_ready() {
            self.hand_in(db, worker, Input::Tick, n)?;
        }
        let published = std::mem::take(&mut self.databases[db].published);
        let watched = worker.rules.watched().filter(|stream| published.contains(stream)).collect();
        self.hand_in(db, worker, Input::Published(watched), n)?;
        let (outcomes, mut asked) = self.collect(db);
        if self.mistake == Some(Mistake::RequestsFirst) {
            self.hand_in(db, worker, Input::Requests(std::mem::take(&mut asked)), n)?;
        }
        self.hand_in(db, worker, Input::Outcomes(outcomes), n)?;
        self.apply_changes(db, worker, n)?;
        self.hand_in(db, worker, Input::Requests(asked), n)?;
        self.hand_in(db, worker, Input::Tick, n)
    }

    fn collect(&mut self, db: usize) -> (Vec<super::super::Outcome>, Vec<super::super::Asked>) {
        let marked = std::mem::take(&mut self.databases[db].marked);
        let (mut outcomes, mut all) = (Vec::new(), Vec::new());
        for c in marked {
            let (outcome, asked) = self.clients[c].entry.collect(c, oid(db));
            outcomes.push(outcome);
            all.extend(asked);
        }
        (outcomes, all)
    }

    fn apply_changes(&mut self, db: usize, worker: &mut Worker, n: &mut Numbers) -> Stepped {
        if !self.databases[db].config_changed {
            return Ok(());
        }
        if self.mistake == Some(Mistake::ChangeFirst) {
            self.databases[db].config_changed = false;
            (0..SESSIONS).for_each(|c| self.client_op(Op::Finish, c, n));
        }
        self.hand_in(db, worker, Input::ConfigChanged, n)
    }

    fn hand_in(
        &mut self,
        db: usize,
        worker: &mut Worker,
        input: Input,
        n: &mut Numbers,
    ) -> Stepped {
        self.rule(db, worker, input)?;
        self.carry_out(db, worker, n)
    }

    fn rule(&mut self, db: usize, worker: &mut Worker, input: Input) -> Checked {
        self.operations += 1;
        let (clock, mut effects) = (self.clock(), Vec::new());
        let is_told = std::env::var_os("SIMULATE").is_some();
        if is_told {
            eprintln!("    {db} {} <- {input:?}", self.now);
        }
        let mut memory = Memory { world: self, db, given: Vec::new() };
        worker.rules.handle(input, clock, &mut memory, &mut effects);
        let given = memory.given;
        if is_told {
            given.iter().for_each(|given| eprintln!("    {db} gives {given:?}"));
            effects.iter().for_each(|effect| eprintln!("    {db} -> {effect:?}"));
        }
        worker.effects.extend(effects);
        self.check(db, worker, given)
    }

    /// Between two things that the dispatcher does.
    fn disturb(&mut self, n: &mut Numbers) -> Stepped {
        if self.is_calm {
            return Ok(());
        }
        if n.one_in(6) {
            const OPS: [Op; 8] = [
                Op::Publish,
                Op::Receive,
                Op::Finish,
                Op::TakeAnswer,
                Op::Commit,
                Op::Commit,
                Op::RollBack,
                Op::RollBackTo,
            ];
            self.operations += 1;
            let (op, c) = (OPS[n.below(OPS.len())], n.below(SESSIONS));
            self.client_op(op, c, n);
        }
        if n.one_in(400) { Err(Interrupted::Killed) } else { Ok(()) }
    }

    fn carry_out(&mut self, db: usize, worker: &mut Worker, n: &mut Numbers) -> Stepped {
        while let Some(effect) = worker.effects.pop_front() {
            self.disturb(n)?;
            let tables = &self.databases[db].storage.now;
            let is_locked = self.databases[db].journal_is_locked;
            let locked = || Failure::Error { text: "lock timeout".into(), is_lock: true };
            let input = match effect {
                Effect::ReadConfig(changes) => self.read_config(db, changes, n),
                Effect::Open { stream, known } => {
                    let read =
                        self.last(db, stream).map(|last| crate::fault::Known { last, ..known });
                    Input::Opened { stream, read }
                }
                Effect::Restore(consumer) => {
                    let read = if is_locked { Err(locked()) } else { Ok(tables.journal(consumer)) };
                    Input::Restored { consumer, read }
                }
                Effect::Look { stream, known } => {
                    let read = self.look(db, worker, stream, known, n)?;
                    Input::Looked { stream, read }
                }
                Effect::ReadRange { consumer, stream, after, upto } => {
                    let (limit, visits) = self.limits(n);
                    let read = self.last(db, stream).map(|_| {
                        let tables = &self.databases[db].storage.now;
                        tables.read(stream, &[(after + 1, upto)], limit, visits)
                    });
                    Input::RangeRead { consumer, upto, read }
                }
                Effect::Journal(consumers) => {
                    let written = if is_locked { Err(locked()) } else { Ok(true) };
                    if written == Ok(true) && self.mistake != Some(Mistake::JournalLost) {
                        consumers.iter().for_each(|&id| self.write_events(db, worker, id));
                    }
                    Input::Journalled { consumers, written }
                }
                Effect::Checkpoint { consumer, checkpoint, dead, replaces, folded_acks } => {
                    let written = if is_locked { Err(locked()) } else { Ok(true) };
                    if written == Ok(true) {
                        let dead: Vec<i64> = dead.iter().map(|item| item.seq).collect();
                        let mut checkpoint = checkpoint;
                        forget_holders(&mut checkpoint);
                        if self.mistake == Some(Mistake::NoOpenAcks) {
                            checkpoint.open_acks.clear();
                        }
                        self.databases[db].storage.write(false, move |tables: &mut Tables| {
                            let Some(of) = tables.consumers.get_mut(&consumer) else { return };
                            of.outbox.retain(|&id, _| id <= replaces || id > checkpoint.id);
                            for &(lo, hi) in &folded_acks {
                                of.acks.retain(|id, _| !(lo..=hi).contains(id));
                            }
                            if of.config.generation == checkpoint.generation {
                                of.done.extend(&dead);
                            }
                            of.checkpoint = Some(checkpoint.clone());
                        });
                    }
                    Input::Checkpointed(written)
                }
                Effect::End(_) => return Err(Interrupted::Ended),
                Effect::Forget(_) | Effect::Log(_) | Effect::Status(_) => continue,
            };
            self.disturb(n)?;
            self.rule(db, worker, input)?;
        }
        Ok(())
    }

    fn read_config(&mut self, db: usize, mut changes: Box<Changes>, n: &mut Numbers) -> Input {
        let is_unreadable = !self.is_calm && n.one_in(20);
        let config = self.databases[db].storage.now.config(&changes);
        if self.mistake == Some(Mistake::DropForgotten) && *changes != Changes::everything() {
            // Just those are said to have been read that were found.
            *changes = Changes::default();
            config.streams.iter().for_each(|stream| changes.note(Change::Stream(stream.id)));
            config
                .consumers
                .iter()
                .for_each(|consumer| changes.note(Change::Consumer(consumer.id)));
        }
        let read = if is_unreadable { Err("out of memory".into()) } else { Ok(Some(config)) };
        Input::Config { changes, read }
    }

    /// How many rows, and how many seqs, a read may take.
    fn limits(&self, n: &mut Numbers) -> (usize, usize) {
        if self.is_calm { (1000, 1000) } else { (1 + n.below(12), n.below(40)) }
    }

    fn last(&self, db: usize, stream: StreamId) -> Result<i64, Failure> {
        let database = &self.databases[db];
        match database.storage.now.streams.get(&stream) {
            None => Err(Failure::Missing),
            Some(_) if database.locked.contains(&stream) => Err(Failure::Locked),
            Some(found) => Ok(found.last),
        }
    }

    fn look(
        &mut self,
        db: usize,
        worker: &mut Worker,
        stream: StreamId,
        known: crate::fault::Known,
        n: &mut Numbers,
    ) -> Stepped<Result<Look, Failure>> {
        worker.looked.insert(stream, (self.operations, self.now));
        let last = match self.last(db, stream) {
            Ok(last) => last,
            Err(failure) => return Ok(Err(failure)),
        };
        self.disturb(n)?;
        let mut publishers = self.publishers(db, stream, true);
        let before = self.databases[db].storage.now.clone();
        self.disturb(n)?;
        let is_late = self.mistake == Some(Mistake::SnapshotFirst);
        if is_late {
            publishers = self.publishers(db, stream, true);
        }
        // A table that is locked for reading can't be dropped.
        if !self.databases[db].storage.now.streams.contains_key(&stream) {
            return Ok(Err(Failure::Missing));
        }
        // The snapshot is taken now, and all is read by it.
        let running = self.publishers(db, stream, false);
        let open = publishers.into_iter().filter(|p| running.contains(p)).collect();
        let Some(plan) = worker.rules.plan_look(stream, last, open) else {
            return Ok(Err(Failure::Missing));
        };
        let (limit, visits) = self.limits(n);
        let tables = if is_late { &before } else { &self.databases[db].storage.now };
        let late = tables.read(stream, &plan.recheck, limit, visits);
        let scan: Vec<_> = (plan.scan.iter())
            .filter(|_| late.reached.is_end())
            .map(|&(after, upto)| (after + 1, upto))
            .collect();
        let new = tables.read(stream, &scan, limit, visits);
        Ok(Ok(Look { known: crate::fault::Known { last, ..known }, plan, late, new }))
    }

    fn write_events(&mut self, db: usize, worker: &Worker, id: ConsumerId) {
        let Some(config) = worker.rules.config(id) else { return };
        let (generation, events) = (config.generation, worker.rules.unwritten(id).to_vec());
        self.databases[db].storage.write(false, move |tables: &mut Tables| {
            let Some(of) = tables.consumers.get_mut(&id) else { return };
            for event in &events {
                of.outbox.insert(event.id, (generation, event.change.clone()));
                if let event::Change::Dead { item } = event.change
                    && of.config.generation == generation
                {
                    of.done.insert(item.seq);
                }
            }
        });
    }

    /// The dispatcher ends in good order, and another starts.
    pub fn stop(&mut self, db: usize, n: &mut Numbers) -> Checked {
        match self.databases[db].worker.take() {
            Some(worker) => self.stop_worker(db, worker, n),
            None => Ok(()),
        }
    }

    fn stop_worker(&mut self, db: usize, mut worker: Worker, n: &mut Numbers) -> Checked {
        worker.effects.clear();
        self.rule(db, &mut worker, Input::Stop)?;
        self.databases[db].reign = 0;
        self.await_commits(db);
        let (outcomes, _) = self.collect(db);
        self.databases[db].marked.extend(0..SESSIONS);
        self.rule(db, &mut worker, Input::Outcomes(outcomes))?;
        if self.mistake == Some(Mistake::NoFlush) {
            return Ok(());
        }
        let mut flushed = self.hand_in(db, &mut worker, Input::Flush, n);
        // It ends in any case: that it is to end keeps nothing from being written.
        while let Err(Interrupted::Ended) = flushed {
            flushed = self.carry_out(db, &mut worker, n);
        }
        let flushed = match flushed {
            Ok(()) => worker.rules.unwritten.is_empty() && !self.databases[db].journal_is_locked,
            Err(Interrupted::Killed | Interrupted::Ended) => false,
            Err(Interrupted::Failed(error)) => return Err(error),
        };
        if !flushed {
            self.doubt_leases(db);
        }
        Ok(())
    }
}

/// No table keeps who holds a lease, or who pins it.
fn forget_holders(checkpoint: &mut super::super::Checkpoint) {
    for (_, hold) in checkpoint.state.active.values_mut() {
        if let crate::consumer_state::Hold::InFlight(lease) = hold {
            (lease.holder, lease.pinned) = (0, false);
        }
    }
}
