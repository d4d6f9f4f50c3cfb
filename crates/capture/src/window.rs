//! Which rows of a backfill's chunk are still as they were read, when WAL has been decoded up to the chunk's watermark.

use std::collections::HashMap;

/// The result of pg_current_snapshot(): which transactions a query sees.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// All committed transactions below are seen.
    xmin: u64,
    /// No transaction from here on is seen.
    xmax: u64,
    /// These were in progress, and so aren't seen.
    in_progress: Vec<u64>,
}

impl Snapshot {
    /// Reads `xmin:xmax:xid,xid`.
    pub fn parse(text: &str) -> Option<Snapshot> {
        let mut parts = text.splitn(3, ':');
        let xmin = parts.next()?.parse().ok()?;
        let xmax = parts.next()?.parse().ok()?;
        let in_progress = match parts.next()? {
            "" => Ok(Vec::new()),
            list => list.split(',').map(str::parse).collect(),
        };
        let mut in_progress: Vec<u64> = in_progress.ok()?;
        in_progress.sort_unstable();
        (xmin <= xmax).then_some(Snapshot { xmin, xmax, in_progress })
    }

    /// Whether it sees a transaction that has committed by now.
    ///
    /// WAL has only the lower half of a transaction id. The whole id is the one nearest to xmax: all transactions that
    /// this is called for are less than 2^31 ids away.
    pub fn sees(&self, xid: u32) -> bool {
        let distance = xid.wrapping_sub(self.xmax as u32).cast_signed();
        let Some(xid) = self.xmax.checked_add_signed(i64::from(distance)) else { return true };
        xid < self.xmin || (xid < self.xmax && self.in_progress.binary_search(&xid).is_err())
    }
}

/// A row of a chunk. Values are as their types' output functions write them; the record is JSON.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Row {
    /// The values of the columns that determine the order in which the table is read.
    pub key: Vec<String>,
    /// The values of the primary key, if there is one and the publication has all of it.
    pub pk: Option<Vec<String>>,
    /// The values of the key format's columns, in its order.
    pub columns: Vec<Option<String>>,
    pub record: String,
}

/// The rows of a chunk, without those that have changed since.
#[derive(Debug)]
pub struct Chunk {
    snapshot: Snapshot,
    rows: Vec<Option<Row>>,
    by_key: HashMap<Box<str>, usize>,
}

impl Chunk {
    /// The rows as they were read under the snapshot, in order.
    pub fn new(snapshot: Snapshot, rows: Vec<Row>) -> Chunk {
        let name = |(n, row): (usize, &Row)| (joined(&row.key).into_boxed_str(), n);
        let by_key = rows.iter().enumerate().map(name).collect();
        Chunk { snapshot, rows: rows.into_iter().map(Some).collect(), by_key }
    }

    /// A transaction has updated, inserted or deleted the row with this key.
    pub fn changed(&mut self, xid: u32, key: &[&str]) {
        if !self.snapshot.sees(xid)
            && let Some(&n) = self.by_key.get(joined(key).as_str())
        {
            self.rows[n] = None;
        }
    }

    /// A transaction has emptied the table.
    pub fn truncated(&mut self, xid: u32) {
        if !self.snapshot.sees(xid) {
            self.rows.clear();
            self.by_key.clear();
        }
    }

    /// The rows that have not changed, in order.
    pub fn into_rows(self) -> Vec<Row> {
        self.rows.into_iter().flatten().collect()
    }
}

