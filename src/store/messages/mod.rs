//! The messages of a stream, `sequin_stream.NAME`: inserted as the caller, read by seq.

mod inserting;
mod reading;

pub use inserting::{insert, insert_many, insert_texts};
pub use reading::*;
