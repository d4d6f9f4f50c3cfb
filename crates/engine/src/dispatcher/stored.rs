//! What the tables have: streams and consumers as they are configured, and the journals.

use crate::consumer_state::ConsumerState;
use crate::event::{Change, Event};
use crate::ids::{AckRowId, ConsumerId, Generation, StreamId};
use crate::key::Seq;
use crate::settings::Settings;

/// A stream that has a table, as it is configured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamConfig {
    pub name: String,
    pub id: StreamId,
    /// How often it has been repaired: then its sequence may have been altered.
    pub repairs: i32,
}

/// A consumer, as it is configured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConsumerConfig {
    pub id: ConsumerId,
    pub name: String,
    pub stream: String,
    pub generation: Generation,
    pub filters: Vec<String>,
    pub settings: Settings,
    pub start_after: Seq,
    /// Pairs of first and last seq that count as finished from the start.
    pub start_done: Vec<Seq>,
    pub start_last: Seq,
}

/// Streams and consumers that are committed: all, or those of certain ids.
#[derive(Debug, Clone, Default)]
pub struct Config {
    pub streams: Vec<StreamConfig>,
    pub consumers: Vec<ConsumerConfig>,
}

/// A row of sequin.acks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AckRow {
    pub id: AckRowId,
    pub generation: Generation,
    /// Finished without success.
    pub rejected: bool,
    pub change: Change,
}

/// A consumer's state, as it is written, or was.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Checkpoint {
    pub id: i64,
    pub generation: Generation,
    pub state: ConsumerState,
    /// Rows of sequin.acks with a lower id whose transactions were open.
    pub open_acks: Vec<AckRowId>,
}

/// What the tables have of a consumer: its newest checkpoint, and what has been written since.
#[derive(Debug, Clone, Default)]
pub struct Journal {
    pub checkpoint: Option<Checkpoint>,
    /// Of the consumer's generation.
    pub events: Vec<Event>,
    pub acks: Vec<AckRow>,
}
