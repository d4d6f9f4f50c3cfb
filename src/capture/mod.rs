//! From WAL to messages, pure: no PostgreSQL, no I/O. Catalogs, rows looked up and casts come in as arguments.
//!
//! `pgoutput`: what the output plugin says. `types`, `json`, `array`, `composite`: a value's text as the JSON that
//! to_jsonb() makes of it. `key_format`, `message`: a change as a message. `window`: which rows of a backfill's
//! chunk still hold.

pub mod array;
pub mod composite;
pub mod json;
pub mod json_text;
pub mod key_format;
pub mod message;
pub mod pgoutput;
pub mod time;
pub mod types;
pub mod window;
