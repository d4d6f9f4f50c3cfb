//! Making a logical replication slot, in the caller's transaction.

use crate::error::{Error, Result};
use pgrx::pg_sys;
use std::ffi::c_char;
use std::panic::AssertUnwindSafe;

/// Makes a slot for the output plugin pgoutput: from PostgreSQL 17 on a failover slot, of which standbys can keep a
/// copy. Waits for the end of transactions that have written.
///
/// Not through SPI: while it looks for a consistent point, PostgreSQL may begin and end a subtransaction
/// (ReorderBufferImmediateInvalidation), and leaves the transaction's own resource owner and memory context as the
/// current ones. The executor would then release its snapshot from the wrong resource owner, an ERROR.
pub fn create(slot: &str) -> Result<()> {
    // Callers may call this in a loop for long.
    pgrx::check_for_interrupts!();
    let (slot, plugin) = (name(slot)?, name("pgoutput")?);
    let no = pg_sys::Datum::from(false);
    let (slot, plugin) =
        (pg_sys::Datum::from(&raw const slot), pg_sys::Datum::from(&raw const plugin));
    let create = AssertUnwindSafe(move || {
        let function = pg_sys::Oid::from(pg_sys::F_PG_CREATE_LOGICAL_REPLICATION_SLOT);
        // SAFETY: the arguments of this function: slot_name and plugin as `name`, temporary, two_phase, and since
        // 17 failover. The names outlive the call.
        unsafe {
            #[cfg(any(feature = "pg14", feature = "pg15", feature = "pg16"))]
            pg_sys::OidFunctionCall4Coll(function, pg_sys::InvalidOid, slot, plugin, no, no);
            #[cfg(any(feature = "pg17", feature = "pg18"))]
            pg_sys::OidFunctionCall5Coll(
                function,
                pg_sys::InvalidOid,
                slot,
                plugin,
                no,
                no,
                pg_sys::Datum::from(true),
            );
        }
    });
    // SAFETY: plain values of this process, restored below.
    let (context, owner) = unsafe { (pg_sys::CurrentMemoryContext, pg_sys::CurrentResourceOwner) };
    pgrx::PgTryBuilder::new(create)
        .catch_others(|error| {
            release();
            error.rethrow()
        })
        .execute();
    // SAFETY: both are still there: they are those of the statement that is running.
    unsafe {
        pg_sys::CurrentMemoryContext = context;
        pg_sys::CurrentResourceOwner = owner;
    }
    Ok(())
}

/// Whether the standbys of synchronized_standby_slots have WAL up to here on disk. True before PostgreSQL 17, where no
/// standby has a copy of a slot, and for a slot of which there are no copies.
pub fn standbys_have(position: u64) -> bool {
    #[cfg(any(feature = "pg14", feature = "pg15", feature = "pg16"))]
    let have = {
        let _ = position;
        true
    };
    // SAFETY: this process's own slot, if it has one. At DEBUG2, complaints about missing standbys don't reach the log.
    #[cfg(any(feature = "pg17", feature = "pg18"))]
    let have = unsafe {
        let slot = pg_sys::MyReplicationSlot;
        slot.is_null()
            || !(*slot).data.failover
            || pg_sys::StandbySlotsHaveCaughtup(position, pg_sys::DEBUG2 as std::ffi::c_int)
    };
    have
}

/// Releases a slot that is half made, which drops it. PostgreSQL does so only when the whole transaction ends, and not
/// if a procedural language catches the ERROR.
fn release() {
    // SAFETY: this process's own slot. Errors after its acquisition are raised with no lightweight lock held.
    unsafe {
        if !pg_sys::MyReplicationSlot.is_null() {
            pg_sys::ReplicationSlotRelease();
        }
    }
}

fn name(text: &str) -> Result<pg_sys::NameData> {
    let mut name = pg_sys::NameData { data: [0; pg_sys::NAMEDATALEN as usize] };
    // One less, for the zero at the end.
    if text.len() >= name.data.len() {
        return Err(Error::Internal(format!("too long for a name: {text}")));
    }
    for (to, from) in name.data.iter_mut().zip(text.bytes()) {
        *to = from as c_char;
    }
    Ok(name)
}
