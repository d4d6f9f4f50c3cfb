//! What the views ask: the state of consumers, and what has gone wrong with them.

use super::interface::{Answer, Asked, ConsumerStats, Shared};
use super::loading::Loaded;
use super::{Dispatcher, Step};
use crate::stream::ConsumerId;
use crate::wire::STATS_PER_ANSWER;
use std::collections::BTreeSet;

/// A request for the state of consumers some of which are being loaded.
#[derive(Debug)]
pub(super) struct PendingStats {
    pub asked: Asked,
    of: Vec<ConsumerId>,
    loading: BTreeSet<ConsumerId>,
}

impl Dispatcher {
    /// Tells the state of consumers with an id above this one, as many as fit into an answer, once they are loaded.
    pub(super) fn report<S: Shared>(&mut self, asked: Asked, after: ConsumerId, s: &mut Step<S>) {
        let above = self.world.consumers.range(after.saturating_add(1)..);
        let of: Vec<ConsumerId> = above.map(|(&id, _)| id).take(STATS_PER_ANSWER).collect();
        let is_loading = |id: &ConsumerId| matches!(self.load(*id, s), Loaded::Soon);
        let loading = of.iter().copied().filter(is_loading).collect();
        self.stats.push(PendingStats { asked, of, loading });
        self.answer_stats(s);
    }

    /// A consumer was loaded, or couldn't be.
    pub(super) fn report_loaded<S: Shared>(&mut self, id: ConsumerId, s: &mut Step<S>) {
        for pending in &mut self.stats {
            pending.loading.remove(&id);
        }
        self.answer_stats(s);
    }

    fn answer_stats<S: Shared>(&mut self, s: &mut Step<S>) {
        for PendingStats { asked, of, .. } in
            self.stats.extract_if(.., |pending| pending.loading.is_empty()).collect::<Vec<_>>()
        {
            let stats = of.into_iter().filter_map(|id| self.stats_of(id)).collect();
            s.shared.answer(asked.session, asked.request_id, &Answer::Stats(stats), false);
        }
    }

    /// Leaves those who have asked to the next dispatcher.
    pub(super) fn leave_stats<S: Shared>(&mut self, s: &mut Step<S>) {
        for PendingStats { asked, .. } in std::mem::take(&mut self.stats) {
            s.shared.ask_again(asked.session, asked.request_id);
        }
    }

    fn stats_of(&self, id: ConsumerId) -> Option<ConsumerStats> {
        let entry = self.world.consumers.get(&id)?;
        let is_damaged = self.fault_of(id).is_some();
        if !entry.loaded {
            let damaged = ConsumerStats { has_error: true, is_damaged, ..ConsumerStats::default() };
            return is_damaged.then_some(ConsumerStats { consumer: id, ..damaged });
        }
        let stream = self.world.stream_of(id)?;
        let (consumer, cursor) = (stream.consumer(id)?, stream.cursor(id)?);
        // Of a damaged stream it is of use to know what has been seen of it.
        let pos = if is_damaged { stream.tail().pos() } else { 0 };
        Some(ConsumerStats {
            consumer: id,
            counts: consumer.counts(),
            floor: stream.floor(id).unwrap_or(0),
            cursor: cursor.max(pos),
            first_unfinished: consumer.first_unfinished().unwrap_or(0),
            waiting: i64::try_from(entry.waiting.len()).unwrap_or(0),
            has_error: entry.last_error.is_some(),
            is_damaged,
            is_loaded: true,
        })
    }

    /// What has last gone wrong with a consumer.
    pub(super) fn last_error(&self, id: ConsumerId) -> Answer {
        let error = self.world.consumers.get(&id).and_then(|entry| entry.last_error.clone());
        error.map_or(Answer::NoConsumer, Answer::Text)
    }
}
