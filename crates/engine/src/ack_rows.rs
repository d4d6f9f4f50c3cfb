//! The rows of sequin.acks that a checkpoint contains, as ranges of ids: a DELETE with a list of ids might read all
//! rows of the consumer, dead ones too.

use crate::ids::AckRowId;

/// The `applied` rows as ranges. No range contains an `open` row, whose transaction may still commit. Up to the last
/// checkpoint, `after`, where there may be very many dead rows, each row is a range of its own.
pub fn ranges(
    mut applied: Vec<AckRowId>,
    mut open: Vec<AckRowId>,
    after: i64,
) -> Vec<(AckRowId, AckRowId)> {
    applied.sort_unstable();
    open.sort_unstable();
    let mut ranges: Vec<(AckRowId, AckRowId)> = Vec::new();
    for row in applied {
        let is_free = |&(_, last): &(AckRowId, AckRowId)| {
            let next_open = open.get(open.partition_point(|&open| open <= last));
            last.0 > after && next_open.is_none_or(|&open| open > row)
        };
        match ranges.last_mut().filter(|range| is_free(range)) {
            Some((_, last)) => *last = row,
            None => ranges.push((row, row)),
        }
    }
    ranges
}

#[cfg(test)]
mod tests {
    use crate::ids::AckRowId;
    use proptest::collection::vec;
    use proptest::prelude::*;

    fn ranges(applied: &[i64], open: &[i64], after: i64) -> Vec<(i64, i64)> {
        let ids = |rows: &[i64]| rows.iter().copied().map(AckRowId).collect();
        let ranges = super::ranges(ids(applied), ids(open), after);
        ranges.into_iter().map(|(first, last)| (first.0, last.0)).collect()
    }

    #[test]
    fn an_open_row_divides_and_rows_before_the_last_checkpoint_stand_alone() {
        assert_eq!(ranges(&[], &[5], 3), []);
        assert_eq!(ranges(&[9, 4, 7], &[], 3), [(4, 9)]);
        assert_eq!(ranges(&[9, 4, 7], &[8, 20], 3), [(4, 7), (9, 9)]);
        assert_eq!(ranges(&[1, 2, 4, 7], &[], 3), [(1, 1), (2, 2), (4, 7)]);
    }

    proptest! {
        #[test]
        fn ranges_have_all_applied_rows_and_no_open_one(
            applied in vec(0i64..60, 0..20), open in vec(0i64..60, 0..10), after in 0i64..60,
        ) {
            let applied: Vec<i64> = applied.into_iter().filter(|row| !open.contains(row)).collect();
            let ranges = ranges(&applied, &open, after);
            let has = |row: &i64| ranges.iter().any(|(lo, hi)| (lo..=hi).contains(&row));
            prop_assert!(applied.iter().all(has));
            prop_assert!(!open.iter().any(has));
            prop_assert!(ranges.iter().all(|(lo, hi)| lo == hi || *lo > after));
        }
    }
}
