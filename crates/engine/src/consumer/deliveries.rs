//! The life of a delivery: granted to a worker, pinned by its ack or nack, and ended by a finish, a failure or its
//! deadline.

use super::super::event::{Change, Item};
use super::super::ids::AckId;
use super::super::key::Seq;
use super::super::settings::Micros;
use super::{Consumer, Delivery, Lease, Message, State, StepContext};

impl Consumer {
    /// Grants up to `max` messages: redeliveries first, then the lowest seqs. Returns them in ascending order.
    pub fn grant(
        &mut self,
        max: usize,
        lease: Micros,
        holder: i32,
        context: &mut StepContext,
    ) -> Vec<Delivery> {
        let seqs = self.choose(max, context);
        if seqs.is_empty() {
            return Vec::new();
        }
        let first_ack_id = AckId(context.ids.take(seqs.len()));
        let due = context.now.saturating_add(lease);
        let mut items = Vec::with_capacity(seqs.len());
        let mut deliveries = Vec::with_capacity(seqs.len());
        for (ack_id, seq) in first_ack_id.and_above().zip(seqs) {
            let Some(message) = self.messages.get_mut(&seq) else { continue };
            self.totals.redelivered_total += i64::from(message.deliveries > 0);
            message.deliveries = message.deliveries.saturating_add(1);
            message.state = State::InFlight(Lease { ack_id, due, holder, pinned: false });
            items.push(Item { seq, key: message.key, deliveries: message.deliveries });
            deliveries.push(Delivery { ack_id, seq, deliveries: message.deliveries });
            self.timers.insert((due, seq));
            self.by_ack_id.insert(ack_id, seq);
            self.max_delivered = self.max_delivered.max(seq);
            if self.settings.ordered {
                self.lanes.hold(message.key);
            }
        }
        self.record(context, Change::Delivered { first_ack_id, due: context.wall(due), items });
        deliveries
    }

    /// Suspends the deadline of a live delivery until it is finished or unpinned. `None` when the ack_id is unknown,
    /// late, or pinned already.
    pub fn pin(&mut self, ack_id: AckId) -> Option<Delivery> {
        let (seq, message) = self.live(ack_id)?;
        let State::InFlight(lease) = &mut message.state else { return None };
        if lease.pinned {
            return None;
        }
        lease.pinned = true;
        let delivery = Delivery { ack_id, seq, deliveries: message.deliveries };
        let due = lease.due;
        self.timers.remove(&(due, seq));
        Some(delivery)
    }

    /// The transaction that had pinned the delivery rolled back: the deadline holds again.
    pub fn unpin(&mut self, ack_id: AckId) {
        let Some((seq, message)) = self.live(ack_id) else { return };
        if let State::InFlight(lease) = &mut message.state {
            lease.pinned = false;
            let due = lease.due;
            self.timers.insert((due, seq));
        }
    }

    /// The message of a pinned delivery is finished. True unless the ack_id is no longer live.
    pub fn finish(&mut self, ack_id: AckId) -> bool {
        let Some(&seq) = self.by_ack_id.get(&ack_id) else { return false };
        self.remove(seq);
        true
    }

    /// Adds to the counters what `finish` has finished.
    pub fn count_finished(&mut self, acked: i64, rejected: i64) {
        self.totals.acked_total += acked;
        self.totals.dead_total += rejected;
    }

    /// A delivery failed. The message becomes ready after `delay`, or after the backoff if that is `None`; it becomes a
    /// dead letter if this was its last delivery.
    pub fn nack(&mut self, ack_id: AckId, delay: Option<Micros>, context: &mut StepContext) {
        let Some((seq, message)) = self.live(ack_id) else { return };
        let deliveries = message.deliveries;
        let wait = delay.unwrap_or_else(|| self.settings.backoff_after(deliveries));
        self.release_after(seq, wait, context);
    }

