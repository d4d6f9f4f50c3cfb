//! What a session does: as `pg::session` has it, with a transaction, its savepoints, and its entry.

use super::super::exchange::{Answer, Request};
use super::super::stored::AckRow;
use super::Op;
use super::mistakes::Mistake;
use super::tables::Message;
use super::world::{Database, KEYS, Numbers, SECOND, World};
use crate::consumer::Delivery;
use crate::entry::{Entry, Mailbox, Reigns};
use crate::event::Change;
use crate::ids::{AckId, AckRowId, ConsumerId, Generation, RequestId, StreamId};
use crate::key::{Seq, key_id};
use crate::tail::Publisher;
use std::collections::{BTreeMap, BTreeSet};

/// The answer to the last request for messages.
#[derive(Debug, Clone)]
struct Received {
    request: RequestId,
    consumer: ConsumerId,
    ack_row_id: AckRowId,
    generation: Generation,
    deliveries: Vec<Delivery>,
}

/// How far a commit has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    Open,
    /// It can't be refused any more.
    Committing,
    /// Others see it.
    Visible,
}

/// What a transaction has done; with the level of savepoint at which it has.
#[derive(Debug)]
pub struct Transaction {
    number: u64,
    level: usize,
    asked: Vec<(usize, RequestId)>,
    messages: Vec<(usize, StreamId, Seq, &'static str)>,
    /// Seqs of messages that take the place of those of their keys.
    replacing: BTreeSet<(StreamId, Seq)>,
    acks: Vec<(usize, ConsumerId, AckRow)>,
    /// Deliveries that it finishes or gives back, under which reign.
    pub holds: Vec<(usize, ConsumerId, Vec<AckId>, u64)>,
    nacks: Vec<(usize, ConsumerId, Vec<AckId>)>,
    bounds: BTreeMap<StreamId, Seq>,
}

pub struct Client {
    pub entry: Box<Entry>,
    pub database: usize,
    is_there: bool,
    pub transaction: Transaction,
    pub stage: Stage,
    transactions: u64,
    /// What it waits for an answer to.
    waits: Option<Request>,
    received: Option<Received>,
    /// The dispatcher that gave it the last answer.
    pub answered_under: u64,
    pub last_answer: Option<Answer>,
}

impl Transaction {
    fn new(number: u64) -> Transaction {
        Transaction {
            number,
            level: 1,
            asked: Vec::new(),
            messages: Vec::new(),
            replacing: BTreeSet::new(),
            acks: Vec::new(),
            holds: Vec::new(),
            nacks: Vec::new(),
            bounds: BTreeMap::new(),
        }
    }

    fn note_asked(&mut self, request: RequestId) {
        if self.asked.last().is_none_or(|&(deepest, _)| deepest < self.level) {
            self.asked.push((self.level, request));
        }
    }
}

impl Client {
    pub fn new() -> Client {
        Client {
            entry: Box::new(Entry::zeroed()),
            database: 0,
            is_there: false,
            transaction: Transaction::new(0),
            stage: Stage::Open,
            transactions: 0,
            waits: None,
            received: None,
            answered_under: 0,
            last_answer: None,
        }
    }

    fn begin(&mut self) {
        self.transactions += 1;
        self.transaction = Transaction::new(self.transactions);
        self.stage = Stage::Open;
        self.waits = None;
    }

    pub fn is_waiting(&self) -> bool {
        self.waits.is_some()
    }
}

impl World {
    /// A process of a database takes an entry over, if it may.
    pub fn come(&mut self, c: usize, db: usize) {
        self.pids += 1;
        let (pid, databases) = (self.pids, &self.databases);
        let oid = |db: usize| 100 + db as u32;
        let client = &mut self.clients[c];
        let waits = self.mistake != Some(Mistake::OwnTooEarly);
        let is_alive =
            |database: u32| waits && (0..2).any(|d| oid(d) == database && databases[d].reign != 0);
        if let Some(left_for) = client.entry.own(pid, oid(db), is_alive) {
            self.databases[(left_for - 100) as usize].is_woken = true;
            return;
        }
        (client.database, client.is_there, client.received) = (db, true, None);
        client.begin();
    }

