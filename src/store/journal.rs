//! The journal of a consumer in the tables: its newest checkpoint, and the rows that were written since.

use super::{acks, checkpoints, outbox};
use crate::error::Result;
use crate::pg::exec::catalog;
use sequin_engine::dispatcher::Journal;
use sequin_engine::ids::{ConsumerId, Generation};

/// Locks the tables for reading. False if another session has locked one of them exclusively.
pub fn try_lock() -> bool {
    let mut tables = [c"checkpoints", c"outbox", c"acks"].into_iter();
    tables.all(|table| catalog::own_table(table).is_some_and(catalog::try_lock_for_reading))
}

/// Reads the journal, with the events of this generation.
pub fn read(consumer: ConsumerId, generation: Generation) -> Result<Journal> {
    let checkpoint = checkpoints::newest(consumer)?;
    let after = checkpoint.as_ref().map_or(0, |checkpoint| checkpoint.id);
    let open = checkpoint.as_ref().map_or(&[][..], |checkpoint| &checkpoint.open_acks);
    let events = outbox::of_consumer(consumer, after, generation)?;
    let acks = acks::of_consumer(consumer, after, open)?;
    Ok(Journal { checkpoint, events, acks })
}
