//! Ids, each kind with a type of its own; and [`Ids`], the source of those that are never given twice: an ack_id names
//! one delivery for ever (I6), a journal id one row.
//!
//! The high bits of what the source gives are a durable epoch, taken anew by each dispatcher before it hands out
//! anything; the low bits count. So an id from before a crash can't be given again, although the counter itself is
//! never written.

use std::fmt;

/// Names a stream: the OID of its table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(transparent)]
pub struct StreamId(pub u32);

/// Names a consumer: the id of its row in sequin.consumers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(transparent)]
pub struct ConsumerId(pub i32);

impl fmt::Display for ConsumerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Counts a consumer's rewinds. Rows of an earlier generation are void.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[repr(transparent)]
pub struct Generation(pub i32);

/// Names a session: the number of its entry in shared memory. Another process may have the entry later.
pub type SessionId = usize;

/// Counts the requests in a session's entry from 1, across the entry's owners. Zeroed memory is [`RequestId::NONE`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
#[repr(transparent)]
pub struct RequestId(pub u64);

impl RequestId {
    /// No request. It is below all ids of requests.
    pub const NONE: RequestId = RequestId(0);

    #[must_use]
    pub fn next(self) -> RequestId {
        RequestId(self.0 + 1)
    }

    pub fn is_none(self) -> bool {
        self == RequestId::NONE
    }
}

/// Names a delivery, for its ack.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(transparent)]
pub struct AckId(pub i64);

impl AckId {
    /// The id at this position of a run of consecutive ids that begins with this one.
    #[must_use]
    pub fn at(self, position: usize) -> AckId {
        AckId(self.0.saturating_add_unsigned(position as u64))
    }

    /// This id and all consecutive ones after it.
    pub fn and_above(self) -> impl Iterator<Item = AckId> {
        (self.0..).map(AckId)
    }
}

/// Names a row of sequin.acks. It comes from the same source as the ids of events and checkpoints, and is ordered among
/// them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
#[repr(transparent)]
pub struct AckRowId(pub i64);

/// An epoch has 2^40 ids, which last 34 years at 1,000 a second and 12 days at a million.
const BITS: u32 = 40;

/// The highest epoch that fits above the counter in a positive bigint. Each start of a dispatcher takes one.
const MAX_EPOCH: i64 = i64::MAX >> BITS;

/// The source of ids of one dispatcher.
#[derive(Debug)]
pub struct Ids {
    next: i64,
    end: i64,
}

impl Ids {
    /// The ids of `epoch`; `None` where the epoch is outside 1 to 2^23 - 1.
    pub fn new(epoch: i64) -> Option<Ids> {
        let base = (1..=MAX_EPOCH).contains(&epoch).then_some(epoch << BITS)?;
        Some(Ids { next: base + 1, end: base + ((1 << BITS) - 1) })
    }

    /// Takes `n` consecutive ids and returns the first.
    pub fn take(&mut self, n: usize) -> i64 {
        let first = self.next;
        self.next = self.next.saturating_add(i64::try_from(n).unwrap_or(i64::MAX));
        first
    }

    /// True if every id to come is above this one.
    pub fn are_above(&self, id: i64) -> bool {
        self.next > id
    }

    /// True when so few are left that the dispatcher should restart for a new epoch.
    pub fn nearly_spent(&self) -> bool {
        const RESERVE: i64 = 1 << 24;
        self.next >= self.end - RESERVE
    }
}

#[cfg(test)]
mod tests {
    use super::Ids;

    #[test]
    fn a_later_epoch_never_repeats_an_id() {
        let mut one = Ids::new(1).unwrap();
        let mut two = Ids::new(2).unwrap();
        assert_eq!(one.take(3) + 3, one.take(1));
        assert!(one.take(1 << 20) < two.take(1));
        assert!(one.end < two.end - (1 << 39));
    }

    #[test]
    fn epochs_out_of_range_are_refused() {
        assert!(Ids::new(0).is_none());
        assert!(Ids::new(super::MAX_EPOCH).is_some());
        assert!(Ids::new(super::MAX_EPOCH + 1).is_none());
    }

    #[test]
    fn says_when_it_runs_out() {
        let mut ids = Ids::new(1).unwrap();
        assert!(!ids.nearly_spent());
        ids.take((1 << 40) - (1 << 23));
        assert!(ids.nearly_spent());
    }
}
