//! The sessions that wait for messages of one consumer: first come, first served.

use super::exchange::{Asked, Request};
use crate::ids::{ConsumerId, RequestId, SessionId};
use crate::settings::Micros;
use std::collections::VecDeque;

/// A session that waits for messages.
#[derive(Debug)]
pub(super) struct Waiter {
    pub session: SessionId,
    pub request_id: RequestId,
    pub pid: i32,
    pub batch: usize,
    pub ack_wait: Option<Micros>,
    pub until: Micros,
}

impl Waiter {
    /// What it has asked.
    pub fn into_request(self, consumer: ConsumerId) -> Asked {
        let Waiter { session, request_id, pid, batch, ack_wait, until } = self;
        let request = Request::Receive { consumer, batch, ack_wait, until };
        Asked { session, request_id, pid, request }
    }
}

#[derive(Debug)]
pub(super) struct Waiters {
    queue: VecDeque<Waiter>,
    /// No session's time is over before this. So hundreds of them cost nothing when another one comes or goes.
    next_end: Micros,
}

impl Default for Waiters {
    fn default() -> Self {
        Self { queue: VecDeque::new(), next_end: Micros::MAX }
    }
}

impl Waiters {
    pub fn len(&self) -> usize {
        self.queue.len()
    }

    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    pub fn next_end(&self) -> Micros {
        self.next_end
    }

    pub fn push(&mut self, waiter: Waiter) {
        self.next_end = self.next_end.min(waiter.until);
        self.queue.push_back(waiter);
    }

    /// The next one.
    pub fn first(&self) -> Option<&Waiter> {
        self.queue.front()
    }

    /// Takes out the next one.
    pub fn pop(&mut self) -> Option<Waiter> {
        self.queue.pop_front()
    }

    /// Takes out a session.
    pub fn remove(&mut self, session: SessionId) {
        self.queue.retain(|waiter| waiter.session != session);
    }

    /// Takes out those whose time is over.
    pub fn take_over(&mut self, now: Micros) -> VecDeque<Waiter> {
        if now < self.next_end {
            return VecDeque::new();
        }
        let (over, rest) =
            std::mem::take(&mut self.queue).into_iter().partition(|waiter| waiter.until <= now);
        self.queue = rest;
        self.next_end = self.queue.iter().map(|waiter| waiter.until).min().unwrap_or(Micros::MAX);
        over
    }

    pub fn take_all(&mut self) -> VecDeque<Waiter> {
        std::mem::take(self).queue
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waiter(session: usize, until: Micros) -> Waiter {
        Waiter { session, request_id: RequestId(1), pid: 1, batch: 1, ack_wait: None, until }
    }

    fn sessions(waiters: VecDeque<Waiter>) -> Vec<usize> {
        waiters.into_iter().map(|waiter| waiter.session).collect()
    }

    #[test]
    fn who_has_come_first_is_next() {
        let mut waiters = Waiters::default();
        (1..=4).for_each(|session| waiters.push(waiter(session, 10)));
        assert_eq!(waiters.first().unwrap().session, 1);
        assert_eq!(waiters.pop().unwrap().session, 1);
        waiters.remove(3);
        assert_eq!(sessions(waiters.take_all()), [2, 4]);
        assert!(waiters.is_empty());
    }

    #[test]
    fn those_leave_whose_time_is_over_wherever_they_stand() {
        let mut waiters = Waiters::default();
        [30, 10, 20, 10].into_iter().enumerate().for_each(|(n, end)| waiters.push(waiter(n, end)));
        assert_eq!(sessions(waiters.take_over(9)), [0; 0]);
        assert_eq!(sessions(waiters.take_over(10)), [1, 3]);
        assert_eq!((waiters.len(), waiters.next_end()), (2, 20));
        waiters.push(waiter(4, 5));
        assert_eq!(sessions(waiters.take_over(25)), [2, 4]);
        assert_eq!((waiters.len(), waiters.next_end()), (1, 30));
        waiters.pop();
        assert_eq!(sessions(waiters.take_over(30)), [0; 0]);
        assert_eq!(waiters.next_end(), Micros::MAX);
    }
}
