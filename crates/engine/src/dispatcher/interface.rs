//! What goes in and out: inputs, effects, and what lies in memory that sessions share with the dispatcher.

use super::exchange::{Answer, Asked, FastPathAck, Outcome};
use super::stored::{Checkpoint, Config, Journal};
use crate::changes::Changes;
use crate::event::Item;
use crate::fault::{Fault, Known};
use crate::ids::{AckRowId, ConsumerId, RequestId, SessionId, StreamId};
use crate::key::Seq;
use crate::settings::Micros;
use crate::stream::Found;
use crate::tail::{Publisher, ReadPlan};
use std::fmt;

/// Two clocks, read at one moment. Deadlines count on the one that never steps. What outlives the dispatcher, or is
/// shown, is by the wall clock.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Clock {
    pub mono: Micros,
    pub wall: Micros,
}

impl Clock {
    /// How much later it is by the wall clock.
    pub fn wall_offset(self) -> Micros {
        self.wall.saturating_sub(self.mono)
    }
}

/// Why something could not be read or written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// Somebody has it locked.
    Locked,
    /// The stream's table isn't there any more.
    Missing,
    Damaged(Fault),
    /// The server's message, and whether it is about a lock that was waited for.
    Error {
        text: String,
        is_lock: bool,
    },
}

impl Failure {
    /// Later it may go well, for this and for whatever else waits for the same lock.
    pub fn is_lock(&self) -> bool {
        matches!(self, Failure::Locked | Failure::Error { is_lock: true, .. })
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Locked => f.write_str("it is locked"),
            Failure::Missing => f.write_str("it is not there"),
            Failure::Damaged(fault) => fault.fmt(f),
            Failure::Error { text, .. } => f.write_str(text),
        }
    }
}

#[derive(Debug)]
pub enum Input {
    /// Streams or consumers have changed: all that was said before is void.
    ConfigChanged,
    /// For [`Effect::ReadConfig`]: those of what it names that are there. `None`: the extension is gone.
    Config {
        changes: Box<Changes>,
        read: Result<Option<Config>, String>,
    },
    /// Ends of transactions: all that there are, before any request is handed in.
    Outcomes(Vec<Outcome>),
    Requests(Vec<Asked>),
    /// Transactions that published to these streams have ended.
    Published(Vec<StreamId>),
    /// All that has come in is handed in. Now it has its consequences.
    Tick,
    /// For [`Effect::Open`].
    Opened {
        stream: StreamId,
        read: Result<Known, Failure>,
    },
    /// For [`Effect::Restore`].
    Restored {
        consumer: ConsumerId,
        read: Result<Journal, Failure>,
    },
    /// For [`Effect::Look`]: what was read by the plan, late rows in old holes and new ones behind them.
    Looked {
        stream: StreamId,
        read: Result<Look, Failure>,
    },
    /// For [`Effect::ReadRange`].
    RangeRead {
        consumer: ConsumerId,
        upto: Seq,
        read: Result<Found, Failure>,
    },
    /// For [`Effect::Journal`]. False: it would have to wait for somebody's lock.
    Journalled {
        consumers: Vec<ConsumerId>,
        written: Result<bool, Failure>,
    },
    /// For [`Effect::Checkpoint`]. False: likewise.
    Checkpointed(Result<bool, Failure>),
    /// The dispatcher is to end: sessions have to ask from now on.
    Stop,
    /// All that has ended by now is handed in: write everything.
    Flush,
}

/// A look at the tail that was read to the end, or as far as there was time.
#[derive(Debug)]
pub struct Look {
    pub known: Known,
    pub plan: ReadPlan,
    pub late: Found,
    pub new: Found,
}

/// What is to be done, in this order, each before anything else is handed in.
#[derive(Debug, PartialEq, Eq)]
pub enum Effect {
    /// Read these streams and consumers.
    ReadConfig(Box<Changes>),
    /// Read a stream's last value.
    Open {
        stream: StreamId,
        known: Known,
    },
    /// Read what the tables have of a consumer.
    Restore(ConsumerId),
    /// Read a stream's tail, in one transaction: its last value, then its publishers by a newest snapshot, then
    /// [`Dispatcher::plan_look`](super::Dispatcher::plan_look) says what, by the same snapshot.
    Look {
        stream: StreamId,
        known: Known,
    },
    /// Read rows above the first seq, up to and with the second, for a consumer that is behind.
    ReadRange {
        consumer: ConsumerId,
        stream: StreamId,
        after: Seq,
        upto: Seq,
    },
    /// Write the unwritten events of these consumers, all or none.
    Journal(Vec<ConsumerId>),
    /// Write a consumer's state in place of all that the tables have of it: with its dead letters that are not written, and
    /// without the checkpoint that it `replaces` (0: none), the outbox since, and the rows of sequin.acks in these ranges
    /// of ids.
    Checkpoint {
        consumer: ConsumerId,
        checkpoint: Checkpoint,
        dead: Vec<Item>,
        replaces: i64,
        folded_acks: Vec<(AckRowId, AckRowId)>,
    },
    /// Delete what the tables have of consumers that were dropped.
    Forget(Vec<ConsumerId>),
    /// What has gone wrong, for the log and the status.
    Log(String),
    /// The same, for the status alone: it is somebody's lock.
    Status(String),
    End(End),
}

/// Why a dispatcher ends by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// The extension is gone.
    NoExtension,
    /// Its ids are used up, or older than those it found in a restored journal.
    NeedsEpoch,
}

/// Memory that sessions share with the dispatcher. Each call takes the lock of one entry, never two at a time.
pub trait Shared {
    /// Takes note of what has changed of the configuration: sessions may finish deliveries without asking again.
    fn take_changes(&mut self) -> Changes;
    /// The transactions that have published to a stream, and whose end isn't known here yet.
    fn publishers(&mut self, stream: StreamId) -> Vec<Publisher>;
    /// Revokes the session's right to finish deliveries of the answer to this request without asking. Returns what it
    /// has finished of them before.
    fn revoke(&mut self, session: SessionId, received_by: RequestId) -> Option<FastPathAck>;
    /// Answers; with the right to finish the deliveries without asking, if `fast_path`. False: it was withdrawn, or the
    /// answer is too long: then the session gets [`Answer::TooLong`] instead.
    fn answer(
        &mut self,
        session: SessionId,
        request: RequestId,
        answer: &Answer,
        fast_path: bool,
    ) -> bool;
    /// Leaves a request to the next dispatcher.
    fn ask_again(&mut self, session: SessionId, request: RequestId);
    /// Publishers to these streams, and to no others, wake the dispatcher from now on.
    fn listen(&mut self, streams: &mut dyn Iterator<Item = StreamId>);
    /// Whether ends of transactions wake the dispatcher. True if that is new: then it must look once more, for those
    /// that ended just before.
    fn set_waited_for(&mut self, waited_for: bool) -> bool;
}
