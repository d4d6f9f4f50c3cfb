//! The sessions that have an open transaction with something in it, or wait.

use super::fast_path::FastPathGrant;
use crate::ids::{AckId, ConsumerId, RequestId, SessionId};
use crate::pending::PendingOperations;
use crate::settings::Micros;
use std::collections::{BTreeMap, BTreeSet};

#[derive(Debug)]
pub(super) struct Session {
    pub pid: i32,
    pub pending: PendingOperations,
    /// Where it waits.
    pub waits_for: Option<ConsumerId>,
    grant: Option<FastPathGrant>,
}

impl Session {
    /// What it may finish without asking.
    pub fn grant(&self) -> Option<&FastPathGrant> {
        self.grant.as_ref()
    }

    /// Something is open that is about this consumer, or may still come of what it has received.
    pub fn uses(&self, id: ConsumerId) -> bool {
        self.waits_for == Some(id)
            || self.pending.is_about(id)
            || self.grant.as_ref().is_some_and(|grant| grant.consumer == id)
    }

    /// Nothing needs to be known of it.
    fn is_idle(&self) -> bool {
        self.pending.is_empty() && self.grant.is_none() && self.waits_for.is_none()
    }
}

/// All of them, and what they may finish without asking, by its ack_ids and by its deadline.
#[derive(Debug, Default)]
pub(super) struct Sessions {
    all: BTreeMap<SessionId, Session>,
    by_ack_id: BTreeMap<AckId, SessionId>,
    by_due: BTreeSet<(Micros, SessionId)>,
}

impl Sessions {
    pub fn get(&self, id: SessionId) -> Option<&Session> {
        self.all.get(&id)
    }

    pub fn get_mut(&mut self, id: SessionId) -> Option<&mut Session> {
        self.all.get_mut(&id)
    }

    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    pub fn iter(&self) -> impl Iterator<Item = &Session> {
        self.all.values()
    }

    pub fn of(&mut self, id: SessionId, pid: i32) -> &mut Session {
        self.all.entry(id).or_insert_with(|| Session {
            pid,
            pending: PendingOperations::default(),
            waits_for: None,
            grant: None,
        })
    }

    pub fn forget_if_idle(&mut self, id: SessionId) {
        if self.all.get(&id).is_some_and(Session::is_idle) {
            self.all.remove(&id);
        }
    }

    /// It may finish these deliveries without asking, and no others.
    pub fn set_grant(&mut self, id: SessionId, grant: FastPathGrant) {
        self.take_grant(id, |_| true);
        self.by_ack_id.insert(grant.first_ack_id, id);
        self.by_due.insert((grant.due, id));
        if let Some(session) = self.all.get_mut(&id) {
            session.grant = Some(grant);
        }
    }

    /// Takes its grant away, if that is the one meant: it has to ask from now on.
    pub fn take_grant(
        &mut self,
        id: SessionId,
        is_meant: impl Fn(&FastPathGrant) -> bool,
    ) -> Option<FastPathGrant> {
        let grant = self.all.get_mut(&id)?.grant.take_if(|grant| is_meant(grant))?;
        self.by_ack_id.remove(&grant.first_ack_id);
        self.by_due.remove(&(grant.due, id));
        Some(grant)
    }

    pub fn with_grants(&self) -> Vec<SessionId> {
        self.by_ack_id.values().copied().collect()
    }

    pub fn with_grants_due(&self, now: Micros) -> Vec<SessionId> {
        self.by_due.range(..=(now, SessionId::MAX)).map(|&(_, id)| id).collect()
    }

    /// Those that may finish one of the deliveries between these two. Grants don't overlap.
    pub fn with_grants_in(&self, lowest: AckId, highest: AckId) -> Vec<SessionId> {
        let reaches_in = |id: &&SessionId| {
            self.get(**id).and_then(Session::grant).is_some_and(|grant| grant.end() > lowest)
        };
        self.by_ack_id
            .range(..=highest)
            .rev()
            .map(|(_, id)| id)
            .take_while(reaches_in)
            .copied()
            .collect()
    }

    /// The request whose answer it may finish without asking.
    pub fn grant_request(&self, id: SessionId) -> Option<RequestId> {
        Some(self.get(id)?.grant()?.request_id)
    }
}
