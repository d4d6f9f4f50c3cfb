//! Reading a stream's table by seq, through its primary key, without the planner.
//!
//! A kept plan can flip to a sequential scan when statistics change (a stream that was empty when it was
//! planned and has a million messages now), and each kind of read would need its own; an index scan by hand
//! costs the same for ever. See access/genam.h, and systable_beginscan_ordered for the model.

use super::datum::{Jsonb, Text, copy_varlena};
use super::snapshot::Snapshot;
use super::spi::OuterContext;
use crate::engine::key::Seq;
use crate::engine::stream::Reach;
use crate::error::{Error, Result};
use pgrx::datum::FromDatum;
use pgrx::pg_sys;

/// Columns of a stream's table, in the order that create_stream gives them.
const SEQ: i32 = 1;
const KEY: i32 = 2;
const DATA: i32 = 3;
const HEADERS: i32 = 4;
const INSERTED_AT: i32 = 5;

/// One message, while the scan stands on it.
pub struct Message(*mut pg_sys::TupleTableSlot);

impl Message {
    fn datum(&self, column: i32) -> Option<pg_sys::Datum> {
        let mut is_null = false;
        // SAFETY: the slot holds a tuple of a table that has these columns, as `open` has checked; it pins the page that the
        // tuple is on until the scan moves on, and a `Message` is only lent until then.
        let datum = unsafe { pg_sys::slot_getattr(self.0, column, &mut is_null) };
        (!is_null).then_some(datum)
    }

    pub fn seq(&self) -> Seq {
        self.datum(SEQ).map_or(0, |datum| datum.value() as Seq)
    }

    pub fn key(&self) -> String {
        // SAFETY: a text column; the value is copied.
        let key = self.datum(KEY).and_then(|key| unsafe { String::from_datum(key, false) });
        key.unwrap_or_default()
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

    fn jsonb(&self, column: i32, context: OuterContext) -> Option<Jsonb> {
        let datum = self.datum(column)?;
        // SAFETY: jsonb columns.
        context.run(|| unsafe { Jsonb::from_datum(copy_varlena(datum), false) })
    }
}

/// [`messages_in`] a snapshot of what is committed by now.
pub fn messages(
    table: pg_sys::Oid,
    ranges: &[(Seq, Seq)],
    f: impl FnMut(&Message) -> bool,
) -> Result<()> {
    let snapshot = Snapshot::newest();
    messages_in(&snapshot, table, ranges, usize::MAX, f)?;
    snapshot.close();
    Ok(())
}

/// Hands `f` the messages with a seq in one of `ranges` (ascending, both ends included) that a snapshot shows, in
/// order, until `f` ends it by returning false, or so many `visits` were made: to entries of the index, visible or not, and
/// to the beginnings of ranges. It always comes further, if only by one seq.
pub fn messages_in(
    snapshot: &Snapshot,
    table: pg_sys::Oid,
    ranges: &[(Seq, Seq)],
    mut visits: usize,
    mut f: impl FnMut(&Message) -> bool,
) -> Result<Reach> {
    let scan = Scan::open(table, snapshot)?;
    let mut reach = Reach::All;
    // The first entry's seq, and the last row's.
    let (mut first, mut last) = (None, None);
    'ranges: for &(from, upto) in ranges {
        if visits == 0 && first.is_some() {
            reach = Reach::UpTo(from - 1);
            break;
        }
        visits = visits.saturating_sub(1);
        scan.start(from, upto);
        while scan.next() {
            if first.is_none() {
                first = Some(scan.seq());
            } else if visits == 0 {
                let seq = scan.seq();
                // A row that was updated has several entries, of which the snapshot shows one at the most.
                if first != Some(seq) {
                    reach = Reach::UpTo(if last == Some(seq) { seq } else { seq - 1 });
                    break 'ranges;
                }
            }
            visits = visits.saturating_sub(1);
            if scan.fetch() {
                let message = Message(scan.slot);
                last = Some(message.seq());
                if !f(&message) {
                    reach = Reach::UpTo(message.seq());
                    break 'ranges;
                }
            }
        }
    }
    scan.close();
    Ok(reach)
}

/// An error if a table can't be read as a stream's; none if it is gone.
pub fn check(table: pg_sys::Oid) -> Result<()> {
    let snapshot = Snapshot::newest();
    match Scan::open(table, &snapshot) {
        Ok(scan) => scan.close(),
        Err(Error::NoStream(_)) => {}
        Err(error) => return Err(error),
    }
    snapshot.close();
    Ok(())
}

