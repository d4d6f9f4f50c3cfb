//! Logical decoding in this process: reads the changes of a replication slot as messages of PostgreSQL's own output
//! plugin pgoutput. It does what walsender.c and logicalfuncs.c do, without a connection.
//!
//! After an ERROR inside, decoding can't go on: the process must end, and another one begin anew.

#![allow(non_snake_case)] // the server's own names

use super::spool::Spool;
use super::{generated, moment};
use crate::error::{Error, Result};
use crate::pg::exec::memory;
use pgrx::pg_sys;
use std::ffi::{CStr, CString, c_char, c_int};
use std::ptr::NonNull;

/// The prefix of messages in WAL that are sequin's own.
pub const PREFIX: &str = "sequin";

/// The origin of all that a capturer writes. PostgreSQL reserves it for changes that are not to be replicated
/// (replication/origin.h); here capturers filter by it.
const DO_NOT_REPLICATE: pg_sys::RepOriginId = pg_sys::RepOriginId::MAX;

/// A slot that is being read.
pub struct Decoder {
    context: *mut pg_sys::LogicalDecodingContext,
    /// The memory context for what decoding allocates. It lives as long as the decoding, as in a walsender.
    memory: pg_sys::MemoryContext,
    /// The callbacks of the output plugin have the same pointer. So this is not a Box, which would have to be the only
    /// pointer to it.
    output: NonNull<Output>,
}

