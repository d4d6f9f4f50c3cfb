use super::*;
use proptest::prelude::*;
use std::collections::BTreeSet;

fn set(pairs: &[Seq]) -> RangeSet {
    RangeSet::from_pairs(pairs).unwrap()
}

#[test]
fn neighbours_become_one_range() {
    let mut ranges = RangeSet::new();
    ranges.insert(1);
    ranges.insert(3);
    assert_eq!(ranges.to_pairs(), [1, 1, 3, 3]);
    ranges.insert(2);
    assert_eq!(ranges.to_pairs(), [1, 3]);
    ranges.insert_range(10, 20);
    ranges.insert_range(4, 9);
    assert_eq!(ranges.to_pairs(), [1, 20]);
    assert_eq!((ranges.first(), ranges.last(), ranges.range_count()), (Some(1), Some(20), 1));
}

#[test]
fn removing_cuts_a_range() {
    let mut ranges = set(&[1, 10]);
    assert!(ranges.remove(5));
    assert!(!ranges.remove(5));
    assert_eq!(ranges.to_pairs(), [1, 4, 6, 10]);
    ranges.remove_range(3, 7);
    assert_eq!(ranges.to_pairs(), [1, 2, 8, 10]);
    ranges.remove_range(0, 100);
    assert!(ranges.is_empty());
}

#[test]
fn the_ends_of_the_numbers_do_not_overflow() {
    let mut ranges = RangeSet::new();
    ranges.insert_range(Seq::MAX - 1, Seq::MAX);
    ranges.insert_range(Seq::MIN, Seq::MIN + 1);
    assert_eq!(ranges.range_count(), 2);
    assert_eq!(ranges.first_gap_from(Seq::MAX - 1), Seq::MAX);
    ranges.insert_range(Seq::MIN, Seq::MAX);
    assert_eq!(ranges.to_pairs(), [Seq::MIN, Seq::MAX]);
    ranges.insert(Seq::MAX);
    assert!(ranges.remove(Seq::MAX) && ranges.remove(Seq::MIN));
    assert_eq!(ranges.to_pairs(), [Seq::MIN + 1, Seq::MAX - 1]);
    ranges.remove_range(Seq::MIN, Seq::MAX);
    assert!(ranges.is_empty());
}

#[test]
fn a_malformed_list_is_refused() {
    assert_eq!(RangeSet::from_pairs(&[1]), Err(RangesError::OddLength(1)));
    assert_eq!(RangeSet::from_pairs(&[2, 1]), Err(RangesError::Reversed { lo: 2, hi: 1 }));
    let unordered = Err(RangesError::Unordered { before: 5, lo: 5 });
    assert_eq!(RangeSet::from_pairs(&[1, 5, 5, 9]), unordered);
    assert_eq!(set(&[1, 5, 6, 9]).to_pairs(), [1, 9]);
    assert_eq!(set(&[]), RangeSet::new());
}

#[derive(Clone, Debug)]
enum Op {
    Insert(Seq, Seq),
    Remove(Seq, Seq),
    RemoveOne(Seq),
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        (0..60_i64, -1..12_i64).prop_map(|(lo, len)| Op::Insert(lo, lo + len)),
        (0..60_i64, -1..12_i64).prop_map(|(lo, len)| Op::Remove(lo, lo + len)),
        (0..60_i64).prop_map(Op::RemoveOne),
    ]
}

/// The members of `model` at or above `from`, as ranges.
fn ranges_of(model: &BTreeSet<Seq>, from: Seq) -> Vec<(Seq, Seq)> {
    let mut ranges: Vec<(Seq, Seq)> = Vec::new();
    for &seq in model.range(from..) {
        match ranges.last_mut() {
            Some((_, hi)) if *hi + 1 == seq => *hi = seq,
            _ => ranges.push((seq, seq)),
        }
    }
    ranges
}

proptest! {
    #[test]
    fn it_is_the_set_of_its_seqs(ops in prop::collection::vec(op(), 1..60),
                                 from in -2..75_i64, len in -1..20_i64) {
        let mut ranges = RangeSet::new();
        let mut model = BTreeSet::new();
        for op in ops {
            match op {
                Op::Insert(lo, hi) => {
                    ranges.insert_range(lo, hi);
                    model.extend(lo..=hi);
                }
                Op::Remove(lo, hi) => {
                    ranges.remove_range(lo, hi);
                    model.retain(|seq| !(lo..=hi).contains(seq));
                }
                Op::RemoveOne(seq) => prop_assert_eq!(ranges.remove(seq), model.remove(&seq)),
            }
            prop_assert_eq!(ranges.iter().collect::<Vec<_>>(), ranges_of(&model, Seq::MIN));
        }
        prop_assert_eq!(ranges.iter_from(from).collect::<Vec<_>>(), ranges_of(&model, from));
        let within = model.range(..=from + len).copied().collect();
        prop_assert_eq!(
            ranges.iter_within(from, from + len).collect::<Vec<_>>(),
            ranges_of(&within, from)
        );
        prop_assert_eq!(ranges.contains(from), model.contains(&from));
        prop_assert_eq!(ranges.first(), model.first().copied());
        prop_assert_eq!(ranges.last(), model.last().copied());
        prop_assert_eq!(ranges.is_empty(), model.is_empty());
        let gap = (from..).find(|seq| !model.contains(seq)).unwrap();
        prop_assert_eq!(ranges.first_gap_from(from), gap);
        prop_assert_eq!(RangeSet::from_pairs(&ranges.to_pairs()), Ok(ranges));
    }
}

proptest! {
    #[test]
    fn what_is_taken_away_in_one_pass_is_gone(kept in prop::collection::vec((0..90_i64, 0..9_i64), 0..20),
                                              taken in prop::collection::vec((0..90_i64, 0..4_i64), 0..20)) {
        let of = |runs: Vec<(Seq, Seq)>| {
            let mut ranges = RangeSet::new();
            runs.into_iter().for_each(|(lo, len)| ranges.insert_range(lo, lo + len));
            ranges
        };
        let (kept, taken) = (of(kept), of(taken));
        let mut expected = kept.clone();
        taken.iter().for_each(|(lo, hi)| expected.remove_range(lo, hi));
        prop_assert_eq!(kept.without(taken.iter()), expected);
        // The same if the ranges that are removed touch.
        let singles = taken.iter().flat_map(|(lo, hi)| lo..=hi).map(|seq| (seq, seq));
        prop_assert_eq!(kept.without(singles), kept.without(taken.iter()));
    }
}
