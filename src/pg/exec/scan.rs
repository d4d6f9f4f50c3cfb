//! Reading a stream's table by seq, through its primary key, without the planner.
//!
//! The planner may choose a sequential scan when statistics change: for a stream that was empty when the plan was made
//! and has a million messages now. And each kind of read would need a plan of its own. An index scan by hand always
//! costs the same. It is modelled on systable_beginscan_ordered, see access/genam.h.
//!
//! A scan checks no rights. Code that scans on a caller's behalf must have asked `api::rights` before.

use super::catalog;
use super::datum::{Jsonb, Text, copy_varlena};
use super::memory::OuterContext;
use super::partitions::{self, Partitions, Parts};
use super::snapshot::Snapshot;
use crate::error::{Error, Result};
use crate::pg::shared::bounds::Xid;
use pgrx::datum::FromDatum;
use pgrx::pg_sys;
use sequin_engine::dispatcher::Reached;
use sequin_engine::key::Seq;
use std::rc::Rc;
use std::time::{Duration, Instant};

/// Columns of a stream's table, in the order that create_stream gives them.
const SEQ: i32 = 1;
const KEY: i32 = 2;
const DATA: i32 = 3;
const HEADERS: i32 = 4;
const INSERTED_AT: i32 = 5;

/// Lists of columns, for checks of the rights to them.
pub const SEQ_ONLY: [i16; 1] = [SEQ as i16];
pub const SEQ_AND_KEY: [i16; 2] = [SEQ as i16, KEY as i16];
pub const SEQ_AND_TIME: [i16; 2] = [SEQ as i16, INSERTED_AT as i16];
pub const ALL: [i16; 5] = [1, 2, 3, 4, 5];
/// The columns that a publisher gives values for. The time is the table's default.
pub const PUBLISHED: [i16; 4] = [1, 2, 3, 4];

/// One message, while the scan stands on it.
pub struct Message(*mut pg_sys::TupleTableSlot);

impl Message {
    /// Deforms the tuple up to this column, unless that is done already. A caller that needs several columns should ask
    /// for the last one first: each call of PostgreSQL costs some 30 ns, of 3 us for a message that is received and
    /// acked in a batch of 100.
    fn datum(&self, column: i32) -> Option<pg_sys::Datum> {
        // SAFETY: the slot holds a tuple of a table that has these columns, as `open` has checked; it pins the page
        // that the tuple is on until the scan moves on, and a `Message` is only lent until then.
        unsafe {
            if i32::from((*self.0).tts_nvalid) < column {
                pg_sys::slot_getsomeattrs_int(self.0, column);
            }
            let n = column as usize - 1;
            (!*(*self.0).tts_isnull.add(n)).then_some(*(*self.0).tts_values.add(n))
        }
    }

    pub fn seq(&self) -> Seq {
        self.datum(SEQ).map_or(0, |datum| datum.value() as Seq)
    }

    pub fn key(&self) -> String {
        // SAFETY: a text column; the value is copied.
        let key = self.datum(KEY).and_then(|key| unsafe { String::from_datum(key, false) });
        key.unwrap_or_default()
    }

    /// The transaction that inserted it.
    pub fn xmin(&self) -> Xid {
        let column = pg_sys::MinTransactionIdAttributeNumber;
        let mut is_null = false;
        // SAFETY: as in `datum`; a tuple of a table has this system column.
        let xid = unsafe { pg_sys::slot_getsysattr(self.0, column, &mut is_null) };
        xid.value() as Xid
    }

    /// When it was inserted, in microseconds.
    pub fn inserted_at(&self) -> i64 {
        self.datum(INSERTED_AT).map_or(0, |datum| datum.value() as i64)
    }

    /// The key as it is, copied into `context`.
    pub fn key_datum(&self, context: OuterContext) -> Option<Text> {
        let datum = self.datum(KEY)?;
        // SAFETY: a text column.
        context.run(|| unsafe { Text::from_datum(copy_varlena(datum), false) })
    }

    /// The payload as it is, copied into `context`.
    pub fn data(&self, context: OuterContext) -> Option<Jsonb> {
        self.jsonb(DATA, context)
    }

    /// The headers as they are, copied into `context`.
    pub fn headers(&self, context: OuterContext) -> Option<Jsonb> {
        self.jsonb(HEADERS, context)
    }

