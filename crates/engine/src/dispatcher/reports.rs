//! What the views ask: the state of consumers, and what has gone wrong with them.

use super::exchange::{Answer, Asked, ConsumerStats};
use super::interface::Shared;
use super::world::ConsumerEntry;
use super::{Dispatcher, Step};
use crate::ids::ConsumerId;
use crate::wire::STATS_PER_ANSWER;
use std::ops::Bound;

impl Dispatcher {
    /// Answers with the state of consumers with an id above this one, as many as fit. No consumer is loaded for this:
    /// of those that are not, the tables have all there is to know.
    pub(super) fn report<S: Shared>(&self, asked: &Asked, after: ConsumerId, s: &mut Step<S>) {
        let above = self.world.consumers.range((Bound::Excluded(after), Bound::Unbounded));
        let stats = above.take(STATS_PER_ANSWER).map(|(&id, entry)| self.stats_of(id, entry));
        let answer = Answer::Stats(stats.collect());
        s.shared.answer(asked.session, asked.request_id, &answer, false);
    }

    fn stats_of(&self, id: ConsumerId, entry: &ConsumerEntry) -> ConsumerStats {
        let is_damaged = self.fault_of(id).is_some();
        let stats = ConsumerStats {
            consumer: id,
            waiting: i64::try_from(entry.waiting.len()).unwrap_or(0),
            has_error: entry.last_error.is_some(),
            is_damaged,
            ..ConsumerStats::default()
        };
        let stream = self.world.stream_of(id);
        let Some((stream, consumer)) = stream.and_then(|of| Some((of, of.consumer(id)?))) else {
            return stats;
        };
        // For a damaged stream, what has been seen of it.
        let pos = if is_damaged { stream.tail().pos() } else { 0 };
        ConsumerStats {
            counts: consumer.counts(),
            floor: stream.floor(id).unwrap_or(0),
            cursor: stream.cursor(id).unwrap_or(0).max(pos),
            first_unfinished: consumer.first_unfinished().unwrap_or(0),
            is_loaded: true,
            ..stats
        }
    }

    /// What has last gone wrong with a consumer.
    pub(super) fn last_error(&self, id: ConsumerId) -> Answer {
        let error = self.world.consumers.get(&id).and_then(|entry| entry.last_error.clone());
        error.map_or(Answer::NoConsumer, Answer::Text)
    }
}
