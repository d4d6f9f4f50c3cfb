//! The sessions: each with at most one open transaction, which publishes, receives and acks.

use super::world::{Ack, Message};
use crate::ids::{ConsumerId, RequestId};
use crate::key::Seq;
use crate::pending::Operation;
use crate::tail::Publisher;

/// What a transaction has asked the dispatcher for.
#[derive(Debug, Clone)]
pub struct Asked {
    pub request_id: RequestId,
    pub consumer: ConsumerId,
    pub generation: u32,
    pub operation: Operation,
}

#[derive(Debug, Clone, Copy)]
struct Savepoint {
    request_id: RequestId,
    messages: usize,
    acks: usize,
}

#[derive(Debug, Default)]
pub struct Transaction {
    pub messages: Vec<(Seq, Message)>,
    pub acks: Vec<Ack>,
    pub asked: Vec<Asked>,
    savepoints: Vec<Savepoint>,
    /// It relies on a dispatcher that is gone: it can only abort.
    pub doomed: bool,
}

/// A transaction that is over, but not noticed by the dispatcher yet.
#[derive(Debug)]
pub struct Ended {
    pub committed: bool,
    pub transaction: Transaction,
}

#[derive(Debug, Default)]
pub struct Session {
    /// Its entry in shared memory.
    pub publisher: Option<Publisher>,
    /// The step at which it wrote its bound there.
    pub begun: u64,
    transactions: u64,
    request_id: RequestId,
    pub transaction: Option<Transaction>,
    pub ended: Option<Ended>,
}

impl Session {
    pub fn open(&mut self) -> &mut Transaction {
        self.transaction.get_or_insert_default()
    }

    /// The id of the next request.
    pub fn request_id(&mut self) -> RequestId {
        self.request_id = self.request_id.next();
        self.request_id
    }

    /// Called before it takes its first seq: no seq that it takes will be at or below `last`.
    pub fn begin_to_publish(&mut self, session: usize, last: Seq, at: u64) {
        if self.publisher.is_none() {
            self.transactions += 1;
            self.publisher = Some(Publisher {
                session: u32::try_from(session).unwrap(),
                transaction: self.transactions,
                bound: last + 1,
            });
            self.begun = at;
        }
    }

    pub fn set_savepoint(&mut self) {
        let request_id = self.request_id.next();
        let transaction = self.open();
        let (messages, acks) = (transaction.messages.len(), transaction.acks.len());
        transaction.savepoints.push(Savepoint { request_id, messages, acks });
    }

    /// Rolls back to one of the savepoints. Returns the first request that is void, and what was asked for from there
    /// on.
    pub fn roll_back_to(&mut self, which: usize) -> Option<(RequestId, Vec<Asked>)> {
        let transaction = self.transaction.as_mut()?;
        let which = which.checked_rem(transaction.savepoints.len())?;
        let Savepoint { request_id, messages, acks } = transaction.savepoints[which];
        transaction.savepoints.truncate(which + 1);
        transaction.messages.truncate(messages);
        transaction.acks.truncate(acks);
        let kept =
            transaction.asked.iter().take_while(|asked| asked.request_id < request_id).count();
        Some((request_id, transaction.asked.split_off(kept)))
    }

    /// The dispatcher is gone, and what it knew of this session with it.
    pub fn lose_dispatcher(&mut self) {
        if let Some(transaction) = &mut self.transaction {
            transaction.doomed |= !transaction.acks.is_empty();
            transaction.asked.clear();
        }
        if let Some(ended) = &mut self.ended {
            ended.transaction.asked.clear();
        }
    }

    /// The server has crashed: what was open is void.
    pub fn lose_server(&mut self) {
        self.transaction = None;
        self.ended = None;
        self.publisher = None;
    }
}