    /// Whether copies of its key, data or headers are pointers to TOAST, good for as long as the table is locked.
    pub fn is_out_of_line(&self) -> bool {
        [KEY, DATA, HEADERS].into_iter().filter_map(|column| self.datum(column)).any(|datum| {
            // SAFETY: a live varlena datum.
            unsafe { pgrx::varatt_is_1b_e(datum.cast_mut_ptr()) }
        })
    }

    fn jsonb(&self, column: i32, context: OuterContext) -> Option<Jsonb> {
        let datum = self.datum(column)?;
        // SAFETY: jsonb columns.
        context.run(|| unsafe { Jsonb::from_datum(copy_varlena(datum), false) })
    }
}

/// [`messages_in`] a snapshot of what is committed by now, without a limit of time.
pub fn messages(
    table: pg_sys::Oid,
    ranges: &[(Seq, Seq)],
    f: impl FnMut(&Message) -> bool,
) -> Result<Reached> {
    let snapshot = Snapshot::newest();
    let reached = messages_in(&snapshot, table, ranges, None, f)?;
    snapshot.close();
    Ok(reached)
}

/// How many seqs are read between two looks at the clock, where time is limited. Reading so many takes less than a
/// millisecond with the pages in memory, whether or not their messages are visible.
const STRIDE: Seq = 1024;

/// Hands `f` the messages with a seq in one of `ranges` (ascending, both ends included) that a snapshot shows, in
/// order. Stops where `f` returns false, and when `time` is over: index entries of invisible messages take time too,
/// and there may be millions of them. With a limit of time it waits for no lock on a partition.
pub fn messages_in(
    snapshot: &Snapshot,
    table: pg_sys::Oid,
    ranges: &[(Seq, Seq)],
    time: Option<Duration>,
    mut f: impl FnMut(&Message) -> bool,
) -> Result<Reached> {
    let root = Root::lock(table);
    let begun = Instant::now();
    let mut reached = Reached::Nowhere;
    let mut scan = None;
    if root.partitions.is_none() {
        scan = Some(Scan::open(table, snapshot)?);
    }
    'all: {
        for part in ranges.iter().flat_map(|&range| root.parts(range)) {
            let (from, upto, table) = part;
            let scan = match &mut scan {
                Some(scan) if scan.oid == table => scan,
                other => {
                    if let Some(before) = other.take() {
                        before.close();
                    }
                    other.insert(Scan::open_partition(table, snapshot, time.is_none())?)
                }
            };
            let mut next = Some(from);
            while let Some(from) = next {
                if time.is_some_and(|time| reached != Reached::Nowhere && begun.elapsed() >= time) {
                    break 'all;
                }
                let end = match time {
                    Some(_) => upto.min(from.saturating_add(STRIDE - 1)),
                    None => upto,
                };
                let mut has_any = false;
                scan.start(from, end);
                while scan.next() {
                    has_any = true;
                    let message = Message(scan.slot);
                    let goes_on = f(&message);
                    // What a TOAST pointer leads to must stay: TRUNCATE waits for this transaction.
                    scan.is_needed |=
                        scan.is_partition && time.is_none() && message.is_out_of_line();
                    if !goes_on {
                        reached = Reached::UpTo(message.seq());
                        break 'all;
                    }
                }
                reached = Reached::UpTo(end);
                next = match end < upto {
                    true if has_any => Some(end + 1),
                    // There may be no entries for a long stretch.
                    true => scan.first_entry(end + 1, upto),
                    false => None,
                };
            }
        }
        reached = Reached::End;
    }
    if let Some(scan) = scan {
        scan.close();
    }
    root.unlock();
    Ok(reached)
}

/// Returns an error if the table can't be read as a stream's, but none if it is gone.
pub fn check(table: pg_sys::Oid) -> Result<()> {
    let snapshot = Snapshot::newest();
    match messages_in(&snapshot, table, &[], None, |_| false) {
        Ok(_) | Err(Error::NoStream(_)) => {}
        Err(error) => return Err(error),
    }
    snapshot.close();
    Ok(())
}

/// A stream's table, locked while its partitions are read, if it has any.
struct Root {
    table: pg_sys::Oid,
    partitions: Option<Rc<Partitions>>,
}

