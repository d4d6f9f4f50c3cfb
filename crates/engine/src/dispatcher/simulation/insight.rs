//! What a check may look at, beside what clients see.

use super::super::{Asked, ConsumerConfig, Dispatcher};
use crate::consumer::Consumer;
use crate::ids::{ConsumerId, SessionId, StreamId};
use crate::settings::Micros;

impl Dispatcher {
    pub fn known_streams(&self) -> impl Iterator<Item = (StreamId, &str)> {
        self.world.streams.iter().map(|(&id, entry)| (id, entry.name.as_str()))
    }

    pub fn known_consumers(&self) -> impl Iterator<Item = (&ConsumerConfig, Option<StreamId>)> {
        self.world.consumers.values().map(|entry| (&entry.config, entry.stream))
    }

    pub fn consumer_of(&self, id: ConsumerId) -> Option<&Consumer> {
        self.world.stream_of(id)?.consumer(id)
    }

    pub fn is_waited_for(&self, id: ConsumerId) -> bool {
        self.waited_for.contains(&id)
    }

    /// How many sessions wait for it.
    pub fn waiting_for(&self, id: ConsumerId) -> usize {
        self.world.consumers.get(&id).map_or(0, |entry| entry.waiting.len())
    }

    /// A session's request has been taken in, and not been answered yet.
    pub fn is_serving(&self, session: SessionId) -> bool {
        let is_its = |asked: &Asked| asked.session == session;
        self.sessions.get(session).is_some_and(|known| known.waits_for.is_some())
            || self.world.consumers.values().any(|entry| entry.asked.iter().any(is_its))
    }

    /// Its table is locked, and is tried again later.
    pub fn is_unreadable(&self, id: ConsumerId, now: Micros) -> bool {
        self.world.entry_of(id).is_some_and(|entry| entry.retry_at > now)
    }

    pub fn in_flight_of(&self, id: ConsumerId) -> usize {
        self.consumer_of(id).map_or(0, |consumer| consumer.counts().in_flight)
    }

    pub fn is_ordered(&self, id: ConsumerId) -> bool {
        self.consumer_of(id).is_some_and(|consumer| consumer.settings().ordered)
    }
}
