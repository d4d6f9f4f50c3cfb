//! Faults that need a script each: full disks, failovers and dumps under load, maintenance in the way, large numbers.

mod captured;
mod load;
mod mount;

mod disk;
mod dump;
mod locks;
mod maintenance;
mod scale;
mod standby;
mod upgrade;

use libtest_mimic::Trial;

pub fn tests() -> Vec<Trial> {
    // The longest ones first: nothing is then left alone at the end.
    let tests = [
        scale::tests(),
        disk::tests(),
        dump::tests(),
        locks::tests(),
        maintenance::tests(),
        standby::tests(),
        upgrade::tests(),
    ];
    tests.into_iter().flatten().collect()
}