/// The values of a key as one text, which is different for different keys.
fn joined<T: AsRef<str>>(key: &[T]) -> String {
    let mut joined = String::new();
    for value in key {
        let value = value.as_ref();
        // No text of PostgreSQL contains a zero byte.
        joined.push_str(value);
        joined.push('\0');
    }
    joined
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn snapshot(text: &str) -> Snapshot {
        Snapshot::parse(text).unwrap()
    }

    fn chunk(snapshot_text: &str, keys: &[&[&str]]) -> Chunk {
        let row = |key: &&[&str]| Row {
            key: key.iter().map(|value| value.to_string()).collect(),
            ..Row::default()
        };
        Chunk::new(snapshot(snapshot_text), keys.iter().map(row).collect())
    }

    fn keys(chunk: Chunk) -> Vec<String> {
        chunk.into_rows().iter().map(|row| row.key.join("/")).collect()
    }

    #[test]
    fn a_snapshot_is_read_as_postgresql_writes_it() {
        let expected = Snapshot { xmin: 10, xmax: 20, in_progress: vec![10, 15] };
        assert_eq!(snapshot("10:20:10,15"), expected);
        assert!(snapshot("5:5:").in_progress.is_empty());
        assert!(Snapshot::parse("4294967300:4294967301:4294967300").is_some());
        for text in ["", "10", "10:20", "20:10:", "a:b:", "10:20:1,", "10:20:1,,2", "10:20:x"] {
            assert_eq!(Snapshot::parse(text), None, "{text}");
        }
    }

    #[test]
    fn a_snapshot_sees_what_had_ended() {
        let snapshot = snapshot("10:20:10,15");
        let seen: Vec<u32> = (3..25).filter(|&xid| snapshot.sees(xid)).collect();
        assert_eq!(seen, [3, 4, 5, 6, 7, 8, 9, 11, 12, 13, 14, 16, 17, 18, 19]);
    }

    #[test]
    fn a_snapshot_sees_across_the_end_of_the_range_of_transaction_ids() {
        // The last two of the first round, and the first of the second.
        let snapshot = snapshot("4294967294:4294967301:4294967294,4294967299");
        assert!(snapshot.sees(4_294_967_293));
        assert!(!snapshot.sees(4_294_967_294));
        assert!(snapshot.sees(4_294_967_295));
        assert!(!snapshot.sees(3));
        assert!(snapshot.sees(4));
        assert!(!snapshot.sees(5));
        assert!(!snapshot.sees(1_000_000));
    }

    proptest! {
        #[test]
        fn halves_of_transaction_ids_say_what_whole_ones_say(
            xmin in 3_000_000_000_u64..1 << 40,
            open in prop::collection::btree_set(0_u64..50, 0..10),
            of in -100_i64..100,
        ) {
            let xmax = xmin + 50;
            let list: Vec<String> = open.iter().map(|n| (xmin + n).to_string()).collect();
            let snapshot = snapshot(&format!("{xmin}:{xmax}:{}", list.join(",")));
            let xid = xmin.checked_add_signed(of).unwrap();
            let seen = xid < xmax && !(of >= 0 && open.contains(&of.unsigned_abs()));
            prop_assert_eq!(snapshot.sees(xid as u32), seen);
        }
    }

    #[test]
    fn a_row_changed_by_a_transaction_not_seen_is_dropped() {
        let mut chunk = chunk("10:20:15", &[&["1"], &["2"], &["3"]]);
        chunk.changed(12, &["1"]);
        chunk.changed(15, &["2"]);
        chunk.changed(15, &["2"]);
        chunk.changed(20, &["4"]);
        assert_eq!(keys(chunk), ["1", "3"]);
    }

    #[test]
    fn keys_of_several_columns_are_not_mistaken_for_each_other() {
        let mut chunk = chunk("10:20:", &[&["a", "bc"], &["ab", "c"], &["abc"], &["abc", ""]]);
        chunk.changed(20, &["ab", "c"]);
        chunk.changed(20, &["abc", ""]);
        assert_eq!(keys(chunk), ["a/bc", "abc"]);
    }

    #[test]
    fn truncation_drops_all_rows_unless_they_came_after_it() {
        let mut before = chunk("10:20:", &[&["1"], &["2"]]);
        before.truncated(20);
        before.changed(21, &["1"]);
        assert!(keys(before).is_empty());
        let mut after = chunk("10:20:", &[&["1"], &["2"]]);
        after.truncated(19);
        assert_eq!(keys(after), ["1", "2"]);
    }
}
