//! The streams that a transaction has published to, each with the lowest seq that it can take there.
//!
//! A few have room in the session's entry; for more, chunks are taken from a pool that all sessions share, and released
//! when the transaction is over. Who publishes to a stream has its table locked, and the pool has room for as many bounds
//! as the server has room for locks: so it is never the pool that runs out first.

use super::lwlock::Lock;
use super::shmem::segment;
use sequin_engine::key::Seq;
use sequin_engine::settings::Micros;
use std::cell::UnsafeCell;

/// A transaction's id, as shared memory has it.
pub type Xid = u32;

/// Streams that have room in the entry itself: mostly it is one.
const IN_SLOT: usize = 8;

/// Streams that have room in a chunk: half a kilobyte.
const IN_CHUNK: usize = 31;

/// A stream's table, and the bound on it.
type Bound = (u32, Seq);

/// What the open transaction has published to.
#[repr(C)]
pub(in crate::pg) struct Publishing {
    /// Counts the entry's transactions, so that two of them are told apart.
    pub transaction: u64,
    pub xid: Xid,
    pub since: Micros,
    streams: usize,
    bounds: [Bound; IN_SLOT],
    /// The chunk taken last, which leads to those before it.
    newest: Link,
}

/// A chunk's number, from 1 on; 0 leads nowhere.
type Link = u32;

/// Some of the bounds of one transaction, under its entry's lock; or free, under the pool's.
#[repr(C)]
pub(in crate::pg) struct Chunk(UnsafeCell<Content>);

#[repr(C)]
struct Content {
    next: Link,
    bounds: [Bound; IN_CHUNK],
}

// SAFETY: only reached by whoever holds the lock that the type says.
unsafe impl Sync for Chunk {}

/// Leads to the free chunks.
#[repr(C)]
pub(in crate::pg) struct Free(Link);

/// How many chunks hold as many bounds as there are locks.
pub(in crate::pg) fn chunks(locks: usize) -> usize {
    locks.div_ceil(IN_CHUNK) + 1
}

/// Makes all chunks of a new segment free.
pub(in crate::pg) fn initialise(free: &Lock<Free>, chunks: &'static [Chunk]) {
    let mut free = free.lock();
    for (n, chunk) in chunks.iter().enumerate() {
        // SAFETY: nobody else sees the segment yet.
        unsafe { (*chunk.0.get()).next = Link::try_from(n).unwrap_or(0) };
    }
    free.0 = Link::try_from(chunks.len()).unwrap_or(0);
}

/// The content of a chunk. The caller holds the lock of the transaction's entry, or of the pool if the chunk is free.
fn content(link: Link) -> Option<*mut Content> {
    let chunks = segment()?.chunks();
    Some(chunks.get(usize::try_from(link).ok()?.checked_sub(1)?)?.0.get())
}

/// A chunk that was free and is the caller's now. Given back by being put into an entry whose transaction ends.
pub(in crate::pg) struct Taken(Link);

/// Takes a free chunk; `None` when there is none.
pub(in crate::pg) fn take() -> Option<Taken> {
    let mut free = segment()?.free_chunks.lock();
    let link = free.0;
    let content = content(link)?;
    // SAFETY: a free chunk, under the pool's lock.
    unsafe {
        free.0 = (*content).next;
        (*content).next = 0;
    }
    Some(Taken(link))
}

/// The chunks of a transaction that is over. They must be released, when no entry's lock is held.
#[must_use]
pub(in crate::pg) struct Chain(Link);

impl Chain {
    pub fn release(self) {
        let Some(segment) = segment() else { return };
        let mut link = self.0;
        while let Some(content) = content(link) {
            let mut free = segment.free_chunks.lock();
            // SAFETY: it is in no entry any more, and so the caller's alone; from here on it is under the pool's lock.
            unsafe {
                let next = (*content).next;
                (*content).next = free.0;
                free.0 = link;
                link = next;
            }
        }
    }
}

impl Publishing {
    /// True if the next stream needs a chunk.
    pub fn is_full(&self) -> bool {
        self.streams >= IN_SLOT && (self.streams - IN_SLOT).is_multiple_of(IN_CHUNK)
    }

    pub fn is_empty(&self) -> bool {
        self.streams == 0
    }

    /// Notes the lowest seq that the transaction can take in a stream. Under the entry's lock; `chunk` if it was full.
    pub fn add(&mut self, stream: u32, bound: Seq, chunk: Option<Taken>) {
        if let Some(Taken(link)) = chunk
            && let Some(content) = content(link)
        {
            // SAFETY: the caller's chunk, which is under the entry's lock from here on.
            unsafe { (*content).next = self.newest };
            self.newest = link;
        }
        let place = match self.streams.checked_sub(IN_SLOT) {
            None => self.bounds.get_mut(self.streams),
            Some(n) => content(self.newest).map(|content| {
                // SAFETY: a chunk of this entry, whose lock is held.
                unsafe { &mut (*content).bounds[n % IN_CHUNK] }
            }),
        };
        if let Some(place) = place {
            *place = (stream, bound);
            self.streams += 1;
        }
    }

    /// The bound on a stream, if the transaction has published to it. Under the entry's lock.
    pub fn bound_on(&self, stream: u32) -> Option<Seq> {
        let find = |bounds: &[Bound]| bounds.iter().find(|&&(s, _)| s == stream).map(|&(_, b)| b);
        let found = find(&self.bounds[..self.streams.min(IN_SLOT)]);
        if found.is_some() || self.streams <= IN_SLOT {
            return found;
        }
        let mut used = (self.streams - IN_SLOT - 1) % IN_CHUNK + 1;
        let mut link = self.newest;
        while let Some(content) = content(link) {
            // SAFETY: a chunk of this entry, whose lock is held.
            let content = unsafe { &*content };
            let found = find(&content.bounds[..used]);
            if found.is_some() {
                return found;
            }
            used = IN_CHUNK;
            link = content.next;
        }
        None
    }

    /// The transaction is over.
    pub fn end(&mut self) -> Chain {
        self.streams = 0;
        Chain(std::mem::take(&mut self.newest))
    }
}
