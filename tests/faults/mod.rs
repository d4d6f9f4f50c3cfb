//! Faults that need a script each: full disks, failovers and dumps under load, maintenance in the way, large numbers.

mod load;
mod locks;
mod mount;

mod disk;
mod dump;
mod standby;
mod upgrade;

use libtest_mimic::Trial;

pub fn tests() -> Vec<Trial> {
    [disk::tests(), standby::tests(), dump::tests(), upgrade::tests(), locks::tests()]
        .into_iter()
        .flatten()
        .collect()
}
