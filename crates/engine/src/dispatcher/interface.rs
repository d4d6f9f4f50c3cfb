//! What goes in and out: inputs, effects, and what lies in memory that sessions share with the dispatcher.

use crate::changes::Changes;
use crate::consumer::{Counts, Delivery, Lease};
use crate::consumer_state::ConsumerState;
use crate::event::{Change, Event, Item};
use crate::fault::{Fault, Known};
use crate::ids::{AckId, AckRowId, ConsumerId, Generation, RequestId, SessionId, StreamId};
use crate::key::{KeyId, Seq};
use crate::settings::{Micros, Settings};
use crate::stream::Found;
use crate::tail::{Publisher, ReadPlan};
use std::fmt;

/// Two clocks, read at one moment. Deadlines count on the one that never steps; what outlives the dispatcher, or is
/// shown, is told in the other.
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

/// A stream that has a table, as it is configured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamConfig {
    pub name: String,
    pub id: StreamId,
    /// How often it has been repaired: then its sequence may have been altered.
    pub repairs: i32,
}

/// A consumer, as it is configured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConsumerConfig {
    pub id: ConsumerId,
    pub name: String,
    pub stream: String,
    pub generation: Generation,
    pub filters: Vec<String>,
    pub settings: Settings,
    pub start_after: Seq,
    /// Pairs of first and last seq that count as finished from the start.
    pub start_done: Vec<Seq>,
    pub start_last: Seq,
}

/// Streams and consumers that are committed: all, or those of certain ids.
#[derive(Debug, Clone, Default)]
pub struct Config {
    pub streams: Vec<StreamConfig>,
    pub consumers: Vec<ConsumerConfig>,
}

/// What a session asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// Up to `batch` messages, leased for `ack_wait` (the consumer's own if `None`); waits until `until`, on the clock
    /// that never steps.
    Receive { consumer: ConsumerId, batch: usize, ack_wait: Option<Micros>, until: Micros },
    /// Which of these deliveries are live? They are finished when this transaction commits.
    Finish { consumer: ConsumerId, rejected: bool, ack_ids: Vec<AckId> },
    /// These deliveries failed, when this transaction commits.
    Nack { consumer: ConsumerId, delay: Option<Micros>, ack_ids: Vec<AckId> },
    /// These finished messages are wanted again, when this transaction commits.
    Redeliver { consumer: ConsumerId, messages: Vec<(Seq, KeyId)> },
    /// New deadlines, at once.
    Extend { consumer: ConsumerId, ack_wait: Option<Micros>, ack_ids: Vec<AckId> },
    /// The messages of these deliveries are no longer in the table.
    Gone { consumer: ConsumerId, ack_ids: Vec<AckId> },
    /// The state of consumers with an id above this one.
    Stats { after: ConsumerId },
    /// Live deliveries with an ack_id above this one.
    InFlight { consumer: ConsumerId, after: AckId },
    /// What has last gone wrong with a consumer.
    LastError { consumer: ConsumerId },
}

/// What is left of a request for whoever comes after the dispatcher that has answered it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)] // It lies in shared memory.
pub enum Promise {
    /// The transaction's commit means nothing to it.
    None = 0,
    /// A row of sequin.acks says the same to the next dispatcher.
    Journalled,
    /// Nothing.
    Unwritten,
}

impl Request {
    /// What the transaction's commit means for it: it must not commit where it can't be done.
    pub fn promise(&self) -> Promise {
        match self {
            Request::Finish { .. } | Request::Redeliver { .. } => Promise::Journalled,
            Request::Nack { .. } => Promise::Unwritten,
            _ => Promise::None,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// Messages granted, or ack_ids pinned; `ack_row_id` and `generation` are for the row of sequin.acks, if one is
    /// due.
    Deliveries {
        ack_row_id: AckRowId,
        generation: Generation,
        deliveries: Vec<Delivery>,
    },
    Count(i64),
    Stats(Vec<ConsumerStats>),
    /// With deadlines by the wall clock.
    InFlight(Vec<(Lease, Seq, u32)>),
    /// A line of text, cut off where it is too long.
    Text(String),
    /// The dispatcher knows no such consumer: it is being created or dropped.
    NoConsumer,
    /// More unfinished messages than a consumer keeps in memory.
    TooMany,
    /// The stream's table is locked: ask again.
    NotNow,
    /// Not all of the stream's messages can be found: why.
    Damaged(String),
    /// The request, or the answer to it, has no room in a session's entry: ask in parts.
    TooLong,
}

impl Answer {
    pub fn empty() -> Answer {
        Answer::Deliveries {
            ack_row_id: AckRowId::default(),
            generation: Generation::default(),
            deliveries: Vec::new(),
        }
    }
}

/// A consumer as its dispatcher sees it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ConsumerStats {
    pub consumer: ConsumerId,
    pub counts: Counts,
    /// Everything up to here is finished.
    pub floor: Seq,
    /// Rows up to here have been offered to the consumer.
    pub cursor: Seq,
    /// The lowest message that is not finished; 0 if there is none.
    pub first_unfinished: Seq,
    /// Sessions that wait for a message.
    pub waiting: i64,
    /// Something has gone wrong with it: ask for its last error.
    pub has_error: bool,
    /// Its stream is damaged.
    pub is_damaged: bool,
    /// The numbers are its. Otherwise it is not in memory, and the tables have all there is to know.
    pub is_loaded: bool,
}

/// What became of a session's transaction, or of a part of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Outcome {
    pub session: SessionId,
    /// The process that has the session's entry now; 0 if none does, or one in another database.
    pub pid: i32,
    /// Comes first: what it has finished without asking.
    pub fast_path_ack: Option<FastPathAck>,
    /// Comes next: requests from this one on were rolled back.
    pub aborted_from: Option<RequestId>,
    /// Comes last: requests up to this one were committed.
    pub committed_upto: Option<RequestId>,
}

/// Deliveries that a session has finished without asking.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FastPathAck {
    /// Counts among its requests.
    pub request_id: RequestId,
    /// The request that the deliveries were the answer to. No id is used twice in an entry, whoever has it: so it says
    /// whose this is.
    pub received_by: RequestId,
    /// Which: positions in that answer.
    pub positions: Vec<usize>,
}

/// A request, and who made it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    pub session: SessionId,
    pub request_id: RequestId,
    pub pid: i32,
    pub request: Request,
}

/// A row of sequin.acks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AckRow {
    pub id: AckRowId,
    pub generation: Generation,
    /// Finished without success.
    pub rejected: bool,
    pub change: Change,
}

/// A consumer's state, as it is written, or was.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Checkpoint {
    pub id: i64,
    pub generation: Generation,
    pub state: ConsumerState,
    /// Rows of sequin.acks with a lower id whose transactions were open.
    pub open_acks: Vec<AckRowId>,
}

/// What the tables have of a consumer: its newest checkpoint, and what has been written since.
#[derive(Debug, Clone, Default)]
pub struct Journal {
    pub checkpoint: Option<Checkpoint>,
    /// Of the consumer's generation.
    pub events: Vec<Event>,
    pub acks: Vec<AckRow>,
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
    /// The session has to ask from now on for deliveries of the answer to this request; what it has finished of them.
    fn revoke(&mut self, session: SessionId, received_by: RequestId) -> Option<FastPathAck>;
    /// Answers; with the right to finish the deliveries without asking, if `fast_path`. False: it was withdrawn, or the
    /// answer is too long, which the session is told instead.
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
