//! Changes of the configuration: a few streams and consumers by their ids, or everything. A transaction collects them.
//! At commit they go into its database's entry in shared memory. The dispatcher takes them from there, and reads only
//! what has changed.

use crate::ids::{ConsumerId, StreamId};

/// More than a transaction changes that is about single streams and consumers. Few in tests, so that these get beyond
/// it.
const MAX_CHANGES: usize = if cfg!(test) { 4 } else { 64 };

/// One row of sequin.streams or sequin.consumers, or the table of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C, u32)] // It lies in shared memory.
pub enum Change {
    Stream(StreamId),
    Consumer(ConsumerId),
}

/// A set of changes, of a fixed size. Zeroed memory is an empty one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct Changes {
    /// Everything may have changed: then `few` means nothing.
    everything: bool,
    len: usize,
    few: [Change; MAX_CHANGES],
}

impl Default for Changes {
    fn default() -> Changes {
        let few = [Change::Stream(StreamId(0)); MAX_CHANGES];
        Changes { everything: false, len: 0, few }
    }
}

impl From<Change> for Changes {
    fn from(change: Change) -> Changes {
        let mut changes = Changes::default();
        changes.note(change);
        changes
    }
}

impl Changes {
    pub fn everything() -> Changes {
        Changes { everything: true, ..Changes::default() }
    }

    /// Adds a change. If there is no room for one more, this becomes everything.
    pub fn note(&mut self, change: Change) {
        if self.everything || self.few().contains(&change) {
            return;
        }
        match self.few.get_mut(self.len) {
            Some(free) => {
                *free = change;
                self.len += 1;
            }
            None => *self = Changes::everything(),
        }
    }

    pub fn add(&mut self, other: &Changes) {
        if other.everything {
            *self = Changes::everything();
        }
        other.few().iter().for_each(|&change| self.note(change));
    }

    /// The streams that have changed; `None` if all may have.
    pub fn streams(&self) -> Option<Vec<StreamId>> {
        self.pick(|change| match change {
            Change::Stream(id) => Some(id),
            Change::Consumer(_) => None,
        })
    }

    /// The consumers that have changed; `None` if all may have.
    pub fn consumers(&self) -> Option<Vec<ConsumerId>> {
        self.pick(|change| match change {
            Change::Consumer(id) => Some(id),
            Change::Stream(_) => None,
        })
    }

    fn pick<Id>(&self, which: impl Fn(Change) -> Option<Id>) -> Option<Vec<Id>> {
        (!self.everything).then(|| self.few().iter().copied().filter_map(which).collect())
    }

    fn few(&self) -> &[Change] {
        self.few.get(..self.len).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stream(id: u32) -> Change {
        Change::Stream(StreamId(id))
    }

    fn consumer(id: i32) -> Change {
        Change::Consumer(ConsumerId(id))
    }

    fn changes(these: &[Change]) -> Changes {
        let mut changes = Changes::default();
        these.iter().for_each(|&change| changes.note(change));
        changes
    }

    #[test]
    fn what_is_noted_twice_is_there_once() {
        let noted = changes(&[stream(7), consumer(7), consumer(3), consumer(7)]);
        assert_eq!(noted.streams(), Some(vec![StreamId(7)]));
        assert_eq!(noted.consumers(), Some(vec![ConsumerId(7), ConsumerId(3)]));
    }

    #[test]
    fn more_than_fit_are_everything_and_stay_so() {
        let mut noted = changes(&[consumer(1), consumer(2), consumer(3), consumer(4)]);
        noted.note(consumer(4));
        assert_ne!(noted, Changes::everything());
        noted.note(stream(4));
        noted.note(consumer(1));
        assert_eq!(noted, Changes::everything());
        assert_eq!((noted.streams(), noted.consumers()), (None, None));
    }

    #[test]
    fn changes_are_added_up() {
        let mut sum = changes(&[consumer(1), consumer(2)]);
        sum.add(&changes(&[consumer(2), stream(2)]));
        assert_eq!(sum, changes(&[consumer(1), consumer(2), stream(2)]));
        sum.add(&changes(&[consumer(3), consumer(4)]));
        assert_eq!(sum, Changes::everything());
        let mut sum = changes(&[consumer(1)]);
        sum.add(&Changes::everything());
        assert_eq!(sum, Changes::everything());
    }
}
