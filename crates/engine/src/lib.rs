//! The rules, pure: no PostgreSQL, no clock, no I/O. Time, rows and publishers come in as arguments.
//!
//! `key`, `filter`, `router`: what a key is, and who wants it. `tail`: which messages are visible, in which order. `lanes`,
//! `consumer`: who may have which message when. `stream` ties the two together. `pending`: what open transactions have asked
//! for. `event`, `consumer_state`: what survives a restart. `changes`: what of the configuration is to be read again. `dispatcher` has all of these, and decides what is read, written
//! and answered; `entry` is a session's side of it, in shared memory, and `wire` what the two say to each other.

#![forbid(unsafe_code)]

pub mod ack_rows;
pub mod changes;
pub mod consumer;
pub mod consumer_state;
pub mod dispatcher;
pub mod entry;
pub mod event;
pub mod fault;
pub mod filter;
pub mod id_map;
pub mod ids;
pub mod key;
pub mod lanes;
pub mod pending;
pub mod ranges;
pub mod router;
pub mod seq_list;
pub mod settings;
pub mod stream;
pub mod tail;
mod varint;
pub mod wire;

#[cfg(test)]
mod model;
