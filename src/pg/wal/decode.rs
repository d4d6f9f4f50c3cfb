//! Logical decoding in this process: reads the changes of a replication slot as messages of PostgreSQL's own output
//! plugin pgoutput. It does what walsender.c and logicalfuncs.c do, without a connection.
//!
//! After an ERROR inside, decoding can't go on: the process must end, and another one begin anew.

#![allow(non_snake_case)] // the server's own names

use super::caches::Caches;
use super::moment;
use super::output::{self, Output};
use super::position::{flush, flushed};
use super::spool::Spool;
use crate::error::{Error, Result};
use crate::pg::exec::memory;
use crate::pg::process;
use pgrx::pg_sys;
use std::ffi::{CStr, CString, c_char, c_int};
use std::ptr::NonNull;

/// A slot that is being read.
pub struct Decoder {
    context: *mut pg_sys::LogicalDecodingContext,
    /// The memory context for what decoding allocates. It lives as long as the decoding, as in a walsender.
    memory: pg_sys::MemoryContext,
    /// The callbacks of the output plugin have the same pointer. So this is not a Box, which would have to be the only
    /// pointer to it.
    output: NonNull<Output>,
    caches: Caches,
}

unsafe extern "C-unwind" {
    /// access/xlogutils.h, declared again because callbacks must be the C functions themselves.
    fn read_local_xlog_page(
        state: *mut pg_sys::XLogReaderState,
        page: pg_sys::XLogRecPtr,
        len: c_int,
        record: pg_sys::XLogRecPtr,
        buffer: *mut c_char,
    ) -> c_int;
    fn wal_segment_open(
        state: *mut pg_sys::XLogReaderState,
        segment: pg_sys::XLogSegNo,
        timeline: *mut pg_sys::TimeLineID,
    );
    fn wal_segment_close(state: *mut pg_sys::XLogReaderState);
}

#[pgrx::pg_guard]
unsafe extern "C-unwind" {
    /// replication/decode.h; not bound by pgrx.
    fn LogicalDecodingProcessRecord(
        context: *mut pg_sys::LogicalDecodingContext,
        record: *mut pg_sys::XLogReaderState,
    );
}

impl Decoder {
    /// Takes the slot for this process. Transactions whose commit is before `from` are left out, as are those
    /// before what was confirmed. With `start_marker`, changes are left out until a message of that text.
    ///
    /// Inside a transaction: outside of one, PostgreSQL marks this process as PROC_IN_LOGICAL_DECODING, whose
    /// transactions other sessions' snapshots leave out. They would take rows that it is just writing for those of a
    /// crashed transaction, and set hint bits that mark them as dead.
    pub fn open(
        slot: &str,
        publication: &str,
        from: u64,
        start_marker: Option<&str>,
    ) -> Result<Self> {
        let name = text(slot)?;
        let start_marker = start_marker.map(text).transpose()?;
        let output = Output::new(text(publication)?, start_marker, from);
        let output = NonNull::from(Box::leak(Box::new(output)));
        let publications = text(&format!("\"{}\"", publication.replace('"', "\"\"")))?;
        // SAFETY: a transaction is open. What the context refers to is allocated in a memory context that
        // lives as long as this process, as the walsender's does, and so does the output. XLogReaderAllocate copies the
        // routine; the names are only read before this returns.
        unsafe {
            pg_sys::ReplicationSlotAcquire(
                name.as_ptr(),
                true,
                #[cfg(feature = "pg18")]
                true,
            );
            let old = pg_sys::CurrentMemoryContext;
            let memory = memory::new_context(pg_sys::TopMemoryContext, c"sequin decoding");
            pg_sys::CurrentMemoryContext = memory;
            let mut options = std::ptr::null_mut();
            for (name, value) in
                [(c"proto_version", c"2".as_ptr()), (c"publication_names", publications.as_ptr())]
            {
                let value = pg_sys::makeString(pg_sys::pstrdup(value));
                let name = pg_sys::pstrdup(name.as_ptr());
                options =
                    pg_sys::lappend(options, pg_sys::makeDefElem(name, value.cast(), -1).cast());
            }
            let mut routine = pg_sys::XLogReaderRoutine {
                page_read: Some(page_read),
                segment_open: Some(wal_segment_open),
                segment_close: Some(wal_segment_close),
            };
            let context = pg_sys::CreateDecodingContext(
                from,
                options,
                false,
                &mut routine,
                Some(output::prepare_write),
                Some(output::write),
                None,
            );
            pg_sys::CurrentMemoryContext = old;
            output::install(context, output);
            pg_sys::XLogBeginRead((*context).reader, restart_lsn((*context).slot));
            moment::watch();
            Ok(Decoder { context, memory, output, caches: Caches::new() })
        }
    }

    /// Reads WAL up to `until`, or until there are `enough` bytes of messages. The messages are those of whole
    /// transactions. True if `until` has been reached.
    pub fn read(&mut self, until: u64, enough: u64) -> Result<bool> {
        self.change_time()?;
        self.decode(until, enough)?;
        self.change_time()?;
        Ok(self.position() >= until)
    }

