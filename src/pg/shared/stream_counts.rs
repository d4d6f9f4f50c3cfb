//! Counters of streams that no table has, since the server's start.

use super::shmem::segment;
use pgrx::pg_sys;
use std::sync::atomic::{AtomicU64, Ordering};

/// How many streams of the server can have a counter. Where there are more, some are not counted.
pub(in crate::pg) const COUNTERS: usize = 4096;

/// How many places a stream can have its counter in.
const PLACES: usize = 16;

/// The duplicates that were not published to one stream. Free while `stream` is 0.
#[repr(C)]
pub struct Counter {
    /// The OIDs of its database and its table.
    stream: AtomicU64,
    duplicates: AtomicU64,
}

fn id(stream: pg_sys::Oid) -> u64 {
    // SAFETY: a plain value of this process.
    let database = unsafe { pg_sys::MyDatabaseId };
    u64::from(database.to_u32()) << 32 | u64::from(stream.to_u32())
}

fn places(id: u64) -> impl Iterator<Item = &'static Counter> {
    let counters = segment().map_or(&[][..], |segment| segment.counters());
    // Multiplicative hashing (Knuth).
    let first = (id.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as usize;
    (0..PLACES.min(counters.len())).map(move |n| &counters[(first + n) % counters.len()])
}

/// Counts duplicates that were published to a stream of this database.
pub fn add(stream: pg_sys::Oid, duplicates: u64) {
    let id = id(stream);
    if duplicates == 0 {
        return;
    }
    for counter in places(id) {
        let of = counter.stream.load(Ordering::Relaxed);
        let is_own = of == id
            || of == 0
                && match counter.stream.compare_exchange(0, id, Ordering::SeqCst, Ordering::SeqCst)
                {
                    Ok(_) => true,
                    Err(other) => other == id,
                };
        if is_own {
            counter.duplicates.fetch_add(duplicates, Ordering::Relaxed);
            return;
        }
    }
}

/// The duplicates that were published to a stream of this database since the server's start.
pub fn duplicates(stream: pg_sys::Oid) -> u64 {
    let id = id(stream);
    let own = places(id).find(|counter| counter.stream.load(Ordering::Relaxed) == id);
    own.map_or(0, |counter| counter.duplicates.load(Ordering::Relaxed))
}