impl Root {
    /// Partitions are looked up when the snapshot has been taken: what that shows is in one of them.
    fn lock(table: pg_sys::Oid) -> Root {
        let mut partitions = partitions::of(table);
        if partitions.is_some() {
            catalog::lock_for_reading(table);
            partitions = partitions::of_now(table);
        }
        Root { table, partitions }
    }

    fn parts(&self, range: (Seq, Seq)) -> Parts<'_> {
        partitions::parts(self.partitions.as_deref(), self.table, range)
    }

    fn unlock(self) {
        if self.partitions.is_some() {
            catalog::unlock_from_reading(self.table);
        }
    }
}

struct Scan {
    oid: pg_sys::Oid,
    table: pg_sys::Relation,
    index: pg_sys::Relation,
    scan: pg_sys::IndexScanDesc,
    slot: *mut pg_sys::TupleTableSlot,
    is_partition: bool,
    /// It stays locked until the transaction ends.
    is_needed: bool,
}

const LOCK: pg_sys::LOCKMODE = pg_sys::AccessShareLock as pg_sys::LOCKMODE;

impl Scan {
    /// A partition, for whose lock it waits or not.
    fn open_partition(oid: pg_sys::Oid, snapshot: &Snapshot, waits: bool) -> Result<Scan> {
        if !waits && !catalog::try_lock_for_reading(oid) {
            return Err(Error::PartitionLocked(catalog::relation_name(oid)));
        }
        let scan = Scan::open(oid, snapshot);
        if !waits {
            catalog::unlock_from_reading(oid);
        }
        scan.map(|scan| Scan { is_partition: true, ..scan })
    }

    /// After an ERROR in here the transaction's resource owner closes what is open.
    fn open(oid: pg_sys::Oid, snapshot: &Snapshot) -> Result<Scan> {
        // SAFETY: everything that is opened is closed by `close`, in the reverse order; the snapshot stays registered,
        // as its owner keeps it until the scan's end.
        unsafe {
            let table = pg_sys::try_table_open(oid, LOCK);
            if table.is_null() {
                // Dropped since it was looked up.
                return Err(Error::NoStream(catalog::relation_name(oid)));
            }
            let index = match has_columns(table, &COLUMNS) {
                true => open_primary_key(table),
                false => std::ptr::null_mut(),
            };
            if index.is_null() {
                pg_sys::table_close(table, LOCK);
                let name = catalog::relation_name(oid);
                return Err(Error::NotAStream(name));
            }
            let slot = pg_sys::MakeSingleTupleTableSlot(
                (*table).rd_att,
                pg_sys::table_slot_callbacks(table),
            );
            let scan = begin(table, index, snapshot.as_ptr());
            Ok(Scan { oid, table, index, scan, slot, is_partition: false, is_needed: false })
        }
    }

    fn start(&self, from: Seq, upto: Seq) {
        let key = |strategy: u32, procedure: u32, value: Seq| {
            // SAFETY: zeroed is valid for a ScanKeyData that ScanKeyInit then fills in.
            unsafe {
                let mut key: pg_sys::ScanKeyData = std::mem::zeroed();
                let procedure = pg_sys::Oid::from(procedure);
                let value = pg_sys::Datum::from(value);
                pg_sys::ScanKeyInit(&mut key, 1, strategy as u16, procedure, value);
                key
            }
        };
        let mut keys = [
            key(pg_sys::BTGreaterEqualStrategyNumber, pg_sys::F_INT8GE, from),
            key(pg_sys::BTLessEqualStrategyNumber, pg_sys::F_INT8LE, upto),
        ];
        // SAFETY: as many keys as the scan was begun with; they are copied.
        unsafe { pg_sys::index_rescan(self.scan, keys.as_mut_ptr(), 2, std::ptr::null_mut(), 0) };
    }

    fn next(&self) -> bool {
        // SAFETY: the slot fits the table.
        unsafe {
            pg_sys::index_getnext_slot(
                self.scan,
                pg_sys::ScanDirection::ForwardScanDirection,
                self.slot,
            )
        }
    }

