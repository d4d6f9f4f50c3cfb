//! Memory that PostgreSQL's functions allocate on our behalf.

use pgrx::pg_sys;
use std::ffi::CStr;

/// Runs `f` in a memory context of its own and frees that afterwards: so a long transaction that calls this again and
/// again takes no more memory than one call. What `f` returns must be in Rust's memory.
pub fn scoped<R>(f: impl FnOnce() -> R) -> R {
    // SAFETY: a child of the current context, which the end of the transaction deletes if an ERROR keeps this
    // function from doing so.
    unsafe {
        let outer = pg_sys::CurrentMemoryContext;
        let inner = new_context(outer, c"sequin scope");
        pg_sys::CurrentMemoryContext = inner;
        let result = f();
        pg_sys::CurrentMemoryContext = outer;
        pg_sys::MemoryContextDelete(inner);
        result
    }
}

/// A new memory context, which is deleted with `parent`.
pub(in crate::pg) unsafe fn new_context(
    parent: pg_sys::MemoryContext,
    name: &'static CStr,
) -> pg_sys::MemoryContext {
    // SAFETY: the name is static; the caller's parent outlives the use of the new context.
    unsafe {
        pg_sys::AllocSetContextCreateInternal(
            parent,
            name.as_ptr(),
            pg_sys::ALLOCSET_DEFAULT_MINSIZE as usize,
            pg_sys::ALLOCSET_DEFAULT_INITSIZE as usize,
            pg_sys::ALLOCSET_DEFAULT_MAXSIZE as usize,
        )
    }
}

/// The memory context that a function was called in: what is put there outlives SPI_finish.
#[derive(Clone, Copy)]
pub struct OuterContext(pg_sys::MemoryContext);

impl OuterContext {
    /// The context that is current now: ask before [`connected`](super::spi::connected).
    pub fn current() -> OuterContext {
        // SAFETY: a plain value of this process.
        OuterContext(unsafe { pg_sys::CurrentMemoryContext })
    }

    pub(in crate::pg) fn run<R>(self, f: impl FnOnce() -> R) -> R {
        // SAFETY: the caller's context is still there, since its call hasn't returned. An ERROR in between
        // resets the current context anyway.
        unsafe {
            let inner = pg_sys::CurrentMemoryContext;
            pg_sys::CurrentMemoryContext = self.0;
            let result = f();
            pg_sys::CurrentMemoryContext = inner;
            result
        }
    }
}
