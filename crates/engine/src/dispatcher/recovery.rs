//! What the tables say of a consumer, put together: its checkpoint, and the journal replayed over it.

use super::exchange::ConsumerStats;
use super::interface::Clock;
use super::stored::{ConsumerConfig, Journal};
use super::world::LastCheckpoint;
use crate::consumer::{Consumer, StepContext};
use crate::consumer_state::ConsumerState;
use crate::event::Change;
use crate::ids::{AckRowId, Ids};
use crate::key::Seq;
use crate::ranges::{RangeSet, RangesError};
use crate::settings::Micros;
use std::collections::BTreeMap;

/// A consumer's state, as it was when its last dispatcher ended.
#[derive(Debug)]
pub(super) struct Recovered {
    pub state: ConsumerState,
    pub checkpoint: LastCheckpoint,
    /// Rows of sequin.acks that the state contains now, and those of earlier generations, which count no more.
    pub applied: Vec<AckRowId>,
    /// The highest id seen.
    pub highest: i64,
    /// The highest seq that it shows to have been used. Where the consumer starts shows nothing: that may lie beyond the
    /// last.
    pub max_delivered: Seq,
}

impl ConsumerConfig {
    /// Where it starts.
    pub(super) fn start(&self) -> Result<ConsumerState, RangesError> {
        Ok(ConsumerState::start(self.start_after, RangeSet::from_pairs(&self.start_done)?))
    }
}

/// Replays what has been journalled since the checkpoint. An error: the tables have what no dispatcher writes.
pub(super) fn recover(
    config: &ConsumerConfig,
    journal: Journal,
    clock: Clock,
) -> Result<Recovered, String> {
    let id = config.id;
    let start = config.start().map_err(|error| error.to_string())?;
    let mut checkpoint = LastCheckpoint { at: Some(clock.mono), ..LastCheckpoint::default() };
    let mut state = start;
    if let Some(newest) = journal.checkpoint {
        checkpoint.id = newest.id;
        state = match newest.generation == config.generation {
            true => newest.state,
            false => state.with_totals(&newest.state),
        };
    }
    checkpoint.events = journal.events.len();
    let mut changes: BTreeMap<i64, Change> =
        journal.events.into_iter().map(|event| (event.id, event.change)).collect();
    let applied = journal.acks.iter().map(|ack| ack.id).collect();
    for ack in journal.acks.into_iter().filter(|ack| ack.generation == config.generation) {
        if let Change::Finished { seqs } = &ack.change {
            let count = i64::try_from(seqs.len()).unwrap_or(0);
            match ack.rejected {
                true => state.dead_total += count,
                false => state.acked_total += count,
            }
        }
        changes.insert(ack.id.0, ack.change);
    }
    if !state.is_possible() || !changes.values().all(Change::is_possible) {
        return Err(format!("the journal of consumer {id} has numbers that nobody counts up to"));
    }
    let last = changes.keys().next_back().copied().unwrap_or(0);
    let in_flight = state.highest_ack_id();
    changes.into_values().for_each(|change| state.replay(change));
    let highest = last.max(checkpoint.id).max(in_flight.max(state.highest_ack_id()).0);
    checkpoint.size = state.size();
    let max_delivered = max_delivered(&state, config);
    let state = state.shifted(clock.wall_offset().saturating_neg());
    Ok(Recovered { state, checkpoint, applied, highest, max_delivered })
}

/// A consumer that its dispatcher has not loaded, as the tables have it; and the highest seq that it shows to have been
/// used. By the wall clock.
pub fn unloaded_stats(
    config: &ConsumerConfig,
    journal: Journal,
    now: Micros,
) -> Result<(ConsumerStats, Seq), String> {
    let Recovered { state, max_delivered, .. } =
        recover(config, journal, Clock { mono: now, wall: now })?;
    let floor = state.floor;
    let mut consumer = Consumer::restore(config.settings.clone(), state);
    // Leases that have run out, which nobody has noticed. The ids are for nobody to see.
    if let Some(mut ids) = Ids::new(1) {
        consumer.tick(&mut StepContext { now, wall_offset: 0, ids: &mut ids });
    }
    let stats = ConsumerStats {
        consumer: config.id,
        counts: consumer.counts(),
        floor,
        cursor: floor,
        first_unfinished: consumer.first_unfinished().unwrap_or(0),
        is_loaded: true,
        ..ConsumerStats::default()
    };
    Ok((stats, max_delivered))
}

fn max_delivered(state: &ConsumerState, config: &ConsumerConfig) -> Seq {
    let floor = Some(state.floor).filter(|&floor| floor > config.start_after);
    let active = state.active.keys().next_back().copied();
    floor.into_iter().chain(state.done.last()).chain(active).fold(config.start_last, Seq::max)
}