    /// A session's process ends, wherever it is; another takes its entry.
    pub fn die(&mut self, c: usize, n: &mut Numbers) {
        if self.clients[c].is_there {
            match self.clients[c].stage {
                Stage::Open => self.roll_back(c),
                Stage::Committing | Stage::Visible => self.finish_commit(c, n),
            }
            self.clients[c].entry.disown();
            self.clients[c].is_there = false;
        }
        let db = n.below(2);
        self.come(c, db);
    }

    pub fn client_op(&mut self, op: Op, c: usize, n: &mut Numbers) {
        if !self.clients[c].is_there {
            let db = n.below(2);
            return self.come(c, db);
        }
        match op {
            Op::TakeAnswer => return self.take_answer(c),
            Op::Cancel if self.clients[c].is_waiting() => return self.roll_back(c),
            Op::Commit if !self.clients[c].is_waiting() => return self.commit(c, n),
            _ => {}
        }
        if self.clients[c].is_waiting() || self.clients[c].stage != Stage::Open {
            return;
        }
        match op {
            Op::Publish => self.publish(c, n),
            Op::Receive => self.receive(c, n),
            Op::Finish => self.finish(c, n),
            Op::Nack => {
                let Some((consumer, ack_ids)) = self.some_handed(c, n) else { return };
                let delay = [None, Some(0), Some(SECOND)][n.below(3)];
                self.post(c, Request::Nack { consumer, delay, ack_ids });
            }
            Op::Extend => {
                let Some((consumer, ack_ids)) = self.some_handed(c, n) else { return };
                self.post(c, Request::Extend { consumer, ack_wait: Some(20 * SECOND), ack_ids });
            }
            Op::Redeliver => self.redeliver(c, n),
            Op::Stats => self.post(c, Request::Stats { after: ConsumerId(0) }),
            Op::Savepoint => self.clients[c].transaction.level += 1,
            Op::Release => self.release(c),
            Op::RollBackTo => self.roll_back_to(c),
            Op::RollBack => self.roll_back(c),
            _ => {}
        }
    }

    pub fn post(&mut self, c: usize, request: Request) {
        let client = &mut self.clients[c];
        let id = client.entry.post(&request).unwrap();
        client.transaction.note_asked(id);
        client.waits = Some(request);
        let database = &mut self.databases[client.database];
        database.marked.insert(c);
        database.is_woken = true;
    }

    fn publish(&mut self, c: usize, n: &mut Numbers) {
        let tables = &self.databases[self.clients[c].database].storage.now;
        let streams: Vec<StreamId> = tables.streams.keys().copied().collect();
        let Some(stream) = n.pick(&streams) else { return };
        let replaces = n.one_in(3);
        for _ in 0..=n.below(3) {
            let key = KEYS[n.below(KEYS.len())];
            if replaces && self.is_published_elsewhere(c, stream, key) {
                // It would wait for the other transaction.
                continue;
            }
            self.publish_to(c, stream, key);
            let transaction = &mut self.clients[c].transaction;
            if let Some(&(_, _, seq, _)) = transaction.messages.last().filter(|_| replaces) {
                transaction.replacing.insert((stream, seq));
            }
        }
    }

    /// True if another open transaction has published the key.
    fn is_published_elsewhere(&self, c: usize, stream: StreamId, key: &str) -> bool {
        let db = self.clients[c].database;
        let others = self.clients.iter().enumerate().filter(|(other, _)| *other != c);
        let of_db = others.filter(|(_, client)| client.database == db);
        of_db
            .flat_map(|(_, client)| &client.transaction.messages)
            .any(|m| m.1 == stream && m.3 == key)
    }

