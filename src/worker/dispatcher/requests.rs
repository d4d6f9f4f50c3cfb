//! Serving the sessions' mailboxes: first what became of their transactions, then what they ask.

use super::loading::NotLoaded;
use super::waiters::Waiter;
use super::waiting::empty;
use super::{Dispatcher, End, Session};
use crate::pg::exec::catalog;
use crate::pg::shared::database::Database;
use crate::pg::shared::mailbox::{Answer, LEASES_PER_ANSWER, Request};
use crate::pg::shared::session_entry::{Mail, SessionEntry};
use crate::pg::shared::shmem::{Segment, segment};
use crate::pg::{now, process};
use sequin_engine::consumer::{Consumer, Delivery, LOOK_AHEAD, StepContext};
use sequin_engine::key::{KeyId, Seq};
use sequin_engine::pending::{Consumers, Operation, PendingOperations};
use sequin_engine::stream::ConsumerId;
use std::time::{Duration, Instant};

pub(super) fn entries() -> &'static [SessionEntry] {
    segment().map_or(&[][..], Segment::sessions)
}

/// There is no extension here, as far as was seen: whoever has asked something is told so. If it has come meanwhile,
/// they are left to the next dispatcher.
pub(super) fn refuse_all(database: &Database) {
    let oid = database.oid();
    let mut asked = Vec::new();
    for (n, entry) in entries().iter().enumerate() {
        entry.reset(oid);
        let mail = entry.collect(oid);
        if mail.request.is_some() {
            asked.push((n, entry, mail.request_id));
        }
    }
    if asked.is_empty() {
        return;
    }
    // Looked at after they were collected: none of them has seen it committed.
    let is_gone = process::transaction(|| Ok(catalog::extension().is_none()));
    for (n, entry, request_id) in asked {
        if is_gone == Ok(true) {
            entry.answer(request_id, &Answer::NoConsumer);
        } else {
            entry.ask_again(request_id);
            database.notify_request(n);
            database.want(true);
        }
    }
}

/// A dispatcher starts: what its predecessor has taken is asked again. Transactions that rely on that one's word can't
/// begin to commit any more, and those that are just committing are waited for, so that their rows are read.
pub(super) fn take_over(database: &Database) {
    database.begin_reign();
    for (n, entry) in entries().iter().enumerate() {
        entry.reset(database.oid());
        database.notify_request(n);
    }
    await_commits(database, None);
}

/// A dispatcher ends: from now on no nack counts that it knows of and hasn't been told the end of. One that is just
/// committing is waited for; not for long, as a commit may wait for a standby.
pub(super) fn hand_over(database: &Database) {
    const PATIENCE: Duration = Duration::from_secs(1);
    database.end_reign();
    await_commits(database, Some(Instant::now() + PATIENCE));
}

fn await_commits(database: &Database, until: Option<Instant>) {
    let oid = database.oid();
    let is_over = || match until {
        Some(until) => Instant::now() > until,
        None => process::must_end(),
    };
    while entries().iter().any(|entry| entry.is_committing(oid)) && !is_over() {
        process::wait(Some(Duration::from_millis(10)));
    }
}

impl Dispatcher {
    /// Takes what the entries have: first all ends of transactions, so that whoever asks after one of them finds
    /// what it has freed; then the requests.
    pub(super) fn serve_entries(&mut self, marked: &[usize]) -> Option<End> {
        let mails = self.settle_entries(marked);
        // What these requests rely on was committed before they were made: now it is seen.
        // If this process ends here, they are left to the next dispatcher.
        if self.take_config_changed()
            && let Some(end) = self.read_config()
        {
            return Some(end);
        }
        if !self.config_read {
            for (n, mail) in &mails {
                entries().get(*n).iter().for_each(|entry| entry.ask_again(mail.request_id));
                self.database.notify_request(*n);
            }
            return None;
        }
        for (n, mail) in mails {
            if let (Some(entry), Some(request)) = (entries().get(n), mail.request) {
                let end = self.serve_request(n, entry, mail.request_id, mail.pid, request);
                if end.is_some() {
                    return end;
                }
            }
        }
        None
    }

    /// Does what the ends of transactions ask for, and returns what else the entries have.
    fn settle_entries(&mut self, marked: &[usize]) -> Vec<(usize, Mail)> {
        let mut mails = Vec::new();
        for &n in marked {
            let Some(entry) = entries().get(n) else { continue };
            let mail = entry.collect(self.database.oid());
            // What the process did that had the entry before, if another has it now.
            self.settle(n, &mail);
            if self.sessions.get(&n).is_some_and(|session| session.pid != mail.pid) {
                self.abort(n, 0);
            }
            if mail.request.is_some() {
                mails.push((n, mail));
            }
        }
        mails
    }

