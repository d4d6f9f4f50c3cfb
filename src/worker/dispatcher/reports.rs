//! What the views ask: the state of consumers, and what has gone wrong with them.

use super::Dispatcher;
use super::loading::NotLoaded;
use crate::pg::shared::mailbox::{Answer, ConsumerStats, STATS_PER_ANSWER};
use sequin_engine::stream::ConsumerId;

impl Dispatcher {
    /// The state of consumers with an id above this one, as many as fit into an answer.
    pub(super) fn stats(&mut self, after: ConsumerId) -> Result<Answer, NotLoaded> {
        let ids: Vec<ConsumerId> = (self.world.consumers.range(after.saturating_add(1)..))
            .map(|(&id, _)| id)
            .take(STATS_PER_ANSWER)
            .collect();
        let mut all = Vec::new();
        for id in ids {
            match self.load(id) {
                Err(NotLoaded::EpochBehind) => return Err(NotLoaded::EpochBehind),
                Err(NotLoaded::Damaged(_)) => {
                    all.push(ConsumerStats {
                        consumer: id,
                        has_error: true,
                        is_damaged: true,
                        ..ConsumerStats::default()
                    });
                    continue;
                }
                Err(_) => continue,
                Ok(()) => {}
            }
            let state = self.world.consumers.get(&id);
            let waiting = state.map_or(0, |state| state.waiting.len());
            let is_damaged = self.fault_of(id).is_some();
            let has_error = state.is_some_and(|state| state.last_error.is_some());
            let Some(stream) = self.world.stream_of(id) else { continue };
            let (Some(consumer), Some(cursor)) = (stream.consumer(id), stream.cursor(id)) else {
                continue;
            };
            // Of a damaged stream it is of use to know what has been seen of it.
            let pos = if is_damaged { stream.tail().pos() } else { 0 };
            all.push(ConsumerStats {
                consumer: id,
                counts: consumer.counts(),
                floor: stream.floor(id).unwrap_or(0),
                cursor: cursor.max(pos),
                first_unfinished: consumer.first_unfinished().unwrap_or(0),
                waiting: i64::try_from(waiting).unwrap_or(0),
                has_error,
                is_damaged,
                is_loaded: true,
            });
        }
        Ok(Answer::Stats(all))
    }

    /// What has last gone wrong with a consumer.
    pub(super) fn last_error(&self, id: ConsumerId) -> Answer {
        let error = self.world.consumers.get(&id).and_then(|state| state.last_error.clone());
        error.map_or(Answer::NoConsumer, Answer::Text)
    }
}
