//! What tests about writing and memory do, or look at, again and again.

use super::*;

/// Consumers whose events are to be written, those of one transaction together.
pub(super) fn journals(effects: &[Effect]) -> Vec<&[ConsumerId]> {
    let journals = effects.iter().filter_map(|effect| match effect {
        Effect::Journal(consumers) => Some(&consumers[..]),
        _ => None,
    });
    journals.collect()
}

/// Consumers of which a checkpoint is to be written.
pub(super) fn checkpoints(effects: &[Effect]) -> Vec<ConsumerId> {
    let checkpoint = |effect: &Effect| match effect {
        Effect::Checkpoint { consumer, .. } => Some(*consumer),
        _ => None,
    };
    effects.iter().filter_map(checkpoint).collect()
}

/// A failure that is nobody's lock.
pub(super) fn full_disk() -> Failure {
    Failure::Error { text: "disk full".into(), is_lock: false }
}

impl Rig {
    /// Configured, after something was changed.
    pub(super) fn with(change: impl FnOnce(&mut Rig)) -> Rig {
        let mut rig = Rig::unconfigured();
        change(&mut rig);
        assert_eq!(rig.tick(), []);
        rig
    }

    /// How long there is nothing to do, if no transaction has ended either.
    pub(super) fn sleeps(&mut self) -> Micros {
        assert_eq!(self.give(Input::Outcomes(Vec::new())), []);
        self.rules.wake_at().saturating_sub(self.clock.mono)
    }

    /// What became of a transaction that was to write events.
    pub(super) fn journalled(
        &mut self,
        consumers: &[ConsumerId],
        written: Result<bool, Failure>,
    ) -> Vec<Effect> {
        self.give(Input::Journalled { consumers: consumers.to_vec(), written })
    }

    /// Time goes by, and all is written that is due then. Returns the consumers that were saved.
    pub(super) fn write_after(&mut self, time: Micros) -> Vec<ConsumerId> {
        let effects = self.after(time);
        self.write(effects)
    }

    /// Time goes by in small steps, and all is written that is due. Returns the consumers that were saved.
    pub(super) fn write_for(&mut self, time: Micros) -> Vec<ConsumerId> {
        const STEP: Micros = 100_000;
        (0..time / STEP).flat_map(|_| self.write_after(STEP)).collect()
    }

    /// A session asks to finish deliveries. The id of the row of sequin.acks that it writes.
    pub(super) fn ask_to_finish(
        &mut self,
        session: SessionId,
        consumer: ConsumerId,
        received: &[(Seq, AckId)],
    ) -> AckRowId {
        let ack_ids = received.iter().map(|&(_, ack_id)| ack_id).collect();
        let id = self.post_finish(session, consumer, ack_ids);
        self.ack_row_of(id)
    }

    /// It does, and commits.
    pub(super) fn finish_and_commit(
        &mut self,
        session: SessionId,
        consumer: ConsumerId,
        received: &[(Seq, AckId)],
    ) {
        self.ask_to_finish(session, consumer, received);
        let effects = self.commit(session);
        assert_eq!(journals(&effects), [[]; 0]);
    }

    pub(super) fn ack_row_of(&self, id: RequestId) -> AckRowId {
        match self.answer_to(id) {
            Some(&Answer::Deliveries { ack_row_id, .. }) => ack_row_id,
            other => panic!("{other:?}"),
        }
    }

    /// A delivery is extended so often. Each time is an event.
    pub(super) fn extend(&mut self, consumer: ConsumerId, ack_id: AckId, times: usize) {
        self.post(98, Request::Extend { consumer, ack_wait: None, ack_ids: vec![ack_id; times] });
    }

    /// Live deliveries.
    pub(super) fn in_flight(&mut self, consumer: ConsumerId) -> Vec<Lease> {
        match self.ask(97, Request::InFlight { consumer, after: AckId::default() }).0 {
            Some(Answer::InFlight(leases)) => leases.into_iter().map(|(lease, ..)| lease).collect(),
            other => panic!("{other:?}"),
        }
    }
}
