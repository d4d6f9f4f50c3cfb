//! What shared memory has of a worker process: for `sequin.workers`, and to wake the worker.

use super::lwlock::Lock;
use pgrx::pg_sys;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicI64, AtomicPtr, Ordering};

/// The longest error message kept, in bytes.
const ERROR_BYTES: usize = 256;

/// One worker: its process, since when it runs, and its last error.
#[repr(C)]
pub struct Status {
    pid: AtomicI32,
    latch: AtomicPtr<pg_sys::Latch>,
    since: AtomicI64,
    exited_cleanly: AtomicBool,
    error: Lock<Text>,
}

#[repr(C)]
pub(in crate::pg) struct Text {
    len: usize,
    bytes: [u8; ERROR_BYTES],
}

impl Status {
    pub(in crate::pg) fn initialise(&self, tranche: i32) {
        self.error.initialise(tranche);
    }

    /// Makes this process the worker. False if there is one already: the launcher starts a second one if the first is
    /// slow to begin.
    pub fn attach(&self) -> bool {
        // SAFETY: a plain integer of this process.
        let pid = unsafe { pg_sys::MyProcPid };
        if self.pid.compare_exchange(0, pid, Ordering::AcqRel, Ordering::Acquire).is_err() {
            return false;
        }
        // SAFETY: MyLatch is this process's own latch, which lies in shared memory and is never freed.
        self.latch.store(unsafe { pg_sys::MyLatch }, Ordering::Relaxed);
        self.since.store(crate::pg::now(), Ordering::Relaxed);
        true
    }

    /// Notes that the worker's end is no failure: it was asked to end, or has nothing to do.
    pub fn exited_cleanly(&self) {
        self.exited_cleanly.store(true, Ordering::Release);
    }

    /// Notes that it is a failure after all.
    pub fn failed(&self) {
        self.exited_cleanly.store(false, Ordering::Release);
    }

    /// Whether the last run ended cleanly. Resets it.
    pub fn take_exited_cleanly(&self) -> bool {
        self.exited_cleanly.swap(false, Ordering::AcqRel)
    }

    /// Notes that the worker's process ends. The last error stays readable.
    pub fn detach(&self) {
        self.latch.store(std::ptr::null_mut(), Ordering::Relaxed);
        self.since.store(crate::pg::now(), Ordering::Relaxed);
        self.pid.store(0, Ordering::Release);
    }

    /// The worker's process; 0 when none runs.
    pub fn pid(&self) -> i32 {
        self.pid.load(Ordering::Acquire)
    }

    /// When it started, or ended; `None` if it never ran.
    pub fn since(&self) -> Option<i64> {
        Some(self.since.load(Ordering::Relaxed)).filter(|&since| since != 0)
    }

    /// Wakes the worker, if it runs.
    pub fn wake(&self) {
        let latch = self.latch.load(Ordering::Acquire);
        if !latch.is_null() {
            // SAFETY: latches of processes stay allocated; one that has changed hands is woken for nothing.
            unsafe { pg_sys::SetLatch(latch) };
        }
    }

    /// Keeps an error message; an empty one clears it.
    pub fn set_error(&self, message: &str) {
        let mut end = message.len().min(ERROR_BYTES);
        while !message.is_char_boundary(end) {
            end -= 1;
        }
        let mut text = self.error.lock();
        text.bytes[..end].copy_from_slice(&message.as_bytes()[..end]);
        text.len = end;
    }

    /// The last error message.
    pub fn error(&self) -> Option<String> {
        let text = self.error.lock();
        let bytes = &text.bytes[..text.len.min(ERROR_BYTES)];
        (!bytes.is_empty()).then(|| String::from_utf8_lossy(bytes).into_owned())
    }
}
