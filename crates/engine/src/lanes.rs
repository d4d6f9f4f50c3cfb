//! Order per key: of each key's unfinished messages only the head may be delivered (I5).
//!
//! A lane exists for each key that has unfinished messages. Its head is the lowest of them, or the one that
//! is busy: in flight, or delayed after a failure. All others wait behind it, withheld. Several are busy at a
//! time only where the consumer was not ordered before: then nothing is delivered until all have ended.

use super::id_map::IdMap;
use super::key::{KeyId, Seq};
use std::collections::BTreeSet;
use std::collections::hash_map::Entry;

#[derive(Debug)]
struct Lane {
    head: Seq,
    busy: bool,
    /// Busy too. No allocation while it is empty, which it nearly always is.
    also_busy: Vec<Seq>,
    waiting: BTreeSet<Seq>,
}

impl Lane {
    fn new(head: Seq, busy: bool) -> Lane {
        Lane { head, busy, also_busy: Vec::new(), waiting: BTreeSet::new() }
    }
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
        let lane = match self.by_key.entry(key) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(entry) => {
                entry.insert(Lane::new(seq, false));
                return Turn { ready: Some(seq), withheld: None };
            }
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

    /// A message that is busy from the start: one restored in flight or delayed.
    pub fn enter_busy(&mut self, key: KeyId, seq: Seq) -> Turn {
        let Some(lane) = self.by_key.get_mut(&key) else {
            self.by_key.insert(key, Lane::new(seq, true));
            return Turn::default();
        };
        if lane.busy {
            lane.also_busy.push(seq);
            return Turn::default();
        }
        lane.busy = true;
        let old = std::mem::replace(&mut lane.head, seq);
        lane.waiting.insert(old);
        self.withheld += 1;
        Turn { ready: None, withheld: Some(old) }
    }

    /// The head was delivered: nothing else of its key may be.
    pub fn hold(&mut self, key: KeyId) {
        if let Some(lane) = self.by_key.get_mut(&key) {
            lane.busy = true;
        }
    }

    /// A busy message came back unfinished: when no other is busy, the lowest of its key is the next.
    pub fn put_back(&mut self, key: KeyId, seq: Seq) -> Turn {
        let Some(lane) = self.by_key.get_mut(&key) else { return Turn::default() };
        if lane.head != seq {
            lane.also_busy.retain(|&other| other != seq);
        } else if let Some(other) = lane.also_busy.pop() {
            lane.head = other;
        } else {
            lane.busy = false;
            if let Some(lowest) = lane.waiting.first().copied().filter(|&lowest| lowest < seq) {
                lane.waiting.remove(&lowest);
                lane.waiting.insert(seq);
                lane.head = lowest;
            }
            return Turn { ready: Some(lane.head), withheld: None };
        }
        lane.waiting.insert(seq);
        self.withheld += 1;
        Turn::default()
    }

    /// A message is finished. If nothing else of its key is busy, the lowest of it is the next.
    pub fn leave(&mut self, key: KeyId, seq: Seq) -> Turn {
        let Entry::Occupied(mut entry) = self.by_key.entry(key) else { return Turn::default() };
        let lane = entry.get_mut();
        if lane.head != seq {
            if lane.waiting.remove(&seq) {
                self.withheld -= 1;
            } else {
                lane.also_busy.retain(|&other| other != seq);
            }
            return Turn::default();
        }
        if let Some(other) = lane.also_busy.pop() {
            lane.head = other;
            return Turn::default();
        }
        let Some(next) = lane.waiting.pop_first() else {
            entry.remove();
            return Turn::default();
        };
        lane.head = next;
        lane.busy = false;
        self.withheld -= 1;
        Turn { ready: Some(next), withheld: None }
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
        assert_eq!(lanes.put_back(7, 4), ready(3));
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
        assert_eq!(lanes.enter(7, 3), Turn::default());
        assert_eq!(lanes.leave(7, 1), ready(3));
    }

    #[test]
    fn nothing_is_delivered_while_any_of_a_key_restored_as_busy_still_is() {
        let mut lanes = Lanes::default();
        assert_eq!(lanes.enter_busy(7, 1), Turn::default());
        assert_eq!(lanes.enter_busy(7, 4), Turn::default());
        assert_eq!(lanes.enter_busy(7, 6), Turn::default());
        assert_eq!(lanes.enter(7, 3), Turn::default());
        assert_eq!(lanes.leave(7, 1), Turn::default());
        assert_eq!(lanes.put_back(7, 6), Turn::default());
        assert_eq!(lanes.withheld(), 2);
        assert_eq!(lanes.put_back(7, 4), ready(3));
        assert_eq!(lanes.withheld(), 2);
    }

    #[test]
    fn a_busy_message_takes_the_place_of_an_idle_head() {
        let mut lanes = Lanes::default();
        lanes.enter(7, 1);
        assert_eq!(lanes.enter_busy(7, 2), Turn { ready: None, withheld: Some(1) });
        assert_eq!(lanes.leave(7, 2), ready(1));
    }
}
