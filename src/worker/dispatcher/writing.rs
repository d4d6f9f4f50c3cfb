//! Writes that the rules have asked for: the journal, with its dead letters, and checkpoints.

use super::{LOCK_TIMEOUT, Worker};
use crate::error::Result;
use crate::pg::process::{self, TxError};
use crate::store::messages::{self, Table};
use crate::store::{acks, checkpoints, dead_letters, outbox};
use sequin_engine::dispatcher::{Checkpoint, Dispatcher, Failure, MAX_DELIVER_REACHED};
use sequin_engine::event::Item;
use sequin_engine::ids::{AckRowId, ConsumerId};

/// What a checkpoint replaces: the last one (0 if there is none) with the rows of sequin.outbox since, and rows of
/// sequin.acks, as ranges of ids.
pub(super) struct Folded<'a> {
    pub replaces: i64,
    pub acks: &'a [(AckRowId, AckRowId)],
}

impl Worker {
    /// Writes the unwritten events of these consumers, all or none; false if that would have to wait for a lock.
    pub(super) fn write_journal(&self, consumers: &[ConsumerId]) -> Result<bool, Failure> {
        let rules = &self.rules;
        let has_dead = consumers.iter().any(|&id| rules.dead_letters(id).next().is_some());
        Ok(transaction(has_dead, || {
            for &id in consumers {
                let Some(config) = rules.config(id) else { continue };
                let dead: Vec<Item> = rules.dead_letters(id).collect();
                if !dead_letter(rules, id, &dead)? {
                    return Ok(false);
                }
                outbox::insert(id, config.generation, rules.unwritten(id))?;
            }
            Ok(true)
        })?)
    }

    /// Writes a consumer's state in place of its rows in the journals; false if that would have to wait for a lock.
    /// Each consumer has a transaction of its own, so that a failure of one delays no other.
    pub(super) fn write_checkpoint(
        &self,
        id: ConsumerId,
        new: &Checkpoint,
        dead: &[Item],
        folded: Folded,
    ) -> Result<bool, Failure> {
        let Folded { replaces, acks } = folded;
        Ok(transaction(!dead.is_empty(), || {
            if !dead_letter(&self.rules, id, dead)? {
                return Ok(false);
            }
            checkpoints::insert(id, new)?;
            if replaces != 0 {
                checkpoints::delete(id, replaces)?;
            }
            outbox::delete(id, replaces, new.id)?;
            acks::delete(id, acks)?;
            Ok(true)
        })?)
    }

    /// Deletes what the tables have of consumers that were dropped.
    pub(super) fn forget(&self, consumers: Vec<ConsumerId>) {
        let forget = || consumers.into_iter().try_for_each(checkpoints::forget);
        if let Err(error) = process::transaction(forget) {
            self.fail(&format!("cannot clean up after dropped consumers: {error}"));
        }
    }
}

/// Runs a transaction of the journal. Users can lock rows of dead letters. So if dead letters are written, the
/// transaction waits for no lock, and this returns false if it would have to. `dead_letter` checks for locked rows
/// before; but rows that other transactions are inserting can't be seen before they conflict.
fn transaction(has_dead: bool, write: impl FnOnce() -> Result<bool>) -> Result<bool, TxError> {
    if !has_dead {
        return process::try_transaction(write);
    }
    process::set("lock_timeout", "1ms");
    let written = process::try_transaction(write);
    process::set("lock_timeout", LOCK_TIMEOUT);
    match written {
        Err(failure) if failure.is_lock => Ok(false),
        written => written,
    }
}

/// Copies messages to the dead letters, as far as they are still in the stream. False if the stream's table, or a row
/// that this needs, is locked: the dispatcher doesn't wait for it.
fn dead_letter(rules: &Dispatcher, id: ConsumerId, dead: &[Item]) -> Result<bool> {
    let Some(config) = rules.config(id).filter(|_| !dead.is_empty()) else { return Ok(true) };
    match messages::try_lock(&config.stream) {
        Table::Busy => Ok(false),
        Table::Missing => Ok(true),
        Table::Locked(_) => {
            if !dead_letters::try_lock(&config.name, dead)? {
                return Ok(false);
            }
            dead_letters::insert(&config.name, &config.stream, dead, Some(MAX_DELIVER_REACHED))
                .map(|()| true)
        }
    }
}