    /// Takes the stream's next seq.
    pub fn publish_to(&mut self, c: usize, stream: StreamId, key: &'static str) {
        let client = &mut self.clients[c];
        let database = &mut self.databases[client.database];
        let last = database.storage.now.streams[&stream].last;
        client.transaction.bounds.entry(stream).or_insert(last + 1);
        database.storage.write(false, move |tables| {
            tables.streams.get_mut(&stream).into_iter().for_each(|stream| stream.last += 1);
        });
        let level = client.transaction.level;
        client.transaction.messages.push((level, stream, last + 1, key));
    }

    fn receive(&mut self, c: usize, n: &mut Numbers) {
        let Some(consumer) = self.some_consumer(c, n) else { return };
        let ack_wait = [None, Some(SECOND), Some(20 * SECOND)][n.below(3)];
        let until = self.now + [0, 0, 10_000, SECOND, 20 * SECOND][n.below(5)];
        let batch = 1 + n.below(6);
        self.post(c, Request::Receive { consumer, batch, ack_wait, until });
    }

    /// What was received last is finished without asking, if it may be.
    fn finish(&mut self, c: usize, n: &mut Numbers) {
        if n.below(3) > 0
            && let Some(received) = &self.clients[c].received
        {
            let all = 0..received.deliveries.len();
            let positions: Vec<usize> = all.filter(|_| n.below(4) > 0).collect();
            return self.finish_received(c, &positions);
        }
        let Some((consumer, ack_ids)) = self.some_handed(c, n) else { return };
        self.post(c, Request::Finish { consumer, rejected: n.one_in(6), ack_ids });
    }

    /// Finishes some of what was received last: without asking, if it may.
    pub fn finish_received(&mut self, c: usize, positions: &[usize]) {
        let client = &mut self.clients[c];
        if let Some(received) = client.received.clone().filter(|_| !positions.is_empty()) {
            let database = &mut self.databases[client.database];
            let (consumer, generation) = (received.consumer, received.generation);
            let changed = database.config_changed;
            if let Some(id) = client.entry.finish(received.request, positions, changed) {
                client.received = None;
                client.transaction.note_asked(id);
                let configured = database.storage.now.consumers.get(&consumer);
                if configured.is_none_or(|of| of.config.generation != generation) {
                    self.violation = Some(format!("{consumer} has changed, and is acked unasked"));
                }
                database.marked.insert(c);
                let chosen = positions.iter().map(|&at| received.deliveries[at]);
                let (ack_ids, seqs) = chosen.map(|d| (d.ack_id, d.seq)).unzip();
                let row = AckRow {
                    id: received.ack_row_id,
                    generation,
                    rejected: false,
                    change: Change::Finished { seqs },
                };
                let level = client.transaction.level;
                client.transaction.acks.push((level, consumer, row));
                client.transaction.holds.push((level, consumer, ack_ids, database.reign));
                return;
            }
            let ack_ids = positions.iter().map(|&at| received.deliveries[at].ack_id).collect();
            self.post(c, Request::Finish { consumer, rejected: false, ack_ids });
        }
    }

    fn redeliver(&mut self, c: usize, n: &mut Numbers) {
        let Some(consumer) = self.some_consumer(c, n) else { return };
        let tables = &self.databases[self.clients[c].database].storage.now;
        let known = &tables.consumers[&consumer];
        let Some((_, stream)) = tables.stream_of(known) else { return };
        let from = n.below(40);
        let messages = (stream.messages.iter().skip(from).take(3))
            .filter(|(_, message)| !message.removed && known.matches(message.key))
            .map(|(&seq, message)| (seq, key_id(message.key)))
            .collect();
        self.post(c, Request::Redeliver { consumer, messages });
    }

    fn some_consumer(&self, c: usize, n: &mut Numbers) -> Option<ConsumerId> {
        let tables = &self.databases[self.clients[c].database].storage.now;
        n.pick(&tables.consumers.keys().copied().collect::<Vec<_>>())
    }

