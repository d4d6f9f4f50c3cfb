//! Order per key: of each key's unfinished messages only the head may be delivered (I5).
//!
//! A lane exists for each key that has unfinished messages. Its head is the lowest of them, or the one that
//! is busy: in flight, delayed after a failure. All others wait behind it, withheld.

use super::id_map::IdMap;
use super::key::{KeyId, Seq};
use std::collections::BTreeSet;

#[derive(Debug)]
struct Lane {
    head: Seq,
    busy: bool,
    waiting: BTreeSet<Seq>,
}

/// All lanes of one ordered consumer.
#[derive(Debug, Default)]
pub struct Lanes {
    by_key: IdMap<KeyId, Lane>,
    withheld: usize,
}

/// What a change did to the head of a lane.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Turn {
    /// May be delivered now.
    pub ready: Option<Seq>,
    /// Was deliverable and no longer is.
    pub withheld: Option<Seq>,
}

impl Lanes {
    /// Messages withheld behind their key's head.
    pub fn withheld(&self) -> usize {
        self.withheld
    }

    /// A new unfinished message that nobody holds.
    pub fn enter(&mut self, key: KeyId, seq: Seq) -> Turn {
        let Some(lane) = self.by_key.get_mut(&key) else {
            self.by_key.insert(key, Lane { head: seq, busy: false, waiting: BTreeSet::new() });
            return Turn { ready: Some(seq), withheld: None };
        };
        self.withheld += 1;
        if lane.busy || seq > lane.head {
            lane.waiting.insert(seq);
            return Turn::default();
        }
        let old = std::mem::replace(&mut lane.head, seq);
        lane.waiting.insert(old);
        Turn { ready: Some(seq), withheld: Some(old) }
    }

    /// A message that is busy from the start: one restored in flight or delayed. Where two messages of a
    /// key are busy (one was redelivered by hand before a restart), the first stays the head.
    pub fn enter_busy(&mut self, key: KeyId, seq: Seq) -> Turn {
        let turn = self.enter(key, seq);
        if turn.ready == Some(seq) {
            self.hold(key);
            return Turn { ready: None, withheld: turn.withheld };
        }
        turn
    }

    /// The head was delivered: nothing else of its key may be.
    pub fn hold(&mut self, key: KeyId) {
        if let Some(lane) = self.by_key.get_mut(&key) {
            lane.busy = true;
        }
    }

    /// The head came back unfinished: the lowest of its key takes its place.
    pub fn put_back(&mut self, key: KeyId) -> Turn {
        let Some(lane) = self.by_key.get_mut(&key) else { return Turn::default() };
        lane.busy = false;
        if let Some(lowest) = lane.waiting.first().copied().filter(|&seq| seq < lane.head) {
            lane.waiting.remove(&lowest);
            lane.waiting.insert(std::mem::replace(&mut lane.head, lowest));
        }
        Turn { ready: Some(lane.head), withheld: None }
    }

    /// A message is finished. If it was the head, the next of its key takes its place.
    pub fn leave(&mut self, key: KeyId, seq: Seq) -> Turn {
        let Some(lane) = self.by_key.get_mut(&key) else { return Turn::default() };
        if lane.head != seq {
            self.withheld -= usize::from(lane.waiting.remove(&seq));
            return Turn::default();
        }
        let Some(next) = lane.waiting.pop_first() else {
            self.by_key.remove(&key);
            return Turn::default();
        };
        lane.head = next;
        lane.busy = false;
        self.withheld -= 1;
        Turn { ready: Some(next), withheld: None }
    }

    /// True when `seq` is the one of its key that may be delivered, or is being.
    pub fn is_head(&self, key: KeyId, seq: Seq) -> bool {
        self.by_key.get(&key).is_some_and(|lane| lane.head == seq)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ready(seq: Seq) -> Turn {
        Turn { ready: Some(seq), withheld: None }
    }

    #[test]
    fn later_messages_wait_for_the_head() {
        let mut lanes = Lanes::default();
        assert_eq!(lanes.enter(7, 1), ready(1));
        assert_eq!(lanes.enter(7, 2), Turn::default());
        assert_eq!(lanes.enter(8, 3), ready(3));
        assert_eq!(lanes.withheld(), 1);
        assert_eq!(lanes.leave(7, 1), ready(2));
        assert_eq!(lanes.leave(7, 2), Turn::default());
        assert_eq!(lanes.withheld(), 0);
    }

    #[test]
    fn a_late_commit_with_a_lower_seq_overtakes_an_idle_head_only() {
        let mut lanes = Lanes::default();
        lanes.enter(7, 5);
        assert_eq!(lanes.enter(7, 4), Turn { ready: Some(4), withheld: Some(5) });
        lanes.hold(7);
        assert_eq!(lanes.enter(7, 3), Turn::default());
        assert_eq!(lanes.put_back(7), ready(3));
        assert_eq!(lanes.leave(7, 3), ready(4));
        assert_eq!(lanes.leave(7, 4), ready(5));
    }

    #[test]
    fn a_withheld_message_may_be_finished_too() {
        let mut lanes = Lanes::default();
        lanes.enter(7, 1);
        lanes.enter(7, 2);
        assert_eq!(lanes.leave(7, 2), Turn::default());
        assert_eq!(lanes.withheld(), 0);
        assert!(lanes.is_head(7, 1));
    }
}
