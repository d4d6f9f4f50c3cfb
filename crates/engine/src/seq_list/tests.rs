use super::*;
use proptest::prelude::*;
use std::collections::BTreeSet;

fn list(seqs: impl IntoIterator<Item = Seq>) -> SeqList {
    let mut list = SeqList::default();
    seqs.into_iter().for_each(|seq| assert!(list.insert(seq)));
    list
}

fn seqs(list: &SeqList, from: Seq) -> Vec<Seq> {
    list.runs_from(from).flat_map(|(lo, hi)| lo..=hi).collect()
}

/// The lowest block is the lowest, all are in order, and the sizes that they report are right.
fn check(list: &SeqList) {
    let blocks = || list.lowest.iter().chain(list.others.values());
    assert_eq!(list.coded, blocks().map(|block| block.coded.capacity()).sum::<usize>());
    assert!(blocks().is_sorted_by(|a, b| a.last < b.first.0));
    assert!(list.others.iter().all(|(&first, block)| first == block.first.0));
    assert_eq!(list.is_empty(), list.lowest.is_none());
    assert_eq!(list.last(), list.runs_from(Seq::MIN).last().map(|(_, hi)| hi));
}

#[test]
fn consecutive_seqs_cost_nothing_and_scattered_ones_at_most_four_bytes() {
    const MILLION: Seq = 1_000_000;
    assert!(list(0..MILLION).bytes() < 200);
    for (gap, most) in [(2, 2.7), (3, 2.7), (129, 2.7), (130, 4.0), (16_000, 4.0)] {
        let list = list((0..MILLION).map(|n| n * gap));
        let each = list.bytes() as f64 / list.len() as f64;
        assert!(each <= most, "{each} bytes each of every {gap}th");
        check(&list);
    }
}

#[test]
fn a_list_filled_from_its_end_is_as_long_as_another() {
    let mut list = list((0..10_000).rev().map(|n| n * 3));
    check(&list);
    assert!(list.bytes() < 45_000, "{} bytes", list.bytes());
    assert!(list.others.values().all(|block| block.coded.len() <= BLOCK));
    for n in 0..10_000 {
        assert_eq!((list.first(), list.pop_first()), (Some(n * 3), Some(n * 3)));
    }
    check(&list);
    assert_eq!(list.pop_first(), None);
}

#[test]
fn the_ends_of_the_numbers_do_not_overflow() {
    let ends = [Seq::MIN, Seq::MIN + 1, -1, 0, Seq::MAX - 1, Seq::MAX];
    let mut list = list(ends);
    assert_eq!(seqs(&list, Seq::MIN), ends);
    assert_eq!(seqs(&list, Seq::MAX), [Seq::MAX]);
    assert!(!list.insert(Seq::MAX) && list.remove(Seq::MAX) && list.insert(Seq::MAX));
    assert_eq!(std::iter::from_fn(|| list.pop_first()).collect::<Vec<_>>(), ends);
}

#[derive(Debug, Clone)]
enum Op {
    Push { gap: u16, count: u8 },
    Insert(u16),
    Remove(u16),
    Pop(u8),
}

fn op() -> impl Strategy<Value = Op> {
    // Most gaps are small, so that runs grow together, and some have longer varints.
    let gap = prop_oneof![4 => 1..3_u16, 1 => 1..300_u16];
    prop_oneof![
        4 => (gap, 0..100_u8).prop_map(|(gap, count)| Op::Push { gap, count }),
        6 => any::<u16>().prop_map(Op::Insert),
        3 => any::<u16>().prop_map(Op::Remove),
        1 => any::<u8>().prop_map(Op::Pop),
    ]
}

proptest! {
    #[test]
    fn a_list_is_a_set(ops in prop::collection::vec(op(), 0..200), from in any::<u16>()) {
        let (mut list, mut set) = (SeqList::default(), BTreeSet::new());
        for op in ops {
            // Somewhere among the existing seqs, or just beside them.
            let last = set.last().copied().unwrap_or(0);
            let within = |n: u16| Seq::from(n) % (last + 3) - 1;
            match op {
                Op::Push { gap, count } => {
                    for n in 1..=Seq::from(count) {
                        let seq = last + n * Seq::from(gap);
                        prop_assert_eq!(list.insert(seq), set.insert(seq));
                    }
                }
                Op::Insert(n) => prop_assert_eq!(list.insert(within(n)), set.insert(within(n))),
                Op::Remove(n) => prop_assert_eq!(list.remove(within(n)), set.remove(&within(n))),
                Op::Pop(count) => {
                    for _ in 0..count {
                        prop_assert_eq!(list.pop_first(), set.pop_first());
                    }
                }
            }
            prop_assert_eq!((list.len(), list.first()), (set.len(), set.first().copied()));
            check(&list);
        }
        prop_assert!(seqs(&list, Seq::MIN).into_iter().eq(set.iter().copied()));
        let from = Seq::from(from);
        prop_assert!(seqs(&list, from).into_iter().eq(set.range(from..).copied()));
        prop_assert!((-1..1000).all(|seq| list.contains(seq) == set.contains(&seq)));
    }
}