    /// Before this process ends: what has ended by now counts. Requests are left to the next dispatcher, which
    /// takes those that were collected here as asked again.
    pub(super) fn settle_last(&mut self) {
        let mut marked = Vec::new();
        self.database.take_requests(&mut marked);
        self.settle_entries(&marked);
        for n in marked {
            self.database.notify_request(n);
        }
    }

    fn serve_request(
        &mut self,
        n: usize,
        entry: &SessionEntry,
        request_id: u64,
        pid: i32,
        request: Request,
    ) -> Option<End> {
        match self.serve(n, request_id, pid, request) {
            Ok(answer) => {
                if let Some(answer) = answer {
                    entry.answer(request_id, &answer);
                }
                None
            }
            Err(NotLoaded::Unknown) => {
                entry.answer(request_id, &Answer::NoConsumer);
                None
            }
            Err(NotLoaded::NotNow) => {
                entry.answer(request_id, &Answer::NotNow);
                None
            }
            Err(NotLoaded::Damaged(fault)) => {
                entry.answer(request_id, &Answer::Damaged(fault.to_string()));
                None
            }
            Err(NotLoaded::EpochBehind) => {
                entry.ask_again(request_id);
                Some(End::NeedsEpoch)
            }
        }
    }

    /// What became of the session's transaction.
    fn settle(&mut self, n: usize, mail: &Mail) {
        if let Some(finished) = &mail.finished {
            let has_committed = mail.committed_upto >= Some(finished.request_id);
            self.apply_fast_path_ack(n, finished, has_committed);
        }
        if let Some(from) = mail.aborted_from {
            self.abort(n, from);
        }
        let Some(upto) = mail.committed_upto else { return };
        let Some(session) = self.sessions.get_mut(&n) else { return };
        let mut moment = StepContext { now: now(), ids: &mut self.ids };
        for applied in session.pending.commit(upto, &mut self.world, &mut moment) {
            if let Some(state) = self.world.consumers.get_mut(&applied.consumer) {
                state.applied.push(applied.ack_row_id);
            }
        }
        self.forget_session(n);
    }

    pub(super) fn abort(&mut self, n: usize, from: u64) {
        let Some(session) = self.sessions.get_mut(&n) else { return };
        let mut moment = StepContext { now: now(), ids: &mut self.ids };
        session.pending.abort(from, &mut self.world, &mut moment);
        session.fast_path.take_if(|lease| lease.request >= from);
        let waits_for = session.waits_for.take();
        self.forget_session(n);
        if let Some(state) = waits_for.and_then(|id| self.world.consumers.get_mut(&id)) {
            state.waiting.remove(n);
        }
    }

    pub(super) fn session(&mut self, n: usize, pid: i32) -> &mut Session {
        self.sessions.entry(n).or_insert_with(|| Session {
            pid,
            pending: PendingOperations::default(),
            fast_path: None,
            waits_for: None,
        })
    }

    /// Nothing needs to be known of a session that has no claims, no lease and doesn't wait.
    pub(super) fn forget_session(&mut self, n: usize) {
        let is_idle = |session: &Session| {
            session.pending.is_empty() && session.fast_path.is_none() && session.waits_for.is_none()
        };
        if self.sessions.get(&n).is_some_and(is_idle) {
            self.sessions.remove(&n);
        }
    }

    /// `None`: it waits, or has been answered.
    fn serve(
        &mut self,
        n: usize,
        request_id: u64,
        pid: i32,
        request: Request,
    ) -> Result<Option<Answer>, NotLoaded> {
        match request {
            Request::Receive { consumer, batch, ack_wait, until } => {
                let waiter = Waiter { session: n, request_id, pid, batch, ack_wait, until };
                self.receive(consumer, waiter)?;
                Ok(None)
            }
            Request::Finish { consumer, rejected, ack_ids } => {
                self.revoke_of(&ack_ids);
                let pinned = self.pin(consumer, ack_ids)?;
                let ack_row_id = self.ids.take(1);
                self.operation(n, request_id, pid, consumer, ack_row_id, pinned, |ack_ids| {
                    Operation::Finish { ack_ids, ack_row_id, rejected }
                });
                Ok(None)
            }
            Request::Nack { consumer, delay, ack_ids } => {
                self.revoke_of(&ack_ids);
                let pinned = self.pin(consumer, ack_ids)?;
                self.operation(n, request_id, pid, consumer, 0, pinned, |ack_ids| {
                    Operation::Nack { ack_ids, delay }
                });
                Ok(None)
            }
            Request::Redeliver { consumer, messages } => {
                self.redeliver(n, request_id, pid, consumer, messages)
            }
            Request::Extend { consumer, ack_wait, ack_ids } => {
                self.revoke_of(&ack_ids);
                let (consumer, mut moment) = self.at(consumer)?;
                let lease = ack_wait.unwrap_or(consumer.settings().ack_wait);
                let live =
                    ack_ids.into_iter().filter(|&id| consumer.extend(id, lease, &mut moment));
                Ok(Some(Answer::Count(i64::try_from(live.count()).unwrap_or(0))))
            }
            Request::Gone { consumer, ack_ids } => {
                self.revoke_of(&ack_ids);
                let (consumer, mut moment) = self.at(consumer)?;
                ack_ids.into_iter().for_each(|ack_id| consumer.gone(ack_id, &mut moment));
                Ok(Some(Answer::Count(0)))
            }
            Request::Stats { after } => self.stats(after).map(Some),
            Request::LastError { consumer } => Ok(Some(self.last_error(consumer))),
            Request::InFlight { consumer, after } => {
                let (consumer, _) = self.at(consumer)?;
                let leases = consumer.in_flight(after).take(LEASES_PER_ANSWER);
                Ok(Some(Answer::InFlight(leases.collect())))
            }
        }
    }