/// What the output plugin's callbacks write to.
struct Output {
    spool: Spool,
    /// Until a message of this text is decoded, changes are ignored: for them the publication doesn't exist yet.
    start_marker: Option<CString>,
    /// The LSN of the commit of the transaction with that message.
    start_lsn: Option<u64>,
    publication: CString,
    /// The values of generated columns of the change that the plugin is about to write.
    generated: Vec<u8>,
    /// A change was left out because the publication didn't exist when it was made: it was created later, or dropped
    /// before.
    missed_publication: bool,
    change: pg_sys::LogicalDecodeChangeCB,
    truncate: pg_sys::LogicalDecodeTruncateCB,
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

/// Up to where WAL is on disk. Nothing beyond may be captured, since a crash may lose it.
pub fn flushed() -> u64 {
    // SAFETY: reads shared memory.
    unsafe {
        #[cfg(feature = "pg14")]
        return pg_sys::GetFlushRecPtr();
        #[cfg(not(feature = "pg14"))]
        return pg_sys::GetFlushRecPtr(std::ptr::null_mut());
    }
}

/// Up to where WAL has been inserted, on disk or not.
pub fn inserted() -> u64 {
    // SAFETY: reads shared memory.
    unsafe { pg_sys::GetXLogInsertRecPtr() }
}

/// Flushes WAL up to a position that has been inserted. So a reader of it need not wait for another session's commit to
/// flush it.
pub fn flush(position: u64) {
    // SAFETY: writes and syncs WAL up to the end of a record.
    unsafe { pg_sys::XLogFlush(position) };
}

/// Where the commit of this process's last transaction ends in WAL.
pub fn last_commit() -> u64 {
    // SAFETY: a plain value of this process.
    unsafe { pg_sys::XactLastCommitEnd }
}

/// Marks all that this process writes as not to be captured.
pub fn set_do_not_replicate() {
    // SAFETY: a plain value of this process, which goes into its WAL records.
    unsafe { pg_sys::replorigin_session_origin = DO_NOT_REPLICATE };
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
        let mut output = NonNull::from(Box::leak(Box::new(Output {
            spool: Spool::default(),
            start_marker,
            start_lsn: None,
            publication: text(publication)?,
            generated: Vec::new(),
            missed_publication: false,
            change: None,
            truncate: None,
        })));
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
                Some(prepare_write),
                Some(write),
                None,
            );
            pg_sys::CurrentMemoryContext = old;
            let callbacks = &mut (*context).callbacks;
            output.as_mut().change = callbacks.change_cb.replace(change);
            output.as_mut().truncate = callbacks.truncate_cb.replace(truncate);
            callbacks.message_cb = Some(message);
            callbacks.filter_by_origin_cb = Some(filter_by_origin);
            (*context).output_writer_private = output.as_ptr().cast();
            pg_sys::XLogBeginRead((*context).reader, restart_lsn((*context).slot));
            moment::watch();
            // What is cached from before shows the catalogs of another time.
            pg_sys::InvalidateSystemCaches();
            Ok(Decoder { context, memory, output })
        }
    }

    /// Reads WAL up to `until`, or until there are `enough` bytes of messages. The messages are those of whole
    /// transactions. True if `until` has been reached.
    pub fn read(&mut self, until: u64, enough: u64) -> Result<bool> {
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
        Ok(self.position() >= until)
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

    /// Whether a change was left out because the publication didn't exist for it. Resets that.
    pub fn take_missed_publication(&mut self) -> bool {
        std::mem::take(&mut self.output().missed_publication)
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

impl Output {
    /// Adds a message of the plugin to the spool, with what the plugin leaves out.
    fn push(&mut self, message: &[u8]) -> std::io::Result<()> {
        for description in moment::descriptions(message) {
            self.spool.push(&description)?;
        }
        if self.generated.is_empty() || !matches!(message.first(), Some(b'I' | b'U' | b'D')) {
            return self.spool.push(message);
        }
        let mut whole = std::mem::take(&mut self.generated);
        whole.extend(message);
        self.spool.push(&whole)
    }
}

unsafe fn restart_lsn(slot: *mut pg_sys::ReplicationSlot) -> u64 {
    // SAFETY: the slot is acquired by this process, the only one that changes the value.
    unsafe { (*slot).data.restart_lsn }
}

fn text(text: &str) -> Result<CString> {
    CString::new(text).map_err(|_| Error::Internal("a name contains a zero byte".into()))
}

unsafe fn output<'a>(context: *mut pg_sys::LogicalDecodingContext) -> &'a mut Output {
    // SAFETY: set by `open`, and valid as long as the context; callbacks run one at a time, and there is no other
    // reference while WAL is decoded.
    unsafe { &mut *(*context).output_writer_private.cast::<Output>() }
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

#[pgrx::pg_guard]
unsafe extern "C-unwind" fn prepare_write(
    context: *mut pg_sys::LogicalDecodingContext,
    _lsn: pg_sys::XLogRecPtr,
    _xid: pg_sys::TransactionId,
    _last: bool,
) {
    // SAFETY: the buffer into which the plugin writes its message.
    unsafe { pg_sys::resetStringInfo((*context).out) };
}

#[pgrx::pg_guard]
unsafe extern "C-unwind" fn write(
    context: *mut pg_sys::LogicalDecodingContext,
    _lsn: pg_sys::XLogRecPtr,
    _xid: pg_sys::TransactionId,
    _last: bool,
) {
    // SAFETY: the plugin has written `len` bytes of a message.
    let pushed = unsafe {
        let out = (*context).out;
        let len = usize::try_from((*out).len).unwrap_or(0);
        output(context).push(std::slice::from_raw_parts((*out).data.cast::<u8>(), len))
    };
    if let Err(error) = pushed {
        Error::Spool(error.to_string()).raise();
    }
}

/// True if the publication existed when this change was made; otherwise pgoutput would fail, each time anew. A
/// transaction that commits after the publication was made can have changes from before.
#[pgrx::pg_guard]
unsafe extern "C-unwind" fn is_published(output: *mut Output) -> bool {
    // SAFETY: the callbacks' output; looks the name up in the catalog as it was at the change.
    unsafe {
        let output = &mut *output;
        if output.start_marker.is_some() {
            return false;
        }
        let found = pg_sys::get_publication_oid(output.publication.as_ptr(), true);
        output.missed_publication |= found == pg_sys::InvalidOid;
        found != pg_sys::InvalidOid
    }
}

/// Keeps the values of generated columns for [`Output::push`], since the plugin's message of the change lacks them.
#[pgrx::pg_guard]
unsafe extern "C-unwind" fn keep_generated(
    output: *mut Output,
    relation: pg_sys::Relation,
    change: *mut pg_sys::ReorderBufferChange,
) {
    // SAFETY: the callbacks' output, and what the callback for a change was given.
    unsafe { (*output).generated = generated::values(relation, change) };
}

/// Not guarded, nor is the next function: an ERROR of the plugin passes over the frame as over a C function's.
unsafe extern "C-unwind" fn change(
    context: *mut pg_sys::LogicalDecodingContext,
    transaction: *mut pg_sys::ReorderBufferTXN,
    relation: pg_sys::Relation,
    change: *mut pg_sys::ReorderBufferChange,
) {
    // SAFETY: the plugin's own callback, with what it would have been given.
    unsafe {
        let output = output(context);
        if !is_published(output) {
            return;
        }
        keep_generated(output, relation, change);
        if let Some(next) = output.change {
            next(context, transaction, relation, change);
        }
    }
}

unsafe extern "C-unwind" fn truncate(
    context: *mut pg_sys::LogicalDecodingContext,
    transaction: *mut pg_sys::ReorderBufferTXN,
    count: c_int,
    relations: *mut pg_sys::Relation,
    change: *mut pg_sys::ReorderBufferChange,
) {
    // SAFETY: as above.
    unsafe {
        let output = output(context);
        if !is_published(output) {
            return;
        }
        if let Some(next) = output.truncate {
            next(context, transaction, count, relations, change);
        }
    }
}

/// Ignores all messages in WAL but the one of sequin's that opens this source.
#[pgrx::pg_guard]
unsafe extern "C-unwind" fn message(
    context: *mut pg_sys::LogicalDecodingContext,
    transaction: *mut pg_sys::ReorderBufferTXN,
    _lsn: pg_sys::XLogRecPtr,
    transactional: bool,
    prefix: *const c_char,
    len: pg_sys::Size,
    text: *const c_char,
) {
    // SAFETY: a zero-terminated prefix and `len` bytes; the transaction of a transactional message.
    unsafe {
        let output = output(context);
        let Some(awaited) = &output.start_marker else { return };
        let text = std::slice::from_raw_parts(text.cast::<u8>(), len);
        if transactional
            && CStr::from_ptr(prefix).to_bytes() == PREFIX.as_bytes()
            && text == awaited.as_bytes()
        {
            output.start_marker = None;
            output.start_lsn = Some((*transaction).final_lsn);
        }
    }
}

/// True for what capturers themselves have written.
unsafe extern "C-unwind" fn filter_by_origin(
    _context: *mut pg_sys::LogicalDecodingContext,
    origin: pg_sys::RepOriginId,
) -> bool {
    origin == DO_NOT_REPLICATE
}
