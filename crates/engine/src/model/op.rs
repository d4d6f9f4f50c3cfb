//! The operations, as random numbers. Each is resolved against the state at that moment, so that any sequence of
//! operations makes sense and a failing one can be shortened anywhere.

use proptest::prelude::*;

/// Sessions, and so publishers, at a time.
pub const SESSIONS: usize = 4;

#[derive(Debug, Clone, Copy)]
pub enum Op {
    /// Takes seqs in the session's transaction.
    Publish {
        session: u8,
        count: u8,
        keys: u16,
    },
    Receive {
        session: u8,
        consumer: u8,
        batch: u8,
        lease: u8,
    },
    Finish {
        session: u8,
        which: u8,
        count: u8,
        rejected: bool,
    },
    Nack {
        session: u8,
        which: u8,
        count: u8,
        delay: Option<u8>,
    },
    Extend {
        which: u8,
        lease: u8,
    },
    Redeliver {
        session: u8,
        consumer: u8,
        which: u16,
    },
    Savepoint {
        session: u8,
    },
    RollBackTo {
        session: u8,
        which: u8,
    },
    /// Ends a transaction, which the dispatcher notices at once or later.
    Commit {
        session: u8,
        synced: bool,
        noticed: bool,
    },
    Abort {
        session: u8,
        noticed: bool,
    },
    Look {
        ranges: u8,
        rows: u8,
        visits: u8,
        fails: bool,
    },
    /// Reads for a detached consumer; sometimes a look comes in between.
    CatchUp {
        consumer: u8,
        rows: u8,
        visits: u8,
        interrupted: bool,
    },
    Tick,
    Wait {
        micros: u8,
    },
    /// An hour forth or back.
    StepClock {
        forth: bool,
    },
    WriteOutbox {
        consumer: u8,
    },
    Checkpoint {
        consumer: u8,
    },
    Restart {
        how: Restart,
    },
    Alter {
        consumer: u8,
        what: Alter,
        value: u8,
        anew: bool,
    },
    Rewind {
        consumer: u8,
        to: u16,
    },
    /// Another share of the memory.
    Budget {
        consumer: u8,
        share: u8,
    },
    /// Removes the oldest messages of the table.
    Retain {
        count: u8,
    },
}

#[derive(Debug, Clone, Copy)]
pub enum Restart {
    /// Everything is written.
    Clean { checkpoints: u8 },
    /// The dispatcher's memory is gone.
    Killed,
    /// The server's memory is gone too, and part of what was not flushed to disk.
    PowerCut { kept: u8 },
}

#[derive(Debug, Clone, Copy)]
pub enum Alter {
    MaxAckPending,
    MaxDeliver,
    Backoff,
    Ordered,
    Paused,
    Filters,
}

/// How often each operation comes, and how it is made from random numbers.
type Kind = (u32, fn(&mut Numbers) -> Op);

#[rustfmt::skip]
const KINDS: [Kind; 22] = [
    (14, |n| Op::Publish { session: n.byte(), count: n.below(5), keys: n.keys() }),
    (18, |n| Op::Receive { session: n.byte(), consumer: n.byte(), batch: n.below(12), lease: n.byte() }),
    (14, |n| Op::Finish { session: n.byte(), which: n.byte(), count: n.below(10), rejected: n.one_in(6) }),
    (5, |n| Op::Nack { session: n.byte(), which: n.byte(), count: n.below(5), delay: n.maybe() }),
    (2, |n| Op::Extend { which: n.byte(), lease: n.byte() }),
    (2, |n| Op::Redeliver { session: n.byte(), consumer: n.byte(), which: n.below(u16::MAX) }),
    (3, |n| Op::Savepoint { session: n.byte() }),
    (2, |n| Op::RollBackTo { session: n.byte(), which: n.byte() }),
    (16, |n| Op::Commit { session: n.byte(), synced: !n.one_in(4), noticed: !n.one_in(4) }),
    (4, |n| Op::Abort { session: n.byte(), noticed: !n.one_in(4) }),
    (16, |n| Op::Look { ranges: 1 + n.below(5), rows: 1 + n.below(20), fails: n.one_in(6), visits: n.below(40) }),
    (8, |n| Op::CatchUp { consumer: n.byte(), rows: 1 + n.below(20), interrupted: n.one_in(6), visits: n.below(40) }),
    (6, |_| Op::Tick),
    (5, |n| Op::Wait { micros: n.byte() }),
    (1, |n| Op::StepClock { forth: n.one_in(2) }),
    (5, |n| Op::WriteOutbox { consumer: n.byte() }),
    (4, |n| Op::Checkpoint { consumer: n.byte() }),
    (2, |n| Op::Restart { how: n.restart() }),
    (2, |n| Op::Alter { consumer: n.byte(), what: n.alter(), value: n.byte(), anew: n.one_in(2) }),
    (1, |n| Op::Rewind { consumer: n.byte(), to: n.below(u16::MAX) }),
    (4, |n| Op::Budget { consumer: n.byte(), share: n.byte() }),
    (1, |n| Op::Retain { count: 1 + n.below(3) }),
];

/// A random number, to be cut into smaller ones. Cheaper than a strategy for each of them.
struct Numbers(u64);

impl Numbers {
    fn below<T: TryFrom<u64> + Into<u64> + Copy>(&mut self, n: T) -> T {
        let number = self.0 % n.into();
        self.0 /= n.into();
        T::try_from(number).unwrap_or(n)
    }

    fn byte(&mut self) -> u8 {
        self.below(u8::MAX)
    }

    /// False for 0, to which failures are shortened.
    fn one_in(&mut self, n: u8) -> bool {
        self.below(n) == n - 1
    }

    fn maybe(&mut self) -> Option<u8> {
        self.one_in(2).then(|| self.byte())
    }

    /// Sometimes all keys are the same: then many messages wait behind a busy one.
    fn keys(&mut self) -> u16 {
        if self.one_in(3) { 0 } else { self.below(u16::MAX) }
    }

    fn restart(&mut self) -> Restart {
        match self.below(3_u8) {
            0 => Restart::Clean { checkpoints: self.byte() },
            1 => Restart::Killed,
            _ => Restart::PowerCut { kept: self.byte() },
        }
    }

    fn alter(&mut self) -> Alter {
        use Alter::*;
        let all = [MaxAckPending, MaxDeliver, Backoff, Ordered, Paused, Filters];
        all[usize::from(self.below(all.len() as u8))]
    }
}

fn decode((mut weight, numbers): (u32, u64)) -> Op {
    for (of_kind, make) in KINDS {
        if weight < of_kind {
            return make(&mut Numbers(numbers));
        }
        weight -= of_kind;
    }
    Op::Tick
}

/// One operation.
pub fn op() -> impl Strategy<Value = Op> {
    let total: u32 = KINDS.iter().map(|(weight, _)| weight).sum();
    (0..total, any::<u64>()).prop_map(decode)
}
