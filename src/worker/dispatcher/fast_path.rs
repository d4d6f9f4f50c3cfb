//! What sessions may finish on the dispatcher's word, given in advance (`pg::lease`). It is taken back before anything is
//! done to such a delivery: before its deadline is noticed, another session names it, or its consumer changes.

use super::Dispatcher;
use super::requests::entries;
use crate::pg::shared::fast_path::FastPathAck;
use sequin_engine::pending::{Consumers, Operation};
use sequin_engine::settings::Micros;
use sequin_engine::stream::ConsumerId;

/// The deliveries that a session received last.
pub(super) struct FastPathGrant {
    /// The request that they were the answer to.
    pub request: u64,
    pub consumer: ConsumerId,
    pub first_ack_id: i64,
    pub count: usize,
    /// The id that a row of sequin.acks will have, if it finishes some of them.
    pub ack_row_id: i64,
    /// They end then, if they aren't extended.
    pub due: Micros,
}

impl FastPathGrant {
    /// True if one of its ack_ids may lie between these two.
    fn reaches_into(&self, lowest: i64, highest: i64) -> bool {
        let end = self.first_ack_id.saturating_add_unsigned(self.count as u64);
        self.first_ack_id <= highest && lowest < end
    }
}

impl Dispatcher {
    /// What a session has finished on its own word is a claim of its transaction from then on. Pinned while that is open;
    /// mostly it has committed by now, and the claim is about to take effect.
    pub(super) fn apply_fast_path_ack(
        &mut self,
        n: usize,
        finished: &FastPathAck,
        has_committed: bool,
    ) {
        let Some(session) = self.sessions.get_mut(&n) else { return };
        let lease = session.fast_path.take_if(|lease| lease.request == finished.request);
        let Some(FastPathGrant { consumer: id, first_ack_id, ack_row_id, .. }) = lease else {
            return;
        };
        let ack_ids = finished.positions.iter().map(|&place| first_ack_id + place as i64);
        let ack_ids = match self.world.consumer(id) {
            Some(_) if has_committed => ack_ids.collect(),
            Some(consumer) => ack_ids.filter(|&ack_id| consumer.pin(ack_id).is_some()).collect(),
            None => Vec::new(),
        };
        let operation = Operation::Finish { ack_ids, ack_row_id, rejected: false };
        if let Some(session) = self.sessions.get_mut(&n) {
            session.pending.add(finished.request_id, id, operation);
        }
    }

    /// True if streams or consumers have changed: what was said before that is void.
    pub(super) fn take_config_changed(&mut self) -> bool {
        if !self.database.has_config_changed() {
            return false;
        }
        self.revoke_all();
        self.database.take_config_changed()
    }

    pub(super) fn revoke_all(&mut self) {
        self.revoke(|_| true);
    }

    /// Before deadlines are noticed.
    pub(super) fn revoke_due(&mut self, now: Micros) {
        self.revoke(|lease| lease.due <= now);
    }

    /// Before something is done to these deliveries.
    pub(super) fn revoke_of(&mut self, ack_ids: &[i64]) {
        let (Some(&lowest), Some(&highest)) = (ack_ids.iter().min(), ack_ids.iter().max()) else {
            return;
        };
        self.revoke(|lease| lease.reaches_into(lowest, highest));
    }

    fn revoke(&mut self, is_meant: impl Fn(&FastPathGrant) -> bool) {
        let fast_path =
            self.sessions.iter().filter_map(|(&n, session)| Some((n, session.fast_path.as_ref()?)));
        let meant =
            fast_path.filter(|(_, lease)| is_meant(lease)).map(|(n, lease)| (n, lease.request));
        for (n, request) in meant.collect::<Vec<_>>() {
            let finished = entries().get(n).and_then(|entry| entry.revoke(request));
            match finished {
                Some(finished) => self.apply_fast_path_ack(n, &finished, false),
                None => {
                    if let Some(session) = self.sessions.get_mut(&n) {
                        session.fast_path = None;
                    }
                }
            }
            self.forget_session(n);
        }
    }
}