    /// Some of the deliveries handed out lately, of one consumer.
    fn some_handed(&self, c: usize, n: &mut Numbers) -> Option<(ConsumerId, Vec<AckId>)> {
        let handed = &self.databases[self.clients[c].database].handed;
        let (consumer, ..) = n.pick(handed)?;
        let of = handed.iter().rev().filter(|(other, ..)| *other == consumer);
        let ack_ids: Vec<AckId> =
            of.filter(|_| n.below(3) > 0).map(|&(_, ack_id, _)| ack_id).take(4).collect();
        (!ack_ids.is_empty()).then_some((consumer, ack_ids))
    }

    pub fn take_answer(&mut self, c: usize) {
        let client = &mut self.clients[c];
        if client.entry.mailbox() != Mailbox::Answered {
            return;
        }
        let (Some(answer), Some(request)) = (client.entry.take_answer(), client.waits.take())
        else {
            return;
        };
        client.last_answer = Some(answer.clone());
        if answer == Answer::TooLong {
            return self.post(c, first_half(request));
        }
        let Answer::Deliveries { ack_row_id, generation, deliveries } = answer else { return };
        let (level, reign) = (client.transaction.level, client.answered_under);
        let ack_ids: Vec<AckId> = deliveries.iter().map(|delivery| delivery.ack_id).collect();
        let seqs: Vec<Seq> = deliveries.iter().map(|delivery| delivery.seq).collect();
        let row = |rejected, change| AckRow { id: ack_row_id, generation, rejected, change };
        match request {
            Request::Receive { consumer, .. } => {
                let request = client.entry.last_request();
                client.received =
                    Some(Received { request, consumer, ack_row_id, generation, deliveries });
                self.report_gone(c, consumer, &ack_ids, &seqs);
            }
            Request::Finish { consumer, rejected, .. } if !seqs.is_empty() => {
                let row = row(rejected, Change::Finished { seqs });
                client.transaction.acks.push((level, consumer, row));
                client.transaction.holds.push((level, consumer, ack_ids, reign));
            }
            Request::Nack { consumer, .. } => {
                client.transaction.nacks.push((level, consumer, ack_ids.clone()));
                client.transaction.holds.push((level, consumer, ack_ids, reign));
            }
            Request::Redeliver { consumer, .. } if !seqs.is_empty() => {
                let row = row(false, Change::Redelivered { seqs });
                client.transaction.acks.push((level, consumer, row));
            }
            _ => {}
        }
    }

    /// Messages that a worker was handed, and that are no longer in the table.
    fn report_gone(&mut self, c: usize, consumer: ConsumerId, ack_ids: &[AckId], seqs: &[Seq]) {
        let tables = &self.databases[self.clients[c].database].storage.now;
        let stream = tables.consumers.get(&consumer).and_then(|of| tables.stream_of(of));
        let is_gone = |seq: &Seq| {
            stream.is_none_or(|(_, s)| s.messages.get(seq).is_none_or(|message| message.removed))
        };
        let gone = ack_ids.iter().zip(seqs).filter(|(_, seq)| is_gone(seq));
        let ack_ids: Vec<AckId> = gone.map(|(&ack_id, _)| ack_id).collect();
        if !ack_ids.is_empty() {
            self.post(c, Request::Gone { consumer, ack_ids });
        }
    }

    fn release(&mut self, c: usize) {
        let t = &mut self.clients[c].transaction;
        if t.level == 1 {
            return;
        }
        t.level -= 1;
        let level = t.level;
        let lower = |of: &mut usize| *of = (*of).min(level);
        t.messages.iter_mut().for_each(|m| lower(&mut m.0));
        t.acks.iter_mut().for_each(|a| lower(&mut a.0));
        t.holds.iter_mut().for_each(|h| lower(&mut h.0));
        t.nacks.iter_mut().for_each(|n| lower(&mut n.0));
        if let Some((_, request)) = t.asked.pop_if(|asked| asked.0 > level)
            && t.asked.last().is_none_or(|&(above, _)| above < level)
        {
            t.asked.push((level, request));
        }
    }

