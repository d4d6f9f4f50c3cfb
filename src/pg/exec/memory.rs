//! Memory that PostgreSQL's functions allocate on our behalf.

use pgrx::pg_sys;
use std::ffi::CStr;

/// Runs `f` and frees what was allocated in PostgreSQL's memory meanwhile: a long transaction that calls it again
/// and again takes no more than one call does. What `f` returns must be Rust's own.
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

/// A memory context of its own, which goes with `parent`.
pub(in crate::pg) unsafe fn new_context(
    parent: pg_sys::MemoryContext,
    name: &'static CStr,
) -> pg_sys::MemoryContext {
    // SAFETY: the name lives for ever; the caller has a parent that does so for long enough.
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
