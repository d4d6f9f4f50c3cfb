//! The messages of a stream, `sequin_stream.NAME`: inserted as the caller, read by seq.

mod inserting;
mod once;
mod purging;
mod reading;
pub mod superseding;

pub use inserting::{Batch, delete_key, insert, insert_many, insert_texts, may_publish};
pub use purging::purge;
pub use reading::*;