struct Scan {
    table: pg_sys::Relation,
    index: pg_sys::Relation,
    scan: pg_sys::IndexScanDesc,
    slot: *mut pg_sys::TupleTableSlot,
}

const LOCK: pg_sys::LOCKMODE = pg_sys::AccessShareLock as pg_sys::LOCKMODE;

impl Scan {
    /// An ERROR on the way leaves nothing behind: the transaction's resource owner closes it all.
    fn open(oid: pg_sys::Oid, snapshot: &Snapshot) -> Result<Scan> {
        // SAFETY: everything that is opened is closed by `close`, in the reverse order; the snapshot stays
        // registered, as whoever has it waits for the scan's end.
        unsafe {
            let table = pg_sys::try_table_open(oid, LOCK);
            if table.is_null() {
                // Dropped since it was looked up.
                return Err(Error::NoStream(super::catalog::relation_name(oid)));
            }
            let index = match has_columns(table, &COLUMNS) {
                true => open_primary_key(table),
                false => std::ptr::null_mut(),
            };
            if index.is_null() {
                pg_sys::table_close(table, LOCK);
                let name = super::catalog::relation_name(oid);
                return Err(Error::NotAStream(name));
            }
            let slot = pg_sys::MakeSingleTupleTableSlot(
                (*table).rd_att,
                pg_sys::table_slot_callbacks(table),
            );
            let scan = begin(table, index, snapshot.as_ptr());
            Ok(Scan { table, index, scan, slot })
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

    /// Moves on to the next entry of the index, whether or not its row is visible.
    fn next(&self) -> bool {
        // SAFETY: a scan that was started. Under an MVCC snapshot an entry has one visible row at the most, so there is
        // never a second one to be fetched for it (see index_getnext_slot).
        let tid = unsafe {
            pg_sys::index_getnext_tid(self.scan, pg_sys::ScanDirection::ForwardScanDirection)
        };
        !tid.is_null()
    }

    /// Has the row of this entry in the slot; false if the snapshot doesn't show it.
    fn fetch(&self) -> bool {
        // SAFETY: the scan stands on an entry; the slot fits the table.
        unsafe { pg_sys::index_fetch_heap(self.scan, self.slot) }
    }

    /// The seq of this entry.
    fn seq(&self) -> Seq {
        const COLUMNS: usize = pg_sys::INDEX_MAX_KEYS as usize;
        let (mut values, mut nulls) = ([pg_sys::Datum::null(); COLUMNS], [false; COLUMNS]);
        // SAFETY: the scan stands on an entry and was told to keep its tuple, of which seq is the first column; an index
        // has no more columns than these.
        unsafe {
            let scan = &*self.scan;
            let (values, nulls) = (values.as_mut_ptr(), nulls.as_mut_ptr());
            pg_sys::index_deform_tuple(scan.xs_itup, scan.xs_itupdesc, values, nulls);
        }
        values[0].value() as Seq
    }

    fn close(self) {
        // SAFETY: pairs with `open`. The lock stays until the transaction ends, as always.
        unsafe {
            pg_sys::index_endscan(self.scan);
            pg_sys::ExecDropSingleTupleTableSlot(self.slot);
            pg_sys::index_close(self.index, LOCK);
            pg_sys::table_close(self.table, pg_sys::NoLock as pg_sys::LOCKMODE);
        }
    }
}

/// The columns that create_stream makes. Their owner can change them, and then they can't be read: datums of
/// another type would be taken for pointers.
pub(super) const COLUMNS: [pg_sys::Oid; 5] =
    [pg_sys::INT8OID, pg_sys::TEXTOID, pg_sys::JSONBOID, pg_sys::JSONBOID, pg_sys::TIMESTAMPTZOID];

/// True if a table's first columns are of these types.
pub(super) unsafe fn has_columns(table: pg_sys::Relation, columns: &[pg_sys::Oid]) -> bool {
    // SAFETY: an open relation, whose descriptor has natts attributes.
    unsafe {
        let descriptor = pgrx::PgTupleDesc::from_pg_unchecked((*table).rd_att);
        columns.iter().enumerate().all(|(n, &column)| {
            descriptor.get(n).is_some_and(|a| a.atttypid == column && !a.attisdropped)
        })
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
        let scan = pg_sys::index_beginscan(table, index, snapshot, 2, 0);
        #[cfg(feature = "pg18")]
        let scan = pg_sys::index_beginscan(table, index, snapshot, std::ptr::null_mut(), 2, 0);
        // Entries that are known to be dead are returned, too: the index would step over any number of them at once.
        (*scan).ignore_killed_tuples = false;
        (*scan).xs_want_itup = true;
        scan
    }
}
