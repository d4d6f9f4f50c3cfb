//! Memory that PostgreSQL's functions allocate on our behalf.

use pgrx::pg_sys;

/// Runs `f` and frees what was allocated in PostgreSQL's memory meanwhile: a long transaction that calls it again
/// and again takes no more than one call does. What `f` returns must be Rust's own.
pub fn scoped<R>(f: impl FnOnce() -> R) -> R {
    // SAFETY: a child of the current context, which the end of the transaction deletes if an ERROR keeps this
    // function from doing so.
    unsafe {
        let outer = pg_sys::CurrentMemoryContext;
        let inner = pg_sys::AllocSetContextCreateInternal(
            outer,
            c"sequin scope".as_ptr(),
            pg_sys::ALLOCSET_DEFAULT_MINSIZE as usize,
            pg_sys::ALLOCSET_DEFAULT_INITSIZE as usize,
            pg_sys::ALLOCSET_DEFAULT_MAXSIZE as usize,
        );
        pg_sys::CurrentMemoryContext = inner;
        let result = f();
        pg_sys::CurrentMemoryContext = outer;
        pg_sys::MemoryContextDelete(inner);
        result
    }
}
