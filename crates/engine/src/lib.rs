//! The rules, pure: no PostgreSQL, no clock, no I/O. Time, rows and publishers come in as arguments.
//!
//! [`dispatcher`] decides what is read, written and answered: inputs come in, and effects go out. [`entry`] is a
//! session's entry in shared memory, through which the session and the dispatcher communicate, and [`wire`] the
//! encoding of what they exchange. [`key`] and [`filter`] say what a key is, and which messages a consumer wants. The
//! other public modules define the data in these.
//!
//! Inside, `router` finds the consumers that a key is for; `tail` says which messages are visible, in which order;
//! `lanes` and `consumer` decide which messages may be delivered when, and `stream` ties all of these together.
//! `pending` has what open transactions have asked for. `event` and `consumer_state` are what survives a restart.

#![forbid(unsafe_code)]

mod ack_rows;
pub mod changes;
mod consumer;
pub mod consumer_state;
pub mod dedup;
pub mod dispatcher;
pub mod entry;
pub mod event;
pub mod fault;
pub mod filter;
mod id_map;
pub mod ids;
pub mod key;
mod lanes;
mod pending;
pub mod ranges;
pub mod retention;
mod router;
mod seq_list;
pub mod settings;
mod stream;
mod tail;
mod varint;
pub mod wire;

/// For the fuzz targets, and for nothing else outside this crate.
#[doc(hidden)]
pub mod fuzzing {
    pub use crate::consumer::StepContext;
    pub use crate::router::{RouteScratch, Router};
    pub use crate::stream::Stream;
}

#[cfg(test)]
mod model;
