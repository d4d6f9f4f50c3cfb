//! Others that do something at the same time.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use postgres::{Client, Error};

use crate::calls::millis;
use sequin_testkit::cluster::Database;

/// Tells the others that they are to end.
pub struct Done(AtomicBool);

impl Done {
    pub fn is_set(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }
}

/// Runs `work` for 1 to `count`, in threads, while `act` runs; then, or when it fails, ends them.
pub fn while_others<R>(count: u64, work: impl Fn(u64, &Done) + Sync, act: impl FnOnce() -> R) -> R {
    let done = Done(AtomicBool::new(false));
    thread::scope(|scope| {
        for n in 1..=count {
            let (work, done) = (&work, &done);
            scope.spawn(move || work(n, done));
        }
        let _ends = SetAtEnd(&done);
        act()
    })
}

/// Repeats a step until the end, with a new connection after every failure.
pub fn keep_on(
    database: &Database,
    done: &Done,
    mut step: impl FnMut(&mut Client) -> Result<(), Error>,
) {
    /// Between two attempts to connect to a server that isn't there.
    const PAUSE: Duration = millis(20);
    while !done.is_set() {
        let Ok(mut client) = database.cluster.try_connect(&database.name) else {
            thread::sleep(PAUSE);
            continue;
        };
        while !done.is_set() && step(&mut client).is_ok() {}
    }
}

/// A scope waits for its threads, also when its body fails.
struct SetAtEnd<'a>(&'a Done);

impl Drop for SetAtEnd<'_> {
    fn drop(&mut self) {
        self.0.0.store(true, Ordering::SeqCst);
    }
}
