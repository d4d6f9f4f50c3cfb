//! From WAL to messages, pure: no PostgreSQL, no I/O. The contents of catalogs, looked-up rows and casts come in as
//! arguments.
//!
//! `pgoutput`: the messages of the output plugin; `decoded`: what the decoder adds to them. `types`, `json`, `array`,
//! `composite`, `json_text`: a value's text as the JSON that to_jsonb() makes of it. `key_format`, `key`, `row_key`:
//! keys. `message`, `record`, `time`: a change as a message. `window`: which rows of a backfill's chunk are still as
//! they were read.

#![forbid(unsafe_code)]

mod array;
mod composite;
pub mod decoded;
pub mod json;
mod json_text;
mod key;
pub mod key_format;
pub mod message;
pub mod pgoutput;
mod record;
mod row_key;
pub mod time;
pub mod types;
pub mod window;
