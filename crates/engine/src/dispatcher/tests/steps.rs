//! What tests of several rules do with the rig.

use super::*;

impl Rig {
    /// A worker's step: it has looked for ends of transactions, too.
    pub(super) fn step(&mut self) -> Vec<Effect> {
        let mut effects = self.give(Input::Outcomes(Vec::new()));
        effects.extend(self.tick());
        effects
    }

    /// Hands something in; what is to be done.
    pub(super) fn hand_in(&mut self, input: Input) -> Vec<Effect> {
        let mut effects = Vec::new();
        self.rules.handle(input, self.clock, &mut self.memory, &mut effects);
        effects
    }

    /// Time goes by, in which the worker does what it has to.
    pub(super) fn rest(&mut self, time: Micros) {
        let end = self.in_time(time);
        while self.clock.mono < end {
            let time = (end - self.clock.mono).min(SECOND / 10);
            self.clock.mono += time;
            self.clock.wall += time;
            let effects = self.step();
            self.write(effects);
        }
    }

    /// Time goes by, and nobody wakes the worker but its own time.
    pub(super) fn sleep(&mut self, time: Micros) {
        let (end, mut steps) = (self.in_time(time), 0);
        while let wake_at = self.rules.wake_at().max(self.clock.mono)
            && wake_at <= end
        {
            steps = if wake_at > self.clock.mono { 0 } else { steps + 1 };
            assert!(steps < 10, "it spins");
            self.clock.wall += wake_at - self.clock.mono;
            self.clock.mono = wake_at;
            let effects = self.step();
            self.write(effects);
        }
        self.clock.wall += end - self.clock.mono;
        self.clock.mono = end;
    }

    /// A session receives no more than so many: seqs.
    pub(super) fn receive_few(
        &mut self,
        session: SessionId,
        consumer: ConsumerId,
        batch: usize,
    ) -> Vec<Seq> {
        let until = self.clock.mono;
        let id = self.post(session, Request::Receive { consumer, batch, ack_wait: None, until });
        self.tick();
        self.seqs(id)
    }

    /// The messages of an answer.
    pub(super) fn seqs(&self, id: RequestId) -> Vec<Seq> {
        self.deliveries(id).into_iter().map(|(seq, _)| seq).collect()
    }

    pub(super) fn post_finish(
        &mut self,
        session: SessionId,
        consumer: ConsumerId,
        ack_ids: Vec<AckId>,
    ) -> RequestId {
        self.post(session, Request::Finish { consumer, rejected: false, ack_ids })
    }

    /// A session asks to finish deliveries; those that it is to finish.
    pub(super) fn finish(
        &mut self,
        session: SessionId,
        consumer: ConsumerId,
        ack_ids: &[AckId],
    ) -> Vec<AckId> {
        let id = self.post_finish(session, consumer, ack_ids.to_vec());
        self.deliveries(id).into_iter().map(|(_, ack_id)| ack_id).collect()
    }

    pub(super) fn consumer_config(&mut self, id: ConsumerId) -> &mut ConsumerConfig {
        self.consumers.iter_mut().find(|config| config.id == id).unwrap()
    }

    /// These have changed.
    pub(super) fn change(&mut self, changes: Changes) -> Vec<Effect> {
        self.memory.changes = Some(changes);
        let mut effects = self.give(Input::ConfigChanged);
        effects.extend(self.step());
        effects
    }
}
