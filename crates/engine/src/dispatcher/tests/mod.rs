//! The rules one by one: what comes in is handed in, and what goes out is looked at. What must hold whatever happens is the
//! simulation's.

mod checkpoints;
mod configuration;
mod faults;
mod loading;
mod memory;
mod reading;
mod recovery;
mod requests;
mod steps;
mod waiting;
mod write_steps;
mod writing;

use super::*;
use crate::changes::Changes;
use crate::fault::Known;
use crate::ids::{AckId, AckRowId, Generation, RequestId, SessionId};
use crate::settings::Settings;
use std::collections::BTreeMap;

const SECOND: Micros = 1_000_000;
const S: StreamId = StreamId(1);
const T: StreamId = StreamId(2);

/// The OID of a stream's sequence.
const SEQUENCE: u32 = 77;

/// Two consumers of the stream `s`, and one of `t`.
const ONE: ConsumerId = ConsumerId(1);
const TWO: ConsumerId = ConsumerId(2);
const THREE: ConsumerId = ConsumerId(3);

/// An answer, to the session's request, and whether it comes with the right to finish without asking.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Given {
    session: SessionId,
    request_id: RequestId,
    answer: Answer,
    fast_path: bool,
}

/// What sessions share with the dispatcher.
#[derive(Debug, Default)]
struct Memory {
    given: Vec<Given>,
    asked_again: Vec<SessionId>,
    /// Sessions that have withdrawn their requests.
    withdrawn: BTreeSet<SessionId>,
    publishers: Vec<Publisher>,
    /// What sessions have finished without asking.
    acks: BTreeMap<SessionId, FastPathAck>,
    revoked: Vec<SessionId>,
    listening: Vec<StreamId>,
    /// How often it was said which streams.
    listened: usize,
    is_waited_for: bool,
    /// What was said of that.
    told_waited_for: Vec<bool>,
    /// What has changed, if not everything.
    changes: Option<Changes>,
}

impl Shared for Memory {
    fn take_changes(&mut self) -> Changes {
        self.changes.take().unwrap_or(Changes::everything())
    }

    fn publishers(&mut self, _: StreamId) -> Vec<Publisher> {
        self.publishers.clone()
    }

    fn revoke(&mut self, session: SessionId, received_by: RequestId) -> Option<FastPathAck> {
        self.revoked.push(session);
        self.acks.remove(&session).filter(|ack| ack.received_by == received_by)
    }

    fn answer(&mut self, session: SessionId, id: RequestId, to: &Answer, fast: bool) -> bool {
        let answer = to.clone();
        self.given.push(Given { session, request_id: id, answer, fast_path: fast });
        !self.withdrawn.contains(&session)
    }

    fn ask_again(&mut self, session: SessionId, _: RequestId) {
        self.asked_again.push(session);
    }

    fn listen(&mut self, streams: &mut dyn Iterator<Item = StreamId>) {
        self.listening = streams.collect();
        self.listened += 1;
    }

    fn set_waited_for(&mut self, waited_for: bool) -> bool {
        self.told_waited_for.push(waited_for);
        !std::mem::replace(&mut self.is_waited_for, waited_for) && waited_for
    }
}

/// A dispatcher, and the least of a server around it: reads are carried out at once, writes are the test's.
struct Rig {
    rules: Dispatcher,
    memory: Memory,
    clock: Clock,
    streams: Vec<StreamConfig>,
    consumers: Vec<ConsumerConfig>,
    messages: BTreeMap<StreamId, Vec<Row>>,
    journals: BTreeMap<ConsumerId, Journal>,
    /// What becomes of every look, range and opening of this stream.
    failing: Option<(StreamId, Failure)>,
    /// What becomes of every attempt to read a consumer's state.
    failing_journals: Option<Failure>,
    /// Reads that were carried out.
    looks: usize,
    ranges: usize,
    /// What was known of the stream that was opened or looked at last.
    known: Option<Known>,
    /// Rows that a read may take.
    limit: usize,
    requests: u64,
}

impl Rig {
    /// Configured; nothing is loaded.
    fn new() -> Rig {
        let mut rig = Rig::unconfigured();
        let effects = rig.tick();
        assert_eq!(effects, []);
        rig
    }

