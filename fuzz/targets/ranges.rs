//! A set of seqs is the set that it should be, also at the ends of bigint; and a list of bounds from a table is such a
//! set or is refused.
#![no_main]

use std::collections::BTreeSet;

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use sequin_engine::ranges::RangeSet;

#[derive(Arbitrary, Debug)]
enum Op {
    Insert(u8, u8),
    Remove(u8, u8),
    RemoveOne(u8),
    PopFirst,
}

#[derive(Arbitrary, Debug)]
struct Input {
    /// Where the seqs lie.
    place: u8,
    ops: Vec<Op>,
    pairs: Vec<i64>,
}

fuzz_target!(|input: Input| {
    let base = [0, i64::MIN, i64::MAX - 255][usize::from(input.place) % 3];
    let seq = |n: u8| base + i64::from(n);
    let (mut set, mut reference) = (RangeSet::new(), BTreeSet::new());
    for op in input.ops {
        match op {
            Op::Insert(lo, hi) => {
                set.insert_range(seq(lo), seq(hi));
                reference.extend((seq(lo)..=seq(hi)).collect::<Vec<_>>());
            }
            Op::Remove(lo, hi) => {
                set.remove_range(seq(lo), seq(hi));
                reference.retain(|n| !(seq(lo)..=seq(hi)).contains(n));
            }
            Op::RemoveOne(n) => assert_eq!(set.remove(seq(n)), reference.remove(&seq(n))),
            Op::PopFirst => {
                if let Some((lo, hi)) = set.pop_first() {
                    reference.retain(|n| !(lo..=hi).contains(n));
                }
            }
        }
        let members = set.iter().flat_map(|(lo, hi)| lo..=hi);
        assert!(members.eq(reference.iter().copied()), "{set:?}");
        assert_eq!(
            (set.first(), set.last()),
            (reference.first().copied(), reference.last().copied())
        );
        for n in [0, 1, 128, 254, 255].map(seq) {
            assert_eq!(set.contains(n), reference.contains(&n));
            let gap = (n..=i64::MAX).find(|n| !reference.contains(n)).unwrap_or(i64::MAX);
            assert_eq!(set.first_gap_from(n), gap);
            let within = set.iter_within(n, seq(200)).flat_map(|(lo, hi)| lo..=hi);
            assert!(within.eq(reference.iter().copied().filter(|m| (n..=seq(200)).contains(m))));
        }
    }
    assert_eq!(RangeSet::from_pairs(&set.to_pairs()), Ok(set));
    if let Ok(set) = RangeSet::from_pairs(&input.pairs) {
        for (lo, hi) in input.pairs.as_chunks::<2>().0.iter().map(|&[lo, hi]| (lo, hi)) {
            assert!(set.contains(lo) && set.contains(hi));
        }
        assert_eq!(RangeSet::from_pairs(&set.to_pairs()), Ok(set));
    }
});
