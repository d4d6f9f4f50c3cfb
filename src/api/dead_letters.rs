//! Dead letters.

use super::consumers::{mine, wanted_again};
use crate::store::dead_letters;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;

#[pg_extern]
fn redrive(
    consumer: Option<&str>,
    seqs: default!(Option<Vec<Option<i64>>>, "NULL"),
) -> Result<i32, ErrorReport> {
    let consumer = mine(consumer, "consumer")?;
    let seqs = seqs.map(|seqs| seqs.into_iter().flatten().collect());
    let dead = dead_letters::lock(&consumer.name, seqs)?;
    // Dead letters whose message is no longer in the stream stay.
    let back = wanted_again(&consumer, dead, false)?;
    let count = i32::try_from(back.len()).unwrap_or(i32::MAX);
    dead_letters::delete(&consumer.name, back)?;
    Ok(count)
}
