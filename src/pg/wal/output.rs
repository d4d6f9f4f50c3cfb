//! The output of logical decoding: callbacks around those of the output plugin pgoutput. They leave out what is not
//! to be captured, add what the plugin leaves out, and spool its messages.

use super::spool::Spool;
use super::{generated, moment};
use crate::error::Error;
#[cfg(feature = "pg14")]
use crate::pg::exec::relcache;
use pgrx::pg_sys;
use std::ffi::{CStr, CString, c_char, c_int};
use std::ptr::NonNull;

/// The prefix of messages in WAL that are sequin's own.
pub const PREFIX: &str = "sequin";

/// The origin of all that a capturer writes. PostgreSQL reserves it for changes that are not to be replicated
/// (replication/origin.h); here capturers filter by it.
const DO_NOT_REPLICATE: pg_sys::RepOriginId = pg_sys::RepOriginId::MAX;

/// Marks all that this process writes as not to be captured.
pub fn set_do_not_replicate() {
    // SAFETY: a plain value of this process, which goes into its WAL records.
    unsafe { pg_sys::replorigin_session_origin = DO_NOT_REPLICATE };
}

/// What the output plugin's callbacks write to.
pub(super) struct Output {
    pub spool: Spool,
    /// Until a message of this text is decoded, changes are ignored: for them the publication doesn't exist yet.
    start_marker: Option<CString>,
    /// The LSN of the commit of the transaction with that message.
    pub start_lsn: Option<u64>,
    publication: CString,
    /// The values of generated columns of the change that the plugin is about to write.
    generated: Vec<u8>,
    /// The publication existed at this LSN. Changes from before may be older than the publication.
    published_since: u64,
    /// A later change was left out because the publication didn't exist when it was made.
    pub has_lost_changes: bool,
    change: pg_sys::LogicalDecodeChangeCB,
    truncate: pg_sys::LogicalDecodeTruncateCB,
    /// The state of the relations' cache for which the plugin has looked up what it knows.
    #[cfg(feature = "pg14")]
    relations: u64,
}

impl Output {
    pub fn new(publication: CString, start_marker: Option<CString>, from: u64) -> Output {
        Output {
            spool: Spool::default(),
            start_marker,
            start_lsn: None,
            publication,
            generated: Vec::new(),
            published_since: from,
            has_lost_changes: false,
            change: None,
            truncate: None,
            #[cfg(feature = "pg14")]
            relations: 0,
        }
    }

    /// Makes the plugin look up anew which tables are published as what, if any table has changed. It does so by itself
    /// from PostgreSQL 15 on; before, it doesn't notice that a table has become a partition of one that is published.
    #[cfg(feature = "pg14")]
    fn look_up_again(&mut self) {
        let relations = relcache::generation();
        if self.relations != relations {
            self.relations = relations;
            let publications = pg_sys::SysCacheIdentifier::PUBLICATIONRELMAP.cast_signed();
            // SAFETY: calls the functions that are registered for a change of publications, as that would.
            unsafe { pg_sys::CallSyscacheCallbacks(publications, 0) };
        }
    }

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

/// Makes a context of the output plugin pgoutput call the functions of this file, which write to `output`.
pub(super) unsafe fn install(
    context: *mut pg_sys::LogicalDecodingContext,
    mut output: NonNull<Output>,
) {
    // SAFETY: the caller's context, which is not decoding; both are valid for as long as it decodes.
    unsafe {
        let callbacks = &mut (*context).callbacks;
        output.as_mut().change = callbacks.change_cb.replace(change);
        output.as_mut().truncate = callbacks.truncate_cb.replace(truncate);
        callbacks.message_cb = Some(message);
        callbacks.filter_by_origin_cb = Some(filter_by_origin);
        (*context).output_writer_private = output.as_ptr().cast();
    }
}

unsafe fn output<'a>(context: *mut pg_sys::LogicalDecodingContext) -> &'a mut Output {
    // SAFETY: set by `install`, and valid as long as the context; callbacks run one at a time, and there is no other
    // reference while WAL is decoded.
    unsafe { &mut *(*context).output_writer_private.cast::<Output>() }
}

#[pgrx::pg_guard]
pub(super) unsafe extern "C-unwind" fn prepare_write(
    context: *mut pg_sys::LogicalDecodingContext,
    _lsn: pg_sys::XLogRecPtr,
    _xid: pg_sys::TransactionId,
    _last: bool,
) {
    // SAFETY: the buffer into which the plugin writes its message.
    unsafe { pg_sys::resetStringInfo((*context).out) };
}

#[pgrx::pg_guard]
pub(super) unsafe extern "C-unwind" fn write(
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
unsafe extern "C-unwind" fn is_published(
    output: *mut Output,
    change: *mut pg_sys::ReorderBufferChange,
) -> bool {
    // SAFETY: the callbacks' output and change; looks the name up in the catalog as it was at the change.
    unsafe {
        let output = &mut *output;
        if output.start_marker.is_some() {
            return false;
        }
        #[cfg(feature = "pg14")]
        output.look_up_again();
        let found = pg_sys::get_publication_oid(output.publication.as_ptr(), true);
        let is_published = found != pg_sys::InvalidOid;
        output.has_lost_changes |= !is_published && (*change).lsn > output.published_since;
        is_published
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
        if !is_published(output, change) {
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
        if !is_published(output, change) {
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
            output.published_since = (*transaction).final_lsn;
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
