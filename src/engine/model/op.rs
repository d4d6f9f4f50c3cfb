//! What can happen, as random numbers: each is resolved against the state of the moment, so that any sequence
//! of operations means something and a failing one can be shortened anywhere.

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
    /// Ends a transaction: at once, or so that the dispatcher has not noticed yet.
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
        fails: bool,
    },
    /// Reads for a detached consumer; sometimes a look comes in between.
    CatchUp {
        consumer: u8,
        rows: u8,
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
    /// Removes the oldest messages of the table.
    Retain {
        count: u8,
    },
}

#[derive(Debug, Clone, Copy)]
pub enum Restart {
    /// Everything is written down.
    Clean { checkpoints: u8 },
    /// The dispatcher's memory is gone.
    Killed,
    /// The server's too, and part of what was not flushed to disk.
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

fn restart() -> impl Strategy<Value = Restart> {
    prop_oneof![
        any::<u8>().prop_map(|checkpoints| Restart::Clean { checkpoints }),
        Just(Restart::Killed),
        any::<u8>().prop_map(|kept| Restart::PowerCut { kept }),
    ]
}

fn alter() -> impl Strategy<Value = Alter> {
    prop_oneof![
        Just(Alter::MaxAckPending),
        Just(Alter::MaxDeliver),
        Just(Alter::Backoff),
        Just(Alter::Ordered),
        Just(Alter::Paused),
        Just(Alter::Filters),
    ]
}

/// One operation, the frequent ones more often.
pub fn op() -> impl Strategy<Value = Op> {
    let n = any::<u8>;
    let yes = any::<bool>;
    let rarely = || prop::bool::weighted(0.15);
    let mostly = || prop::bool::weighted(0.75);
    prop_oneof![
        14 => (n(), 0..5_u8, any::<u16>())
            .prop_map(|(session, count, keys)| Op::Publish { session, count, keys }),
        18 => (n(), n(), 0..12_u8, n())
            .prop_map(|(session, consumer, batch, lease)| Op::Receive { session, consumer, batch, lease }),
        14 => (n(), n(), 0..10_u8, rarely())
            .prop_map(|(session, which, count, rejected)| Op::Finish { session, which, count, rejected }),
        5 => (n(), n(), 0..5_u8, prop::option::of(n()))
            .prop_map(|(session, which, count, delay)| Op::Nack { session, which, count, delay }),
        2 => (n(), n()).prop_map(|(which, lease)| Op::Extend { which, lease }),
        2 => (n(), n(), any::<u16>())
            .prop_map(|(session, consumer, which)| Op::Redeliver { session, consumer, which }),
        3 => n().prop_map(|session| Op::Savepoint { session }),
        2 => (n(), n()).prop_map(|(session, which)| Op::RollBackTo { session, which }),
        16 => (n(), mostly(), mostly())
            .prop_map(|(session, synced, noticed)| Op::Commit { session, synced, noticed }),
        4 => (n(), mostly()).prop_map(|(session, noticed)| Op::Abort { session, noticed }),
        16 => (1..6_u8, 1..20_u8, rarely())
            .prop_map(|(ranges, rows, fails)| Op::Look { ranges, rows, fails }),
        8 => (n(), 1..20_u8, rarely())
            .prop_map(|(consumer, rows, interrupted)| Op::CatchUp { consumer, rows, interrupted }),
        6 => Just(Op::Tick),
        5 => n().prop_map(|micros| Op::Wait { micros }),
        1 => yes().prop_map(|forth| Op::StepClock { forth }),
        5 => n().prop_map(|consumer| Op::WriteOutbox { consumer }),
        4 => n().prop_map(|consumer| Op::Checkpoint { consumer }),
        2 => restart().prop_map(|how| Op::Restart { how }),
        2 => (n(), alter(), n(), yes())
            .prop_map(|(consumer, what, value, anew)| Op::Alter { consumer, what, value, anew }),
        1 => (n(), any::<u16>()).prop_map(|(consumer, to)| Op::Rewind { consumer, to }),
        1 => (1..4_u8).prop_map(|count| Op::Retain { count }),
    ]
}
