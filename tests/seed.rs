//! Random choices that can be made again: a failing test says its seed, and SEED sets it.

use std::thread;

use fastrand::Rng;

pub struct Seed(u64);

impl Seed {
    pub fn new() -> Self {
        let given = std::env::var("SEED").ok();
        let parse = |seed: String| seed.parse().expect("SEED is a number");
        Self(given.map_or_else(|| fastrand::u64(..), parse))
    }

    pub fn number(&self) -> u64 {
        self.0
    }

    /// The choices of one of several that choose.
    pub fn rng(&self, of: u64) -> Rng {
        Rng::with_seed(self.0.wrapping_add(of))
    }
}

impl Drop for Seed {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("to choose the same again: SEED={}", self.0);
        }
    }
}
