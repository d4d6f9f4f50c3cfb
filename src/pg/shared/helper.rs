//! Workers of a database that run only while there is work for them.

use super::shmem::segment;
use super::status::Status;
use std::sync::atomic::{AtomicBool, Ordering};

/// One of them.
#[repr(C)]
pub struct Helper {
    /// The launcher should keep it running.
    wanted: AtomicBool,
    pub status: Status,
}

impl Helper {
    pub(in crate::pg) fn initialise(&self, tranche: i32) {
        self.status.initialise(tranche);
    }

    /// The entry is another database's now. Whether there is work in that is for its dispatcher to find out.
    pub(in crate::pg) fn reset(&self) {
        self.wanted.store(false, Ordering::Relaxed);
        self.status.set_error("");
    }

    /// Whether the launcher should run it.
    pub fn is_wanted(&self) -> bool {
        self.wanted.load(Ordering::SeqCst)
    }

    /// There is work.
    pub fn want(&self) {
        if !self.wanted.swap(true, Ordering::SeqCst)
            && let Some(segment) = segment()
        {
            segment.launcher.wake();
        }
    }

    /// There is none. Whoever makes some from here on asks for the helper again.
    pub fn dismiss(&self) {
        self.wanted.store(false, Ordering::SeqCst);
    }
}