    /// The receiving transaction rolled back: the message becomes ready at once, and the delivery counts. If another
    /// transaction has acked it, that one's end decides. If that rolls back too, the lease is over.
    pub fn release(&mut self, ack_id: AckId, context: &mut StepContext) {
        match self.live(ack_id) {
            Some((_, Message { state: State::InFlight(Lease { pinned: true, .. }), .. })) => {
                self.extend(ack_id, 0, context);
            }
            Some((seq, _)) => self.release_after(seq, 0, context),
            None => {}
        }
    }

    /// Sets the deadline of a live delivery to `lease` from now; false if it isn't live.
    pub fn extend(&mut self, ack_id: AckId, lease: Micros, context: &mut StepContext) -> bool {
        let due = context.now.saturating_add(lease);
        let Some((seq, message)) = self.live(ack_id) else { return false };
        let State::InFlight(old) = &mut message.state else { return false };
        let before = std::mem::replace(&mut old.due, due);
        if !old.pinned {
            self.timers.remove(&(before, seq));
            self.timers.insert((due, seq));
        }
        self.record(context, Change::Extended { ack_id, seq, due: context.wall(due) });
        true
    }

    /// The message of a delivery is no longer in the stream: it counts as finished.
    pub fn gone(&mut self, ack_id: AckId, context: &mut StepContext) {
        if let Some((seq, _)) = self.live(ack_id) {
            self.remove(seq);
            self.record(context, Change::Finished { seqs: vec![seq] });
        }
    }

    /// Ends leases and delays that are due.
    pub fn tick(&mut self, context: &mut StepContext) {
        while let Some(&(due, seq)) = self.timers.first().filter(|&&(due, _)| due <= context.now) {
            self.timers.remove(&(due, seq));
            let Some(message) = self.messages.get(&seq).copied() else { continue };
            match message.state {
                State::InFlight(_) => {
                    let wait = self.settings.backoff_after(message.deliveries);
                    self.release_after(seq, wait, context);
                }
                State::Delayed { .. } => self.make_ready(seq),
                State::Ready | State::Withheld => {}
            }
        }
    }

    /// Takes up to `max` messages out of the ready sets, ascending. Messages that have had all deliveries of a
    /// max_deliver that was lowered since become dead letters instead.
    fn choose(&mut self, max: usize, context: &mut StepContext) -> Vec<Seq> {
        let max = max.min(self.deliverable());
        let mut seqs: Vec<Seq> = Vec::with_capacity(max);
        while seqs.len() < max {
            if let Some(seq) = self.again.pop_first() {
                match self.item(seq) {
                    Some(item) if self.settings.is_exhausted(item.deliveries) => {
                        self.dead_letter(item, context)
                    }
                    _ => seqs.push(seq),
                }
            } else if let Some(seq) = self.fresh.pop_first() {
                seqs.push(seq);
            } else {
                break;
            }
        }
        seqs.sort_unstable();
        seqs
    }

    fn dead_letter(&mut self, item: Item, context: &mut StepContext) {
        self.remove(item.seq);
        self.totals.dead_total += 1;
        self.record(context, Change::Dead { item });
    }

    fn live(&mut self, ack_id: AckId) -> Option<(Seq, &mut Message)> {
        let seq = *self.by_ack_id.get(&ack_id)?;
        Some((seq, self.messages.get_mut(&seq)?))
    }

    /// Ends a delivery without an ack: the message becomes a dead letter, delayed, or ready.
    fn release_after(&mut self, seq: Seq, wait: Micros, context: &mut StepContext) {
        let Some(item) = self.item(seq) else { return };
        if self.settings.is_exhausted(item.deliveries) {
            return self.dead_letter(item, context);
        }
        // Without a wait this is 0 and not the time now: if the clock is set back before a restore, the message must
        // still be ready.
        let until = if wait > 0 { context.now.saturating_add(wait) } else { 0 };
        if wait > 0 {
            self.delay(seq, until);
        } else {
            self.make_ready(seq);
        }
        self.record(context, Change::Returned { item, until: context.wall(until) });
    }
}
