//! The sources of this database: enters them in shared memory for the launcher, and drops slots of sources that don't
//! exist.

use super::Worker;
use crate::error::Result;
use crate::pg::exec::catalog;
use crate::pg::process;
use crate::pg::shared::capturers;
use crate::pg::shared::database::Database;
use crate::store::slots::Slot;
use crate::store::sources::Source;
use crate::store::{slots, source_progress, sources};
use sequin_engine::settings::Micros;
use std::time::{Duration, Instant};

/// How long after a change slots are checked: several changes share a check.
const SWEEP_AFTER: Micros = 100_000;

/// After which time slots are checked again if one could not be dropped, and after an error.
const RETRY_SWEEP: Micros = 200_000;
const RETRY_FAILED: Micros = 20_000_000;

/// How long the capturers of a database without the extension may take to detach.
const DETACHING: Duration = Duration::from_secs(20);

impl Worker {
    /// Makes exactly the sources captured that are neither paused nor another server's.
    pub(super) fn apply_sources(&mut self, sources: &[Source]) {
        let runnable = sources.iter().filter(|source| source.is_here && !source.paused);
        let ids: Vec<i32> = runnable.map(|source| source.id).collect();
        let left = capturers::set_enabled(self.database.oid(), &ids);
        if !left.is_empty() {
            self.fail("cannot run all sources: too few entries: raise sequin.max_sources");
        }
        self.next_sweep = self.next_sweep.min(process::monotonic() + SWEEP_AFTER);
    }

    /// Drops the slots of sources that don't exist any more, when no process reads them.
    pub(super) fn sweep_slots(&mut self) {
        if process::monotonic() < self.next_sweep {
            return;
        }
        self.next_sweep = match process::transaction(|| sweep(self.database)) {
            Ok(true) => Micros::MAX,
            Ok(false) => process::monotonic() + RETRY_SWEEP,
            Err(error) => {
                self.fail(&format!("cannot drop the slots of dropped sources: {error}"));
                process::monotonic() + RETRY_FAILED
            }
        };
    }
}

/// Drops them; true if none is left. Takes a lock against writers of sequin.sources: a source that is just being
/// created has a slot already, but no row that others see.
fn sweep(database: &Database) -> Result<bool> {
    if !catalog::try_lock_against_writers(c"sources") {
        return Ok(false);
    }
    let oid = database.oid();
    let owned: Vec<String> = (sources::list()?.iter())
        .filter(|source| source.is_here)
        .map(|source| sources::slot_name(oid, source.id, source.generation))
        .collect();
    source_progress::sweep()?;
    let all = slots::list(oid)?.into_iter();
    delete(all.filter(|slot| !owned.contains(&slot.name)))
}

/// Drops slots; true if it could drop all, since no process reads them.
fn delete(mut slots: impl Iterator<Item = Slot>) -> Result<bool> {
    slots.try_fold(true, |all, slot| match slot.active {
        true => Ok(false),
        false => slots::delete(&slot.name).map(|()| all),
    })
}

/// Drops all slots of this database's sources, if there is no extension. The slots are listed before that is checked:
/// so those of an extension that is just being created are not among them.
fn delete_all(database: &Database) -> Result<bool> {
    let found = slots::list(database.oid())?;
    if found.is_empty() || catalog::extension().is_some() {
        return Ok(true);
    }
    delete(found.into_iter())
}

/// Called when there is no extension here any more: ends its capturers and drops its slots.
pub(super) fn clear_out(database: &Database) {
    let until = Instant::now() + DETACHING;
    capturers::set_enabled(database.oid(), &[]);
    while capturers::are_running(database.oid()) && Instant::now() < until {
        if process::must_end() {
            return;
        }
        process::wait(Some(Duration::from_millis(10)));
    }
    while let Ok(false) = process::transaction(|| delete_all(database)) {
        if process::must_end() || Instant::now() >= until {
            pgrx::warning!("sequin dispatcher: a slot of a dropped source is still in use");
            return;
        }
        process::wait(Some(Duration::from_millis(10)));
    }
}
