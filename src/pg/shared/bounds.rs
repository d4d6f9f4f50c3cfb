//! The streams that a transaction has published to, each with the lowest seq that it can take there.
//!
//! The session's entry has room for a few. For more, the session takes chunks from a pool that all sessions share, and
//! releases them when the transaction is over. A transaction that publishes to a stream holds a lock on its table, and
//! the pool has room for as many bounds as the server has room for locks: so the server runs out of locks first.

use super::lwlock::Lock;
use super::shmem::segment;
use sequin_engine::key::Seq;
use sequin_engine::settings::Micros;
use std::cell::UnsafeCell;

/// A transaction's id, as shared memory has it.
pub type Xid = u32;

/// How many bounds fit into the entry itself. Most transactions publish to one stream.
const IN_SLOT: usize = 8;

/// How many bounds fit into a chunk of half a kilobyte.
const IN_CHUNK: usize = 31;

/// A stream's table, and the bound on it.
type Bound = (u32, Seq);

/// What the open transaction has published to.
#[repr(C)]
pub(in crate::pg) struct Publishing {
    /// Counts the entry's transactions, so that a reader can tell one from the next.
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

/// Some of the bounds of one transaction, guarded by its entry's lock; or a free chunk, guarded by the pool's lock.
#[repr(C)]
pub(in crate::pg) struct Chunk(UnsafeCell<Content>);

#[repr(C)]
struct Content {
    next: Link,
    bounds: [Bound; IN_CHUNK],
}

// SAFETY: only reached under the lock that the comment on the type names.
unsafe impl Sync for Chunk {}

/// The first of the linked list of free chunks.
#[repr(C)]
pub(in crate::pg) struct Free(Link);

/// How many chunks are needed for as many bounds as there are locks.
pub(in crate::pg) fn chunks(locks: usize) -> usize {
    locks.div_ceil(IN_CHUNK) + 1
}

/// Makes all chunks of a new segment free.
pub(in crate::pg) fn initialise(free: &Lock<Free>, chunks: &'static [Chunk]) {
    let mut free = free.lock();
    for (n, chunk) in chunks.iter().enumerate() {
        // SAFETY: no other process sees the segment yet.
        unsafe { (*chunk.0.get()).next = Link::try_from(n).unwrap_or(0) };
    }
    free.0 = Link::try_from(chunks.len()).unwrap_or(0);
}

/// The content of a chunk. The caller holds the lock of the transaction's entry, or of the pool if the chunk is free.
fn content(link: Link) -> Option<*mut Content> {
    let chunks = segment()?.chunks();
    Some(chunks.get(usize::try_from(link).ok()?.checked_sub(1)?)?.0.get())
}

/// A chunk that was free and is the caller's now. [`Publishing::add`] puts it into an entry, and the end of that
/// entry's transaction releases it.
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

/// The chunks of a transaction that is over. They must be released after the entry's lock: no two locks are held at a
/// time.
#[must_use]
pub(in crate::pg) struct Chain(Link);

impl Chain {
    pub fn release(self) {
        let Some(segment) = segment() else { return };
        let mut link = self.0;
        while let Some(content) = content(link) {
            let mut free = segment.free_chunks.lock();
            // SAFETY: no entry has it any more, so only the caller can reach it; from here on the pool's lock guards
            // it.
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
