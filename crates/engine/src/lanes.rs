//! Order by key: of each key's unfinished messages only the head may be delivered (I5).
//!
//! A lane exists for each key that has unfinished messages. Its head is the lowest of them, or the one that is busy: in
//! flight, or delayed after a failure. All others wait behind it, withheld. Several messages of a key are busy at a
//! time only if the consumer was not ordered before: then none of that key is delivered until all have ended.
//!
//! There may be millions behind one head, nearly all of them above it and never delivered. Such a message is
//! **shelved**: it is only a seq in its lane's list.

use super::id_map::IdMap;
use super::key::{KeyId, Seq};
use super::seq_list::SeqList;
use std::collections::BTreeSet;
use std::collections::hash_map::Entry;

/// The bytes of a lane whose key has one unfinished message: its share of a hash map, on average.
pub const LANE: usize = 45;

/// The bytes that a lane takes in addition if it has shelved messages, besides those that its list reports.
const SHELF: usize = 170;

/// The bytes of a withheld message that is not shelved.
const WAITING: usize = 32;

#[derive(Debug)]
struct Head {
    seq: Seq,
    busy: bool,
}

/// All lanes of one ordered consumer.
#[derive(Debug, Default)]
pub struct Lanes {
    heads: IdMap<KeyId, Head>,
    /// Further busy messages besides the head. Nearly always empty.
    also_busy: BTreeSet<(KeyId, Seq)>,
    /// Withheld messages that are not shelved, since they were delivered before or are below a busy one. Few.
    waiting: BTreeSet<(KeyId, Seq)>,
    /// Withheld messages above their key's head and above all busy ones of the key. No list is empty.
    shelves: IdMap<KeyId, SeqList>,
    shelved: usize,
    shelf_bytes: usize,
}

/// What a change did to the head of a lane.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Turn {
    /// This message may be delivered now. It may come from a shelf.
    pub ready: Option<Seq>,
    /// This message was deliverable and no longer is.
    pub withheld: Option<Seq>,
}

impl Lanes {
    /// Messages withheld behind their key's head.
    pub fn withheld(&self) -> usize {
        self.waiting.len() + self.shelved
    }

    /// Those of them that are shelved.
    pub fn shelved(&self) -> usize {
        self.shelved
    }

    /// About how many bytes all lanes take.
    pub fn memory(&self) -> usize {
        self.heads.len() * LANE
            + self.shelves.len() * SHELF
            + self.shelf_bytes
            + self.waiting.len() * WAITING
    }

    pub fn is_shelved(&self, key: KeyId, seq: Seq) -> bool {
        self.shelves.get(&key).is_some_and(|shelf| shelf.contains(seq))
    }

    /// What is shelved, in no order of keys.
    pub fn shelves(&self) -> impl Iterator<Item = (KeyId, &SeqList)> {
        self.shelves.iter().map(|(&key, shelf)| (key, shelf))
    }

    /// Shelves a message that was never delivered, if it must wait and is above all that it waits for. Nothing
    /// changes if it is shelved already.
    pub fn shelve(&mut self, key: KeyId, seq: Seq) -> bool {
        let Some(head) = self.heads.get(&key) else { return false };
        let highest_busy = of(&self.also_busy, key).next_back().unwrap_or(head.seq);
        if seq <= head.seq.max(highest_busy) {
            return false;
        }
        self.waiting.remove(&(key, seq));
        self.change_shelf(key, |shelf| shelf.insert(seq));
        true
    }