    /// Whether the catalogs have changed since what is decoded next: then each call of [`Self::read`] has to empty caches.
    pub fn is_in_the_past(&self) -> bool {
        !self.caches.are_good_for_both()
    }

    /// From the present to the past, or back.
    fn change_time(&mut self) -> Result<()> {
        let (position, oldest) = (self.position(), self.oldest());
        process::transaction(|| {
            self.caches.change_time(position, oldest);
            Ok(())
        })
        .map_err(Error::Internal)
    }

    /// Where the first change begins of those that wait for the end of their transactions.
    fn oldest(&self) -> Option<u64> {
        // SAFETY: the context and its reorder buffer are valid while this value lives; so is a transaction in there.
        unsafe {
            let oldest = pg_sys::ReorderBufferGetOldestTXN((*self.context).reorder);
            oldest.as_ref().map(|transaction| transaction.first_lsn)
        }
    }

    fn decode(&mut self, until: u64, enough: u64) -> Result<()> {
        // SAFETY: the context is valid while this value lives, and no transaction is open. The reader keeps what it
        // allocates, so the current memory context must be one that is not reset.
        unsafe {
            let old = pg_sys::CurrentMemoryContext;
            while self.position() < until && self.output.as_ref().spool.len() < enough {
                pg_sys::CurrentMemoryContext = self.memory;
                let mut error: *mut c_char = std::ptr::null_mut();
                let record = pg_sys::XLogReadRecord((*self.context).reader, &mut error);
                if record.is_null() {
                    if error.is_null() {
                        break;
                    }
                    let error = CStr::from_ptr(error).to_string_lossy().into_owned();
                    return Err(Error::Internal(format!("cannot read WAL: {error}")));
                }
                LogicalDecodingProcessRecord(self.context, (*self.context).reader);
                pgrx::check_for_interrupts!();
            }
            pg_sys::CurrentMemoryContext = old;
        }
        Ok(())
    }

    fn output(&mut self) -> &mut Output {
        // SAFETY: leaked by `open`. Callbacks run within `read` only, and this reference doesn't exist then.
        unsafe { self.output.as_mut() }
    }

    /// Up to where WAL has been read.
    pub fn position(&self) -> u64 {
        // SAFETY: the reader is valid while this value lives.
        unsafe { (*(*self.context).reader).EndRecPtr }
    }

    /// The messages that have been read.
    pub fn messages(&mut self) -> &mut Spool {
        &mut self.output().spool
    }

    /// True if a change was left out because the publication didn't exist when it was made, though it had existed before:
    /// it was dropped. It is found again however often decoding begins anew, as long as nothing after it is confirmed.
    pub fn has_lost_changes(&mut self) -> bool {
        self.output().has_lost_changes
    }

    /// The LSN of the commit that opened this source, if it has been decoded since the last call.
    pub fn take_start_lsn(&mut self) -> Option<u64> {
        self.output().start_lsn.take()
    }

    /// Confirms that all before this position has been processed: the server may remove that WAL.
    pub fn confirm(&self, position: u64) {
        // SAFETY: this process has acquired the slot.
        unsafe { pg_sys::LogicalConfirmReceivedLocation(position) };
    }
}

unsafe fn restart_lsn(slot: *mut pg_sys::ReplicationSlot) -> u64 {
    // SAFETY: the slot is acquired by this process, the only one that changes the value.
    unsafe { (*slot).data.restart_lsn }
}

fn text(text: &str) -> Result<CString> {
    CString::new(text).map_err(|_| Error::Internal("a name contains a zero byte".into()))
}

/// Reads a page of WAL. First flushes WAL if the record that is being read begins on disk and doesn't end there: the
/// WAL writer flushes whole pages, and so parts of records. Without that, the server's function would wait until some
/// session flushes the rest, which may take many seconds, and what was decoded before would wait in memory.
unsafe extern "C-unwind" fn page_read(
    state: *mut pg_sys::XLogReaderState,
    page: pg_sys::XLogRecPtr,
    len: c_int,
    record: pg_sys::XLogRecPtr,
    buffer: *mut c_char,
) -> c_int {
    flush_up_to(page + u64::from(len.unsigned_abs()));
    // SAFETY: the server's own function, with what it would have been given. Not guarded: its ERROR passes over this
    // frame as over a C function's.
    unsafe { read_local_xlog_page(state, page, len, record, buffer) }
}

#[pgrx::pg_guard]
extern "C-unwind" fn flush_up_to(needed: u64) {
    if flushed() < needed {
        // SAFETY: reads shared memory. GetInsertRecPtr() is at or after the end of every record that crosses a page
        // border, as this one does. And it is never the start of a page that has no record yet: that could not be
        // flushed.
        flush(needed.min(unsafe { pg_sys::GetInsertRecPtr() }));
    }
}