    fn unconfigured() -> Rig {
        let stream = |name: &str, id| StreamConfig { name: name.into(), id, repairs: 0 };
        let consumer = |id, name: &str, stream: &str| ConsumerConfig {
            id,
            name: name.into(),
            stream: stream.into(),
            generation: Generation(1),
            filters: vec![">".into()],
            settings: Settings::default(),
            start_after: 0,
            start_done: Vec::new(),
            start_last: 0,
        };
        Rig {
            rules: Dispatcher::new(1).unwrap(),
            memory: Memory::default(),
            clock: Clock { mono: 1000 * SECOND, wall: 5000 * SECOND },
            streams: vec![stream("s", S), stream("t", T)],
            consumers: vec![
                consumer(ONE, "one", "s"),
                consumer(TWO, "two", "s"),
                consumer(THREE, "three", "t"),
            ],
            messages: BTreeMap::from([(S, Vec::new()), (T, Vec::new())]),
            journals: BTreeMap::new(),
            failing: None,
            failing_journals: None,
            looks: 0,
            ranges: 0,
            known: None,
            limit: 1000,
            requests: 0,
        }
    }

    /// Hands something in, carries out what is to be read, and returns what else is to be done.
    fn give(&mut self, input: Input) -> Vec<Effect> {
        let mut left = Vec::new();
        let mut inputs = VecDeque::from([input]);
        while let Some(input) = inputs.pop_front() {
            let mut effects = Vec::new();
            self.rules.handle(input, self.clock, &mut self.memory, &mut effects);
            for effect in effects {
                match self.read(effect) {
                    Ok(input) => inputs.push_back(input),
                    Err(effect) => left.push(effect),
                }
            }
        }
        left
    }

    fn read(&mut self, effect: Effect) -> Result<Input, Effect> {
        Ok(match effect {
            Effect::ReadConfig(changes) => {
                let (streams, consumers) = (changes.streams(), changes.consumers());
                let is_read = |of: &&StreamConfig| {
                    streams.as_ref().is_none_or(|these| these.contains(&of.id))
                };
                let streams = self.streams.iter().filter(is_read).cloned().collect();
                let is_read = |of: &&ConsumerConfig| {
                    consumers.as_ref().is_none_or(|these| these.contains(&of.id))
                };
                let consumers = self.consumers.iter().filter(is_read).cloned().collect();
                Input::Config { changes, read: Ok(Some(Config { streams, consumers })) }
            }
            Effect::Open { stream, known } => {
                self.known = Some(known);
                let read = self.readable(stream).map(|()| self.seen(stream));
                Input::Opened { stream, read }
            }
            Effect::Restore(consumer) => {
                let journal = self.journals.get(&consumer).cloned().unwrap_or_default();
                let read = self.failing_journals.clone().map_or(Ok(journal), Err);
                Input::Restored { consumer, read }
            }
            Effect::Look { stream, known } => {
                self.looks += 1;
                self.known = Some(known);
                let read = self.readable(stream).map(|()| self.look(stream, known));
                Input::Looked { stream, read }
            }
            Effect::ReadRange { consumer, stream, after, upto } => {
                self.ranges += 1;
                let read = self.readable(stream).map(|()| self.found(stream, after + 1, upto));
                Input::RangeRead { consumer, upto, read }
            }
            other => return Err(other),
        })
    }

    fn readable(&self, stream: StreamId) -> Result<(), Failure> {
        match &self.failing {
            Some((id, failure)) if *id == stream => Err(failure.clone()),
            _ => Ok(()),
        }
    }

    fn last(&self, stream: StreamId) -> Seq {
        self.messages[&stream].last().map_or(0, |row| row.seq)
    }

    fn look(&mut self, stream: StreamId, known: Known) -> Look {
        let last = self.last(stream).max(known.last);
        let plan = self.rules.plan_look(stream, last, self.memory.publishers.clone()).unwrap();
        let rechecked = plan.recheck.iter().map(|&(lo, hi)| self.found(stream, lo, hi).rows);
        let late = Found { rows: rechecked.flatten().collect(), reached: Reached::End };
        let new = match plan.scan {
            Some((after, upto)) => self.found(stream, after + 1, upto),
            None => Found { rows: Vec::new(), reached: Reached::End },
        };
        Look { known: Known { last, ..self.seen(stream) }, plan, late, new }
    }

    fn seen(&self, stream: StreamId) -> Known {
        Known { last: self.last(stream), sequence: Some(SEQUENCE) }
    }

    fn found(&self, stream: StreamId, lo: Seq, hi: Seq) -> Found {
        let all = self.messages[&stream].iter().filter(|row| (lo..=hi).contains(&row.seq));
        let mut rows: Vec<Row> = all.cloned().collect();
        let is_all = rows.len() <= self.limit;
        rows.truncate(self.limit);
        let last = rows.last().map_or(lo - 1, |row| row.seq);
        Found { rows, reached: if is_all { Reached::End } else { Reached::UpTo(last) } }
    }

    /// What a worker does when nothing has come in.
    fn tick(&mut self) -> Vec<Effect> {
        self.give(Input::Tick)
    }