    /// A consumer, loaded and up to date, and the moment.
    pub(super) fn at(
        &mut self,
        id: ConsumerId,
    ) -> Result<(&mut Consumer, StepContext<'_>), NotLoaded> {
        self.load(id)?;
        let now = now();
        if now >= self.next_tick {
            self.revoke_due(now);
        }
        let mut moment = StepContext { now, ids: &mut self.ids };
        let consumer = self.world.consumer(id).ok_or(NotLoaded::Unknown)?;
        // What is due has run out, whether or not anybody has looked.
        consumer.tick(&mut moment);
        Ok((consumer, moment))
    }

    pub(super) fn answer(&self, entry: usize, request_id: u64, answer: &Answer) -> bool {
        entries().get(entry).is_some_and(|entry| entry.answer(request_id, answer))
    }

    fn pin(&mut self, id: ConsumerId, ack_ids: Vec<i64>) -> Result<Vec<Delivery>, NotLoaded> {
        let (consumer, _) = self.at(id)?;
        Ok(ack_ids.into_iter().filter_map(|ack_id| consumer.pin(ack_id)).collect())
    }

    /// Enters the claim on what was pinned, and answers with it.
    fn operation(
        &mut self,
        n: usize,
        request_id: u64,
        pid: i32,
        id: ConsumerId,
        ack_row_id: i64,
        pinned: Vec<Delivery>,
        operation: impl FnOnce(Vec<i64>) -> Operation,
    ) {
        let generation = self.generation(id);
        if !pinned.is_empty() {
            let operation = operation(pinned.iter().map(|delivery| delivery.ack_id).collect());
            self.session(n, pid).pending.add(request_id, id, operation);
        }
        if !self.answer(
            n,
            request_id,
            &Answer::Deliveries { ack_row_id, generation, deliveries: pinned },
        ) {
            self.abort(n, request_id);
        }
    }

    pub(super) fn generation(&self, id: ConsumerId) -> i32 {
        self.world.consumers.get(&id).map_or(0, |state| state.config.generation)
    }

    fn redeliver(
        &mut self,
        n: usize,
        request_id: u64,
        pid: i32,
        id: ConsumerId,
        messages: Vec<(Seq, KeyId)>,
    ) -> Result<Option<Answer>, NotLoaded> {
        // What open transactions want counts: each call, and each transaction, is of any number of requests.
        let claimed: usize = self.sessions.values().map(|s| s.pending.to_redeliver(id)).sum();
        let (consumer, _) = self.at(id)?;
        if consumer.unfinished() + claimed + messages.len() > 2 * LOOK_AHEAD {
            return Ok(Some(Answer::TooMany));
        }
        let Some(stream) = self.world.stream_of(id) else { return Ok(Some(empty())) };
        let wanted: Vec<(Seq, KeyId)> = (messages.into_iter())
            .filter(|&(seq, _)| stream.seen(id, seq))
            .filter(|&(seq, _)| stream.consumer(id).is_some_and(|c| !c.is_unfinished(seq)))
            .collect();
        let (ack_row_id, generation) = (self.ids.take(1), self.generation(id));
        let deliveries: Vec<Delivery> =
            wanted.iter().map(|&(seq, _)| Delivery { ack_id: 0, seq, deliveries: 0 }).collect();
        if !wanted.is_empty() {
            let operation = Operation::Redeliver { messages: wanted, ack_row_id };
            self.session(n, pid).pending.add(request_id, id, operation);
        }
        if !self.answer(n, request_id, &Answer::Deliveries { ack_row_id, generation, deliveries }) {
            self.abort(n, request_id);
        }
        Ok(None)
    }
}
