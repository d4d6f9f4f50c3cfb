//! The partitions of a stream that has retention: which seqs are in which of them. A stream without is one plain table.

use super::relcache;
use pgrx::pg_sys;
use sequin_engine::key::Seq;
use std::cell::RefCell;
use std::collections::HashMap;
use std::ffi::CStr;
use std::rc::Rc;

/// Where partitions of streams are.
pub const SCHEMA: &CStr = c"sequin_partition";

#[pgrx::pg_guard]
unsafe extern "C-unwind" {
    /// catalog/partition.h; exported by the server, not bound by pgrx.
    fn get_partition_parent(relid: pg_sys::Oid, even_if_detached: bool) -> pg_sys::Oid;
}

/// A partition, for the seqs between two, both included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Partition {
    pub from: Seq,
    pub upto: Seq,
    pub table: pg_sys::Oid,
}

/// Ascending by seq.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Partitions {
    pub all: Vec<Partition>,
    /// For all other seqs.
    pub rest: Option<pg_sys::Oid>,
}

thread_local! {
    /// `None` for a plain table.
    static CACHE: RefCell<(u64, HashMap<pg_sys::Oid, Option<Rc<Partitions>>>)> = RefCell::default();
}

/// The partitions of a table; `None` if it has none, as it isn't made so.
pub fn of(table: pg_sys::Oid) -> Option<Rc<Partitions>> {
    let generation = relcache::generation();
    let cached = CACHE.with_borrow_mut(|(of, map)| {
        if *of != generation {
            map.clear();
            *of = generation;
        }
        map.get(&table).cloned()
    });
    if let Some(cached) = cached {
        return cached;
    }
    let found = read(table).map(Rc::new);
    CACHE.with_borrow_mut(|(of, map)| {
        if *of == relcache::generation() {
            map.insert(table, found.clone());
        }
    });
    found
}

/// The same, with all that is committed by now. The table must be locked.
pub fn of_now(table: pg_sys::Oid) -> Option<Rc<Partitions>> {
    // SAFETY: in a transaction.
    of(table).and_then(|_| unsafe {
        pg_sys::AcceptInvalidationMessages();
        of(table)
    })
}

/// Whether a table is partitioned.
pub fn has_any(table: pg_sys::Oid) -> bool {
    // SAFETY: looks the table up in the catalog cache.
    let kind = unsafe { pg_sys::get_rel_relkind(table) };
    kind.cast_unsigned() == pg_sys::RELKIND_PARTITIONED_TABLE
}

/// The stream's table that a table is a partition of, if it is one of those that sequin makes.
pub fn root_of(partition: pg_sys::Oid) -> Option<pg_sys::Oid> {
    // SAFETY: looks the table up in the catalog cache; a partition has a parent.
    unsafe {
        let is_partition = is_in_schema(partition) && pg_sys::get_rel_relispartition(partition);
        is_partition.then(|| get_partition_parent(partition, true))
    }
}

/// True for a table in the schema of partitions.
pub(in crate::pg) fn is_in_schema(table: pg_sys::Oid) -> bool {
    // SAFETY: looks both up in the catalog caches.
    unsafe {
        let schema = pg_sys::get_namespace_oid(SCHEMA.as_ptr(), true);
        schema != pg_sys::InvalidOid && pg_sys::get_rel_namespace(table) == schema
    }
}

fn read(table: pg_sys::Oid) -> Option<Partitions> {
    if !has_any(table) {
        return None;
    }
    // SAFETY: an open relation's descriptor of its partitions, which stays as it is while the relation is open; it has
    // as many bounds and partitions as it says. An ERROR on the way leaves nothing.
    unsafe {
        let lock = pg_sys::AccessShareLock.cast_signed();
        let relation = pg_sys::try_table_open(table, lock);
        if relation.is_null() {
            return None;
        }
        let descriptor = &*pg_sys::RelationGetPartitionDesc(relation, true);
        let mut partitions = Partitions::default();
        if let Some(bounds) = descriptor.boundinfo.as_ref() {
            let oid = |index: i32| {
                let index = usize::try_from(index).ok()?;
                Some(*descriptor.oids.add(index))
            };
            partitions.rest = oid(bounds.default_index);
            // Between two bounds in a row is the partition whose index belongs to the second one.
            for n in 1..usize::try_from(bounds.ndatums).unwrap_or(0) {
                if let Some(table) = oid(*bounds.indexes.add(n)) {
                    let (from, upto) = (bound(bounds, n - 1), bound(bounds, n).saturating_sub(1));
                    partitions.all.push(Partition { from, upto, table });
                }
            }
        }
        pg_sys::table_close(relation, lock);
        Some(partitions)
    }
}