    fn roll_back_to(&mut self, c: usize) {
        let client = &mut self.clients[c];
        let t = &mut client.transaction;
        if t.level == 1 {
            return;
        }
        let level = t.level;
        t.messages.retain(|m| m.0 < level);
        t.acks.retain(|a| a.0 < level);
        t.holds.retain(|h| h.0 < level);
        t.nacks.retain(|n| n.0 < level);
        if let Some((_, from)) = t.asked.pop_if(|asked| asked.0 >= level)
            && self.mistake != Some(Mistake::SavepointForgotten)
        {
            self.abort_from(c, from);
        }
    }

    /// All that was asked for from this request on is void.
    fn abort_from(&mut self, c: usize, from: RequestId) {
        let client = &mut self.clients[c];
        let db = client.database;
        let is_to_be_told = client.entry.abort(from);
        self.forget_leases(db, c, from);
        if is_to_be_told {
            self.tell_end(c);
        }
    }

    fn tell_end(&mut self, c: usize) {
        let database = &mut self.databases[self.clients[c].database];
        database.marked.insert(c);
        database.is_woken |= database.waited_for && self.mistake != Some(Mistake::DeafToEnds);
    }

    pub fn roll_back(&mut self, c: usize) {
        let first = self.clients[c].transaction.asked.first().copied();
        self.end_publishing(c, false);
        if let Some((_, from)) = first {
            self.abort_from(c, from);
            if self.clients[c].entry.end() {
                self.tell_end(c);
            }
        }
        self.clients[c].begin();
    }

    /// The next step of a commit.
    pub fn commit(&mut self, c: usize, n: &mut Numbers) {
        match self.clients[c].stage {
            Stage::Open => {
                let client = &mut self.clients[c];
                let Database { reign: current, last_reign: last, .. } =
                    self.databases[client.database];
                let reigns = match self.mistake {
                    Some(Mistake::NoFence) => Reigns { current: 0, last: client.answered_under },
                    Some(Mistake::AnyDispatcherBefore) if current == 0 => {
                        Reigns { current, last: client.answered_under }
                    }
                    _ => Reigns { current, last },
                };
                if !client.transaction.asked.is_empty() && !client.entry.may_commit(reigns) {
                    return self.roll_back(c);
                }
                client.stage = Stage::Committing;
                if self.mistake == Some(Mistake::ClearedTooEarly) {
                    client.transaction.bounds.clear();
                }
            }
            Stage::Committing => self.make_visible(c, !n.one_in(6)),
            Stage::Visible => self.end_commit(c),
        }
    }

    pub fn finish_commit(&mut self, c: usize, n: &mut Numbers) {
        while self.clients[c].stage != Stage::Open {
            self.commit(c, n);
        }
    }

    fn make_visible(&mut self, c: usize, synced: bool) {
        let client = &mut self.clients[c];
        client.stage = Stage::Visible;
        let messages: Vec<_> = std::mem::take(&mut client.transaction.messages);
        let acks = std::mem::take(&mut client.transaction.acks);
        let nacks = std::mem::take(&mut client.transaction.nacks);
        let replacing = std::mem::take(&mut client.transaction.replacing);
        let db = client.database;
        client.transaction.messages.clone_from(&messages);
        for (_, consumer, ack_ids) in nacks {
            self.end_leases(db, consumer, &ack_ids);
        }
        let last = self.clients[c].entry.last_request();
        self.keep_leases(db, c, last);
        self.databases[db].storage.write(synced, move |tables| {
            for &(_, id, seq, key) in &messages {
                let Some(stream) = tables.streams.get_mut(&id) else { continue };
                if replacing.contains(&(id, seq)) {
                    let of_key = stream.messages.values_mut().filter(|message| message.key == key);
                    of_key.for_each(|message| message.removed = true);
                }
                stream.messages.insert(seq, Message { key, removed: false });
            }
            for (_, consumer, row) in &acks {
                tables.ack(*consumer, row);
            }
        });
    }