    /// Adds an unfinished message that is not busy and was not shelved.
    pub fn enter(&mut self, key: KeyId, seq: Seq) -> Turn {
        let head = match self.heads.entry(key) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(entry) => {
                entry.insert(Head { seq, busy: false });
                return Turn { ready: Some(seq), withheld: None };
            }
        };
        if head.busy || seq > head.seq {
            self.waiting.insert((key, seq));
            return Turn::default();
        }
        let old = std::mem::replace(&mut head.seq, seq);
        self.waiting.insert((key, old));
        Turn { ready: Some(seq), withheld: Some(old) }
    }

    /// Adds a message that is busy from the start: one that was restored in flight or delayed, before any is shelved.
    pub fn enter_busy(&mut self, key: KeyId, seq: Seq) -> Turn {
        let Some(head) = self.heads.get_mut(&key) else {
            self.heads.insert(key, Head { seq, busy: true });
            return Turn::default();
        };
        if head.busy {
            self.also_busy.insert((key, seq));
            return Turn::default();
        }
        head.busy = true;
        let old = std::mem::replace(&mut head.seq, seq);
        self.waiting.insert((key, old));
        Turn { ready: None, withheld: Some(old) }
    }

    /// The head was delivered: no other message of its key may be.
    pub fn hold(&mut self, key: KeyId) {
        if let Some(head) = self.heads.get_mut(&key) {
            head.busy = true;
        }
    }

    /// A busy message came back unfinished. If no other of its key is busy, the lowest is the next.
    pub fn put_back(&mut self, key: KeyId, seq: Seq) -> Turn {
        let Some(head) = self.heads.get_mut(&key) else { return Turn::default() };
        if head.seq != seq {
            self.also_busy.remove(&(key, seq));
        } else if let Some(other) = pop_first(&mut self.also_busy, key) {
            head.seq = other;
        } else {
            head.busy = false;
            let lowest = of(&self.waiting, key).next();
            if let Some(lowest) = lowest.filter(|&lowest| lowest < seq) {
                self.waiting.remove(&(key, lowest));
                self.waiting.insert((key, seq));
                head.seq = lowest;
            }
            return Turn { ready: Some(head.seq), withheld: None };
        }
        self.waiting.insert((key, seq));
        Turn::default()
    }

    /// Removes a finished message. If no other of its key is busy, the lowest is the next.
    pub fn leave(&mut self, key: KeyId, seq: Seq) -> Turn {
        let Some(head) = self.heads.get_mut(&key) else { return Turn::default() };
        if head.seq != seq {
            if !self.waiting.remove(&(key, seq)) && !self.also_busy.remove(&(key, seq)) {
                self.change_shelf(key, |shelf| shelf.remove(seq));
            }
            return Turn::default();
        }
        if let Some(other) = pop_first(&mut self.also_busy, key) {
            head.seq = other;
            return Turn::default();
        }
        let shelved = self.shelves.get(&key).and_then(SeqList::first);
        let waiting = of(&self.waiting, key).next();
        let Some(next) = shelved.into_iter().chain(waiting).min() else {
            self.heads.remove(&key);
            return Turn::default();
        };
        *head = Head { seq: next, busy: false };
        if waiting == Some(next) {
            self.waiting.remove(&(key, next));
        } else {
            self.change_shelf(key, SeqList::pop_first);
        }
        Turn { ready: Some(next), withheld: None }
    }

    fn change_shelf<T>(&mut self, key: KeyId, change: impl FnOnce(&mut SeqList) -> T) {
        let mut entry = match self.shelves.entry(key) {
            Entry::Occupied(entry) => entry,
            Entry::Vacant(entry) => entry.insert_entry(SeqList::default()),
        };
        let shelf = entry.get_mut();
        self.shelved -= shelf.len();
        self.shelf_bytes -= shelf.bytes();
        change(shelf);
        self.shelved += shelf.len();
        self.shelf_bytes += shelf.bytes();
        if shelf.is_empty() {
            entry.remove();
        }
    }
}

/// The seqs of one key, ascending.
fn of(set: &BTreeSet<(KeyId, Seq)>, key: KeyId) -> impl DoubleEndedIterator<Item = Seq> {
    set.range((key, Seq::MIN)..=(key, Seq::MAX)).map(|&(_, seq)| seq)
}

fn pop_first(set: &mut BTreeSet<(KeyId, Seq)>, key: KeyId) -> Option<Seq> {
    let first = of(set, key).next()?;
    set.remove(&(key, first));
    Some(first)
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
    fn what_was_never_delivered_and_is_above_all_that_is_busy_is_shelved() {
        let mut lanes = Lanes::default();
        assert!(!lanes.shelve(7, 4), "it is the first");
        lanes.enter_busy(7, 4);
        lanes.enter_busy(7, 6);
        assert!(!lanes.shelve(7, 3) && !lanes.shelve(7, 5), "it is below what is busy");
        lanes.enter(7, 5);
        assert!(lanes.shelve(7, 9) && lanes.shelve(7, 8) && lanes.shelve(7, 9));
        assert_eq!((lanes.shelved(), lanes.withheld()), (2, 3));
        assert!(lanes.is_shelved(7, 8) && !lanes.is_shelved(7, 5) && !lanes.is_shelved(8, 8));
        assert_eq!(lanes.leave(7, 4), Turn::default(), "6 is busy");
        assert_eq!(lanes.leave(7, 6), ready(5));
        assert_eq!(lanes.leave(7, 9), Turn::default());
        assert_eq!(lanes.leave(7, 5), ready(8));
        assert_eq!((lanes.withheld(), lanes.shelves().count()), (0, 0));
    }

    #[test]
    fn an_idle_head_that_is_overtaken_can_be_shelved() {
        let mut lanes = Lanes::default();
        lanes.enter(7, 5);
        assert_eq!(lanes.enter(7, 4), Turn { ready: Some(4), withheld: Some(5) });
        assert!(lanes.shelve(7, 5));
        assert_eq!((lanes.shelved(), lanes.withheld()), (1, 1));
        assert_eq!(lanes.leave(7, 4), ready(5));
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
