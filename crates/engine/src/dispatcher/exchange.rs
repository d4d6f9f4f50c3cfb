//! What sessions and the dispatcher say to each other: requests, answers, and what became of transactions.

use crate::consumer::{Counts, Delivery, Lease};
use crate::ids::{AckId, AckRowId, ConsumerId, Generation, RequestId, SessionId};
use crate::key::{KeyId, Seq};
use crate::settings::Micros;

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
    /// Nothing needs to be left: the transaction's commit means nothing to the request.
    None = 0,
    /// A row of sequin.acks says the same to the next dispatcher.
    Journalled,
    /// Nothing is left.
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
    /// It is in memory, and the numbers are its own. Otherwise the tables have all there is to know.
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