    fn end_commit(&mut self, c: usize) {
        self.end_publishing(c, true);
        let client = &mut self.clients[c];
        if !client.transaction.asked.is_empty() {
            client.entry.commit();
            client.entry.end();
            self.tell_end(c);
        }
        self.clients[c].begin();
    }

    fn end_publishing(&mut self, c: usize, committed: bool) {
        let operations = self.operations;
        let client = &mut self.clients[c];
        let database = &mut self.databases[client.database];
        let messages = std::mem::take(&mut client.transaction.messages);
        for (_, stream, seq, _) in messages.into_iter().filter(|_| committed) {
            database.noticed.insert((stream, seq), operations);
        }
        for stream in std::mem::take(&mut client.transaction.bounds).into_keys() {
            database.published.insert(stream);
            let is_heard = self.mistake != Some(Mistake::DeafToPublishers);
            database.is_woken |= is_heard && database.listening.contains(&stream);
        }
    }

    /// The server is no more: what was open is void, and so are the entries.
    pub fn lose_sessions(&mut self) {
        for client in &mut self.clients {
            let transactions = client.transactions;
            *client = Client { transactions, ..Client::new() };
        }
    }

    /// The publishers to a stream whose entries say so; with those whose commit is visible, or without.
    pub fn publishers(&self, db: usize, stream: StreamId, with_visible: bool) -> Vec<Publisher> {
        let of = |(c, client): (usize, &Client)| {
            let is_meant =
                client.database == db && (with_visible || client.stage != Stage::Visible);
            let bound = *client.transaction.bounds.get(&stream).filter(|_| is_meant)?;
            let transaction = client.transaction.number;
            Some(Publisher { session: u32::try_from(c).unwrap(), transaction, bound })
        };
        self.clients.iter().enumerate().filter_map(of).collect()
    }

    /// Whether an open transaction is about to finish or give back a delivery, on the word of the dispatcher that is there.
    pub fn is_held(&self, db: usize, consumer: ConsumerId, ack_id: AckId) -> bool {
        let reign = self.databases[db].reign;
        self.clients.iter().filter(|client| client.database == db).any(|client| {
            let holds = &client.transaction.holds;
            holds.iter().any(|(_, of, ack_ids, under)| {
                *of == consumer && *under == reign && ack_ids.contains(&ack_id)
            })
        })
    }
}

/// At the end of a run.
impl World {
    pub fn ask_for_all(&mut self, c: usize, consumer: ConsumerId) {
        let until = self.now + SECOND;
        self.post(c, Request::Receive { consumer, batch: 50, ack_wait: None, until });
    }

    /// Finishes what was received last.
    pub fn ack_all(&mut self, c: usize, _n: &mut Numbers) {
        let client = &mut self.clients[c];
        if client.is_waiting() {
            return;
        }
        let Some(received) = client.received.take() else { return };
        let ack_ids: Vec<AckId> = received.deliveries.iter().map(|d| d.ack_id).collect();
        if !ack_ids.is_empty() {
            self.post(c, Request::Finish { consumer: received.consumer, rejected: false, ack_ids });
        }
    }
}

impl Client {
    pub fn is_there_in(&self, db: usize) -> bool {
        self.is_there && self.database == db
    }

    /// The request that it waits for the answer to, if it is this one.
    pub fn waits_for(&self, request: RequestId) -> Option<Request> {
        self.waits.clone().filter(|_| self.entry.last_request() == request)
    }
}

/// What a session asks first when it has to ask in parts.
fn first_half(mut request: Request) -> Request {
    let half = |n: usize| n.div_ceil(2);
    match &mut request {
        Request::Receive { batch, .. } => *batch = half(*batch),
        Request::Finish { ack_ids, .. } | Request::Nack { ack_ids, .. } => {
            ack_ids.truncate(half(ack_ids.len()));
        }
        Request::Redeliver { messages, .. } => messages.truncate(half(messages.len())),
        _ => {}
    }
    request
}