/// A bound, which is the first seq that is not below it.
unsafe fn bound(bounds: &pg_sys::PartitionBoundInfoData, n: usize) -> Seq {
    use pg_sys::PartitionRangeDatumKind as Kind;
    // SAFETY: bounds by range have a kind for each of their columns; these have one column.
    unsafe {
        match **bounds.kind.add(n) {
            Kind::PARTITION_RANGE_DATUM_MINVALUE => Seq::MIN,
            Kind::PARTITION_RANGE_DATUM_MAXVALUE => Seq::MAX,
            _ => (**bounds.datums.add(n)).value() as Seq,
        }
    }
}

/// Parts of a range of seqs, each with the table that has them.
pub(in crate::pg) struct Parts<'a> {
    partitions: Option<&'a Partitions>,
    table: pg_sys::Oid,
    next: Option<Seq>,
    upto: Seq,
}

/// The parts of the range from `from` to `upto` of a table with these partitions.
pub(in crate::pg) fn parts(
    partitions: Option<&Partitions>,
    table: pg_sys::Oid,
    (from, upto): (Seq, Seq),
) -> Parts<'_> {
    Parts { partitions, table, next: Some(from), upto }
}

impl Iterator for Parts<'_> {
    type Item = (Seq, Seq, pg_sys::Oid);

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let from = self.next.filter(|&from| from <= self.upto)?;
            let Some(partitions) = self.partitions else {
                self.next = None;
                return Some((from, self.upto, self.table));
            };
            let (end, table) = partitions.at(from);
            let upto = end.min(self.upto);
            self.next = upto.checked_add(1);
            if let Some(table) = table {
                return Some((from, upto, table));
            }
        }
    }
}

impl Partitions {
    /// All of them, with the rest.
    pub fn tables(&self) -> impl Iterator<Item = pg_sys::Oid> {
        self.all.iter().map(|it| it.table).chain(self.rest)
    }

    /// The table that a seq is in, if there is one, and the last of the seqs from there on of which that is so.
    pub fn at(&self, seq: Seq) -> (Seq, Option<pg_sys::Oid>) {
        let next = self.all.partition_point(|it| it.upto < seq);
        match self.all.get(next) {
            Some(it) if it.from <= seq => (it.upto, Some(it.table)),
            Some(it) => (it.from - 1, self.rest),
            None => (Seq::MAX, self.rest),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Partition, Partitions, parts};
    use pgrx::pg_sys::Oid;
    use sequin_engine::key::Seq;

    #[test]
    fn a_range_is_read_from_the_tables_that_have_its_seqs() {
        let table = |n: u32| Oid::from(n);
        let partition = |from, upto, n| Partition { from, upto, table: table(n) };
        let all = vec![partition(Seq::MIN, 10, 1), partition(11, 20, 2), partition(31, 40, 3)];
        let some = Partitions { all, rest: Some(table(9)) };
        let read = |of: Option<&Partitions>, from, upto| -> Vec<(Seq, Seq, u32)> {
            parts(of, table(7), (from, upto)).map(|(a, b, it)| (a, b, it.to_u32())).collect()
        };
        assert_eq!(read(None, 5, 50), [(5, 50, 7)]);
        assert_eq!(read(Some(&some), 5, 10), [(5, 10, 1)]);
        let whole = [(5, 10, 1), (11, 20, 2), (21, 30, 9), (31, 40, 3), (41, Seq::MAX, 9)];
        assert_eq!(read(Some(&some), 5, Seq::MAX), whole);
        assert_eq!(read(Some(&some), 25, 20), []);
        let none = Partitions { all: some.all, rest: None };
        assert_eq!(read(Some(&none), 15, 35), [(15, 20, 2), (31, 35, 3)]);
        assert_eq!(read(Some(&none), 50, 60), []);
    }
}
