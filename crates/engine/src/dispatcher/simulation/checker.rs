//! What must hold, for whoever sees only what clients see; and what the rules must know of it.

use super::super::exchange::{Answer, Request};
use super::server::{Given, Worker};
use super::world::{Database, World};
use super::{Checked, fail};
use crate::consumer::{Delivery, State};
use crate::ids::{AckId, ConsumerId, RequestId, SessionId};
use crate::key::{Seq, key_id};
use crate::settings::Micros;
use std::collections::{BTreeMap, HashSet};

/// A delivery that a session was given.
#[derive(Debug, Clone)]
struct Lease {
    seq: Seq,
    due: Micros,
    /// It is live until then, unless it is given back: nobody else may be given the message.
    is_certain: bool,
    /// The request by which it was received, as long as that can be rolled back.
    received_by: Option<(SessionId, RequestId)>,
}

/// What a consumer's clients were promised.
#[derive(Debug, Default)]
pub struct Promised {
    leases: BTreeMap<AckId, Lease>,
    /// All there ever were.
    ack_ids: HashSet<AckId>,
}

impl World {
    /// After each call of the rules: the answers that were given, in their order.
    pub fn check(&mut self, db: usize, worker: &Worker, given: Vec<Given>) -> Checked {
        for Given { session, request, answer } in given {
            let Some(asked) = self.clients[session].waits_for(request) else { continue };
            match (asked, answer) {
                (
                    Request::Receive { consumer, batch, ack_wait, until },
                    Answer::Deliveries { deliveries, .. },
                ) => {
                    if deliveries.is_empty() {
                        self.check_emptiness(db, worker, consumer, until)?;
                    } else {
                        self.check_deliveries(
                            db,
                            worker,
                            consumer,
                            batch,
                            ack_wait,
                            (session, request),
                            &deliveries,
                        )?;
                    }
                }
                // It is not known which, nor when that was.
                (Request::Extend { consumer, ack_ids, .. }, Answer::Count(_)) => {
                    self.doubt(db, consumer, &ack_ids);
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn check_deliveries(
        &mut self,
        db: usize,
        worker: &Worker,
        id: ConsumerId,
        batch: usize,
        ack_wait: Option<Micros>,
        received_by: (SessionId, RequestId),
        deliveries: &[Delivery],
    ) -> Checked {
        let Some(config) = worker.rules.config(id) else { return fail("of an unknown consumer") };
        if deliveries.len() > batch || config.settings.paused {
            return fail(format!("{} of {batch} to {id}", deliveries.len()));
        }
        let in_flight = worker.rules.in_flight_of(id);
        if in_flight > config.settings.max_ack_pending {
            return fail(format!("{in_flight} are in flight for {id}"));
        }
        let due = self.now + ack_wait.unwrap_or(config.settings.ack_wait);
        for &Delivery { ack_id, seq, .. } in deliveries {
            self.check_delivery(db, worker, id, seq, deliveries)?;
            let promised = self.databases[db].promised.entry(id).or_default();
            if !promised.ack_ids.insert(ack_id) {
                return fail(format!("ack_id {ack_id:?} of {id} comes twice"));
            }
            let received_by = Some(received_by);
            let lease = Lease { seq, due, is_certain: true, received_by };
            promised.leases.insert(ack_id, lease);
            self.databases[db].handed.push((id, ack_id, seq));
        }
        let handed = &mut self.databases[db].handed;
        handed.drain(..handed.len().saturating_sub(60));
        Ok(())
    }

    fn check_delivery(
        &self,
        db: usize,
        worker: &Worker,
        id: ConsumerId,
        seq: Seq,
        batch: &[Delivery],
    ) -> Checked {
        let database = &self.databases[db];
        let tables = &database.storage.now;
        // One that is dropped or rewound by now, which the dispatcher doesn't know.
        let Some(consumer) = tables.consumers.get(&id) else { return Ok(()) };
        if worker.rules.generation(id) != consumer.config.generation {
            return Ok(());
        }
        let Some((stream, found)) = tables.stream_of(consumer) else { return Ok(()) };
        let Some(message) = found.messages.get(&seq) else {
            return fail(format!("{seq} comes to {id}, and was never committed"));
        };
        if consumer.done.contains(&seq) {
            return fail(format!("{seq} is finished, and comes to {id} again"));
        }
        let leases = database.promised.get(&id).into_iter().flat_map(|p| &p.leases);
        for (&ack_id, lease) in leases.filter(|(_, lease)| lease.seq == seq && lease.is_certain) {
            if lease.due > self.now || self.is_held(db, id, ack_id) {
                return fail(format!("{seq} comes to {id} while it is leased as {ack_id:?}"));
            }
        }
        if !worker.rules.is_ordered(id) || consumer.open.contains(&seq) {
            return Ok(());
        }
        let dead: Vec<Seq> = worker.rules.dead_letters(id).map(|item| item.seq).collect();
        for (earlier, other) in found.messages.range(..seq) {
            let is_free = other.key != message.key
                || other.removed
                || !consumer.matches(other.key)
                || consumer.open.contains(earlier)
                || *earlier <= consumer.config.start_after
                || consumer.done.contains(earlier)
                || dead.contains(earlier);
            if !is_free && database.noticed.contains_key(&(stream, *earlier)) {
                return fail(format!("{seq} overtakes {earlier} for {id}: {batch:?}"));
            }
        }
        Ok(())
    }

    /// A session was told that there is nothing: then its time was over when the last look began, and there was nothing
    /// that could have been known then.
    fn check_emptiness(
        &self,
        db: usize,
        worker: &Worker,
        id: ConsumerId,
        until: Micros,
    ) -> Checked {
        let database = &self.databases[db];
        if until > self.now {
            return fail(format!("{id} is said to be empty too early"));
        }
        let tables = &database.storage.now;
        let Some(consumer) = tables.consumers.get(&id) else { return Ok(()) };
        let known = worker.rules.config(id).is_some_and(|config| *config == consumer.config);
        let Some((stream, found)) = tables.stream_of(consumer).filter(|_| known) else {
            return Ok(());
        };
        let Some(state) = worker.rules.consumer_of(id) else { return Ok(()) };
        if state.settings().paused || state.is_full() || state.room() == 0 {
            return Ok(());
        }
        let Some(&(begun, at)) = worker.looked.get(&stream) else {
            return fail(format!("{id} is said to be empty without a look"));
        };
        if until > at {
            return fail(format!("{id} is said to be empty by a look of before its time was over"));
        }
        for (&seq, message) in &found.messages {
            let is_known = database.noticed.get(&(stream, seq)).is_some_and(|&then| then < begun);
            let is_free = message.removed
                || !consumer.matches(message.key)
                || consumer.open.contains(&seq)
                || seq <= consumer.config.start_after
                || consumer.done.contains(&seq);
            let is_busy = match state.messages.get(&seq).map(|message| message.state) {
                Some(State::Ready) => false,
                Some(_) => true,
                None if state.is_unfinished(seq, key_id(message.key)) => true,
                // It died, and no table says so yet.
                None => worker.rules.dead_letters(id).any(|item| item.seq == seq),
            };
            if is_known && !is_free && !is_busy {
                return fail(format!("{id} is said to be empty, and there is {seq}"));
            }
        }
        Ok(())
    }

    /// What a session received by this request or a later one is given back.
    pub fn forget_leases(&mut self, db: usize, c: SessionId, from: RequestId) {
        for promised in self.databases[db].promised.values_mut() {
            promised.leases.retain(|_, lease| {
                lease.received_by.is_none_or(|(session, request)| session != c || request < from)
            });
        }
    }

    /// What a session has received stays received.
    pub fn keep_leases(&mut self, db: usize, c: SessionId, upto: RequestId) {
        for promised in self.databases[db].promised.values_mut() {
            for lease in promised.leases.values_mut() {
                lease.received_by.take_if(|(session, request)| *session == c && *request <= upto);
            }
        }
    }

    /// Deliveries are over.
    pub fn end_leases(&mut self, db: usize, id: ConsumerId, ack_ids: &[AckId]) {
        if let Some(promised) = self.databases[db].promised.get_mut(&id) {
            promised.leases.retain(|ack_id, _| !ack_ids.contains(ack_id));
        }
    }

    fn doubt(&mut self, db: usize, id: ConsumerId, ack_ids: &[AckId]) {
        if let Some(promised) = self.databases[db].promised.get_mut(&id) {
            for ack_id in ack_ids {
                promised.leases.entry(*ack_id).and_modify(|lease| lease.is_certain = false);
            }
        }
    }

    /// A journal is incomplete: messages may come early once more.
    pub fn doubt_leases(&mut self, db: usize) {
        for promised in self.databases[db].promised.values_mut() {
            promised.leases.values_mut().for_each(|lease| lease.is_certain = false);
        }
    }

    /// The wall clock is set: for the deadlines of what no dispatcher has in memory that is another time.
    pub fn doubt_unloaded(&mut self, db: usize) {
        let Database { worker, promised, .. } = &mut self.databases[db];
        for (&id, promised) in promised {
            let is_loaded = |worker: &Worker| worker.rules.consumer_of(id).is_some();
            if !worker.as_ref().is_some_and(is_loaded) {
                promised.leases.values_mut().for_each(|lease| lease.is_certain = false);
            }
        }
    }

    /// A consumer begins anew.
    pub fn forget_promises(&mut self, db: usize, id: ConsumerId) {
        if let Some(promised) = self.databases[db].promised.get_mut(&id) {
            promised.leases.clear();
        }
        self.databases[db].handed.retain(|(other, ..)| *other != id);
    }
}