    /// The lowest seq in this range that has an entry in the index, whether or not its message is visible. The search
    /// passes empty pages, if any, but no dead entries.
    fn first_entry(&self, from: Seq, upto: Seq) -> Option<Seq> {
        self.start(from, upto);
        // SAFETY: a scan that has been started, and that is started anew before it reads anything else. With
        // xs_want_itup a B-tree returns the index entry itself, whose first column is an int8.
        unsafe {
            let scan = &mut *self.scan;
            let before = (scan.ignore_killed_tuples, scan.xs_want_itup);
            (scan.ignore_killed_tuples, scan.xs_want_itup) = (false, true);
            pg_sys::index_rescan(self.scan, scan.keyData, 2, std::ptr::null_mut(), 0);
            let forward = pg_sys::ScanDirection::ForwardScanDirection;
            let found = !pg_sys::index_getnext_tid(self.scan, forward).is_null();
            // No column of a primary key is NULL, so the first one is right behind the header (index_getattr).
            let seq = found.then(|| scan.xs_itup.add(1).cast::<Seq>().read_unaligned());
            (scan.ignore_killed_tuples, scan.xs_want_itup) = before;
            seq
        }
    }

    fn close(self) {
        // SAFETY: pairs with `open`. The lock is released too: the caller may be about to wait for a message for an
        // hour. What was read has been copied, except for what TOAST pointers lead to: see `Message::is_out_of_line`.
        unsafe {
            pg_sys::index_endscan(self.scan);
            pg_sys::ExecDropSingleTupleTableSlot(self.slot);
            pg_sys::index_close(self.index, LOCK);
            let kept = pg_sys::NoLock.cast_signed();
            pg_sys::table_close(self.table, if self.is_needed { kept } else { LOCK });
        }
    }
}

/// The columns that create_stream makes. The table's owner can change them. Then the table must not be read: a datum of
/// another type would be taken for a pointer.
pub const COLUMNS: [pg_sys::Oid; 5] =
    [pg_sys::INT8OID, pg_sys::TEXTOID, pg_sys::JSONBOID, pg_sys::JSONBOID, pg_sys::TIMESTAMPTZOID];

/// True if a table's first columns are of these types.
pub(in crate::pg) unsafe fn has_columns(table: pg_sys::Relation, columns: &[pg_sys::Oid]) -> bool {
    // SAFETY: an open relation, whose descriptor has natts attributes.
    unsafe {
        let descriptor = pgrx::PgTupleDesc::from_pg_unchecked((*table).rd_att);
        columns.iter().enumerate().all(|(n, &column)| {
            descriptor.get(n).is_some_and(|a| a.atttypid == column && !a.attisdropped)
        })
    }
}

/// True if the primary key is on `seq` alone.
pub(in crate::pg) unsafe fn has_primary_key(table: pg_sys::Relation) -> bool {
    // SAFETY: an open relation; what is opened is closed.
    unsafe {
        let index = open_primary_key(table);
        if index.is_null() {
            return false;
        }
        pg_sys::index_close(index, LOCK);
        true
    }
}

/// The index of the primary key, if that is on `seq` alone; null otherwise.
unsafe fn open_primary_key(table: pg_sys::Relation) -> pg_sys::Relation {
    // SAFETY: an open relation; an index that is open has rd_index.
    unsafe {
        #[cfg(not(feature = "pg18"))]
        let oid = pg_sys::RelationGetPrimaryKeyIndex(table);
        #[cfg(feature = "pg18")]
        let oid = pg_sys::RelationGetPrimaryKeyIndex(table, false);
        if oid == pg_sys::InvalidOid {
            return std::ptr::null_mut();
        }
        let index = pg_sys::index_open(oid, LOCK);
        let form = &*(*index).rd_index;
        let first = form.indkey.values.as_slice(1).first().copied();
        if form.indnkeyatts == 1 && first == Some(SEQ as i16) {
            return index;
        }
        pg_sys::index_close(index, LOCK);
        std::ptr::null_mut()
    }
}

unsafe fn begin(
    table: pg_sys::Relation,
    index: pg_sys::Relation,
    snapshot: pg_sys::Snapshot,
) -> pg_sys::IndexScanDesc {
    // SAFETY: two open relations that belong together and a registered snapshot; two keys, no ordering.
    unsafe {
        #[cfg(not(feature = "pg18"))]
        return pg_sys::index_beginscan(table, index, snapshot, 2, 0);
        #[cfg(feature = "pg18")]
        return pg_sys::index_beginscan(table, index, snapshot, std::ptr::null_mut(), 2, 0);
    }
}
