//! Hash maps and sets for integer keys (seqs, key ids, ack_ids): a multiply instead of SipHash.
//!
//! The values are the engine's own, or hashes already. Colliding values could only make the dispatcher slower. No code
//! may depend on the order of iteration.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasherDefault, Hasher};

/// A map whose key is an integer.
pub type IdMap<K, V> = HashMap<K, V, BuildHasherDefault<IdHasher>>;

/// A set of integers.
pub type IdSet<K> = HashSet<K, BuildHasherDefault<IdHasher>>;

/// 2^64 divided by the golden ratio: spreads consecutive integers over the high bits.
const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;

/// Multiplies, and folds the high bits down: the map takes its bucket from the low bits and its tag
/// from the high ones, so both must depend on the whole value, also on an epoch in its high bits.
#[derive(Clone, Copy, Debug, Default)]
pub struct IdHasher(u64);

impl Hasher for IdHasher {
    fn write_u64(&mut self, value: u64) {
        self.0 = (self.0.rotate_left(5) ^ value).wrapping_mul(SPREAD);
    }

    fn write_i64(&mut self, value: i64) {
        self.write_u64(value.cast_unsigned());
    }

    fn write_u32(&mut self, value: u32) {
        self.write_u64(u64::from(value));
    }

    fn write_i32(&mut self, value: i32) {
        self.write_u32(value.cast_unsigned());
    }

    fn write_usize(&mut self, value: usize) {
        self.write_u64(value as u64);
    }

    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.write_u64(u64::from(byte));
        }
    }

    fn finish(&self) -> u64 {
        let folded = (self.0 ^ (self.0 >> 32)).wrapping_mul(SPREAD);
        folded ^ (folded >> 32)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::hash::BuildHasher;

    /// The most values that share one of `slots` (a power of two) under `place`.
    fn fullest(values: impl Iterator<Item = i64>, slots: usize, place: fn(u64) -> u64) -> usize {
        let mut load = vec![0; slots];
        for value in values {
            let hash = BuildHasherDefault::<IdHasher>::default().hash_one(value);
            load[place(hash) as usize & (slots - 1)] += 1;
        }
        load.into_iter().max().unwrap()
    }

    #[test]
    fn regular_values_spread_over_buckets_and_tags() {
        for step in [1, 2, 10, 64, 1000, 1 << 16, 1 << 32, 1 << 48] {
            let values = || (0..16_384).map(move |n: i64| n * step);
            let bucket = fullest(values(), 16_384, |hash| hash);
            let tag = fullest(values(), 128, |hash| hash >> 57);
            assert!(bucket <= 16, "step {step}: {bucket} in a bucket");
            assert!(tag <= 512, "step {step}: {tag} of a tag");
        }
    }

    #[test]
    fn maps_and_sets_work_with_all_the_engine_s_integers() {
        let mut map: IdMap<i64, u32> = IdMap::default();
        map.insert(-1, 1);
        map.insert(i64::MAX, 2);
        assert_eq!((map.get(&-1), map.get(&i64::MAX), map.get(&0)), (Some(&1), Some(&2), None));
        let set: IdSet<(u32, u64)> = [(1, 2), (2, 1), (1, 2)].into_iter().collect();
        assert_eq!(set.len(), 2);
    }
}