    /// Time goes by, and then there is a tick.
    fn after(&mut self, time: Micros) -> Vec<Effect> {
        self.clock.mono += time;
        self.clock.wall += time;
        self.tick()
    }

    fn in_time(&self, time: Micros) -> Micros {
        self.clock.mono + time
    }

    /// Messages with these keys are committed; nobody is told.
    fn insert(&mut self, stream: StreamId, keys: &[&str]) {
        for key in keys {
            let seq = self.last(stream) + 1;
            let row = Row { seq, key: (*key).into() };
            self.messages.entry(stream).or_default().push(row);
        }
    }

    /// They are, and the dispatcher is told.
    fn publish(&mut self, stream: StreamId, keys: &[&str]) -> Vec<Effect> {
        self.insert(stream, keys);
        let mut effects = self.give(Input::Published(vec![stream]));
        effects.extend(self.tick());
        effects
    }

    /// A session posts a request; its number. The session's process has its number, and 100.
    fn post(&mut self, session: SessionId, request: Request) -> RequestId {
        self.requests += 1;
        let request_id = RequestId(self.requests);
        let pid = 100 + session as i32;
        let effects = self.give(Input::Requests(vec![Asked { session, request_id, pid, request }]));
        assert_eq!(effects, []);
        request_id
    }

    /// The answer to a request; `None` while there is none.
    fn answer_to(&self, id: RequestId) -> Option<&Answer> {
        self.memory.given.iter().find(|given| given.request_id == id).map(|given| &given.answer)
    }

    /// Posts a request, and has it served; its answer, and what else is to be done.
    fn ask(&mut self, session: SessionId, request: Request) -> (Option<Answer>, Vec<Effect>) {
        let id = self.post(session, request);
        let effects = self.tick();
        (self.answer_to(id).cloned(), effects)
    }

    /// A session asks for messages, and waits for so long.
    fn wait(&mut self, session: SessionId, consumer: ConsumerId, time: Micros) -> RequestId {
        let until = self.in_time(time);
        let id =
            self.post(session, Request::Receive { consumer, batch: 10, ack_wait: None, until });
        self.tick();
        id
    }

    /// A session receives what is there: seqs and ack_ids.
    fn receive(&mut self, session: SessionId, consumer: ConsumerId) -> Vec<(Seq, AckId)> {
        let id = self.wait(session, consumer, 0);
        self.deliveries(id)
    }

    fn deliveries(&self, id: RequestId) -> Vec<(Seq, AckId)> {
        match self.answer_to(id) {
            Some(Answer::Deliveries { deliveries, .. }) => {
                deliveries.iter().map(|delivery| (delivery.seq, delivery.ack_id)).collect()
            }
            other => panic!("{other:?}"),
        }
    }

    /// The session's transaction has committed all that it had asked for.
    fn commit(&mut self, session: SessionId) -> Vec<Effect> {
        let upto = Some(RequestId(self.requests));
        self.end(session, Outcome { committed_upto: upto, ..Outcome::default() })
    }

    fn roll_back(&mut self, session: SessionId) -> Vec<Effect> {
        self.end(session, Outcome { aborted_from: Some(RequestId(1)), ..Outcome::default() })
    }

    fn end(&mut self, session: SessionId, outcome: Outcome) -> Vec<Effect> {
        let pid = 100 + session as i32;
        let mut effects = self.give(Input::Outcomes(vec![Outcome { session, pid, ..outcome }]));
        effects.extend(self.tick());
        effects
    }

    /// All that is to be written is, and what follows from that, too. Returns the consumers that were saved.
    fn write(&mut self, effects: Vec<Effect>) -> Vec<ConsumerId> {
        let mut saved = Vec::new();
        let mut left = VecDeque::from(effects);
        while let Some(effect) = left.pop_front() {
            saved.extend(write_steps::checkpoints(std::slice::from_ref(&effect)));
            let input = match effect {
                Effect::Journal(consumers) => Input::Journalled { consumers, written: Ok(true) },
                Effect::Checkpoint { .. } => Input::Checkpointed(Ok(true)),
                _ => continue,
            };
            left.extend(self.give(input));
        }
        saved
    }

    fn stats(&mut self, consumer: ConsumerId) -> ConsumerStats {
        let (answer, _) = self.ask(99, Request::Stats { after: ConsumerId(consumer.0 - 1) });
        let Some(Answer::Stats(stats)) = answer else { panic!("{answer:?}") };
        stats[0]
    }

    /// What has last gone wrong with a consumer.
    fn last_error(&mut self, consumer: ConsumerId) -> Option<String> {
        match self.ask(99, Request::LastError { consumer }).0 {
            Some(Answer::Text(text)) => Some(text),
            Some(Answer::NoConsumer) => None,
            other => panic!("{other:?}"),
        }
    }
}
