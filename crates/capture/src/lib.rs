//! From WAL to messages, pure: no PostgreSQL, no I/O. Catalogs, rows looked up and casts come in as arguments.
//!
//! `pgoutput`: what the output plugin says; `decoded`: what the decoder adds to it. `types`, `json`, `array`, `composite`, `json_text`: a value's text as the
//! JSON that to_jsonb() makes of it. `key_format`, `key`, `row_key`: keys. `message`, `record`, `time`: a change as a
//! message. `window`: which rows of a backfill's chunk still hold.

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
