//! Many messages of one key, and what a consumer may take in memory.

use super::super::memory::{ALWAYS_LOADED, USUAL_BUDGET};
use super::*;
use crate::consumer_state::ConsumerState;
use crate::ranges::RangeSet;

const HOT: KeyId = 7;
const MILLION: Seq = 1_000_000;

impl Desk {
    /// Receives and acks one at a time, until nothing comes.
    fn drain(&mut self) -> Vec<Seq> {
        let mut all = Vec::new();
        loop {
            let (seqs, ack_id) = self.grant(1);
            let [seq] = seqs[..] else { return all };
            all.push(seq);
            assert!(self.ack(ack_id));
        }
    }

    fn state(&self, cursor: Seq) -> ConsumerState {
        self.consumer.state(cursor, &RangeSet::new())
    }
}

#[test]
fn a_million_withheld_messages_take_at_most_four_bytes_each_and_stop_no_other_key() {
    for (gap, most) in [(1, 0.001), (3, 4.0), (1000, 4.0)] {
        let mut desk = desk(Settings::default());
        desk.consumer.offer(gap, HOT);
        let (_, hot) = desk.grant(1);
        let before = desk.consumer.memory();
        (2..MILLION + 2).for_each(|n| desk.consumer.offer(n * gap, HOT));
        assert_eq!(desk.consumer.counts().withheld, 1_000_000);
        let each = (desk.consumer.memory() - before) as f64 / 1e6;
        assert!(each <= most, "every {gap}th takes {each} bytes");
        // What is above all that was ever delivered is read again, and need not be remembered.
        assert!(desk.state((MILLION + 1) * gap).size() <= 2);
        for n in 3..1000 {
            assert!(!desk.consumer.is_full() && desk.consumer.wants_more());
            desk.consumer.offer(MILLION * gap + n * gap, n as KeyId * 1000);
            let (seqs, ack_id) = desk.grant(10);
            assert_eq!(seqs, [MILLION * gap + n * gap]);
            assert!(desk.ack(ack_id));
        }
        // Withheld messages are not finished. Those that are finished are few ranges, if that is possible.
        let state = desk.state(MILLION * gap + 999 * gap);
        assert_eq!((state.floor, state.active.len()), (gap - 1, 1));
        assert!([1, 1_000_001].contains(&state.done.range_count()));
        let is_done = |n: Seq| state.done.contains(n * gap);
        assert!(!is_done(2) && !is_done(MILLION + 1) && is_done(MILLION + 3));
        assert_eq!(state.done.contains(2 * gap + 1), gap > 1);
        assert!(desk.ack(hot));
        assert_eq!(desk.grant(10).0, [2 * gap]);
    }
}

/// Key HOT: 20 is in flight, 30 to 998 are withheld above it, some of which come late, and 5 below it.
fn in_the_middle() -> (Desk, Vec<Seq>) {
    let mut desk = desk(Settings::default());
    desk.consumer.offer(20, HOT);
    assert_eq!(desk.grant(1).0, [20]);
    (30..1000).step_by(4).for_each(|seq| desk.consumer.offer(seq, HOT));
    let late = (8..250).rev().map(|n| n * 4).chain([5, 21]);
    late.for_each(|seq| desk.consumer.offer(seq, HOT));
    // Offered once more, they are known.
    (30..1000).step_by(2).chain([5, 20, 21]).for_each(|seq| desk.consumer.offer(seq, HOT));
    let all: Vec<Seq> = [5, 20, 21].into_iter().chain((30..1000).step_by(2)).collect();
    assert_eq!(desk.consumer.counts().withheld + 1, all.len());
    assert_eq!(
        (desk.consumer.unfinished(), desk.consumer.first_unfinished()),
        (all.len(), Some(5))
    );
    (desk, all)
}

#[test]
fn what_comes_late_waits_its_turn_among_what_is_withheld() {
    let (mut desk, all) = in_the_middle();
    for seq in [5, 21, 500, 998] {
        assert!(desk.consumer.is_unfinished(seq, HOT));
        assert!(!desk.consumer.redeliver(seq, HOT), "it is unfinished");
    }
    assert!(!desk.consumer.is_unfinished(31, HOT) && !desk.consumer.is_unfinished(30, 8));
    desk.tick_at(HOUR + LEASE);
    assert_eq!(desk.drain(), all);
    assert_eq!(desk.consumer.memory(), 0);
}

#[test]
fn a_message_below_the_head_is_redelivered_before_what_is_withheld() {
    let (mut desk, all) = in_the_middle();
    desk.tick_at(HOUR + LEASE);
    let (seqs, first) = desk.grant(1);
    assert_eq!(seqs, [5]);
    assert!(desk.ack(first));
    assert!(desk.consumer.redeliver(5, HOT) && desk.consumer.redeliver(2, HOT));
    assert!(desk.consumer.redeliver(31, HOT));
    let mut expected: Vec<Seq> = all.into_iter().chain([2, 31]).collect();
    expected.sort_unstable();
    // 20 was delivered before, so it was ready again, and the lower ones are before it all the same.
    assert_eq!(desk.drain(), expected);
}

#[test]
fn what_is_withheld_comes_again_after_a_restart_and_nothing_else() {
    for ordered in [true, false] {
        let (mut desk, all) = in_the_middle();
        desk.tick_at(HOUR + LEASE);
        let (seqs, first) = desk.grant(1);
        assert_eq!(seqs, [5]);
        assert!(desk.ack(first));
        desk.consumer.offer(1002, 8);
        let (seqs, first) = desk.grant(10);
        assert_eq!(seqs, [20, 1002]);
        assert!(desk.ack(first) && desk.ack(first.at(1)));
        let state = desk.state(1002);
        let settings = Settings { ordered, ..Settings::default() };
        desk.consumer = Consumer::restore(settings, state);
        let rows = all.iter().map(|&seq| (seq, HOT)).chain([(1002, 8)]);
        rows.for_each(|(seq, key)| desk.consumer.offer(seq, key));
        desk.consumer.loaded(1002, None);
        desk.tick_at(2 * HOUR);
        let left: Vec<Seq> = all.into_iter().filter(|&seq| seq > 20).collect();
        assert_eq!(desk.drain(), left, "ordered: {ordered}");
    }
}

#[test]
fn a_consumer_is_full_when_it_takes_its_budget() {
    let mut desk = desk(Settings::default());
    desk.offer(&vec![HOT; 100 * LOOK_AHEAD]);
    assert!(desk.consumer.memory() < USUAL_BUDGET / 4, "{}", desk.consumer.memory());
    let mut last = 100 * LOOK_AHEAD as Seq;
    while !desk.consumer.is_full() {
        last += 1;
        desk.consumer.offer(last, last as KeyId);
    }
    let own = last as usize - 100 * LOOK_AHEAD;
    assert!((LOOK_AHEAD - 3..=LOOK_AHEAD).contains(&own), "{own} of keys of their own");
    desk.consumer.set_budget(2 * USUAL_BUDGET);
    assert!(desk.consumer.is_full() && !desk.consumer.wants_more(), "no budget is larger");
}

/// However small the budget is, and however many messages are withheld or in flight, a consumer reads on until it has
/// something to deliver.
#[test]
fn the_smallest_budget_keeps_no_consumer_from_delivering() {
    let mut desk = desk(Settings::default());
    desk.consumer.set_budget(0);
    desk.offer(&[HOT; 100]);
    for n in 1..ALWAYS_LOADED {
        assert!(!desk.consumer.is_full() && desk.consumer.wants_more(), "{n} are ready");
        desk.consumer.offer(100 + n as Seq, 1000 + n as KeyId);
    }
    assert!(desk.consumer.is_full() && !desk.consumer.wants_more());
    let (seqs, first) = desk.grant(100);
    assert_eq!(seqs.len(), ALWAYS_LOADED);
    assert!(!desk.consumer.is_full() && desk.consumer.wants_more(), "others want some, too");
    assert!(desk.ack(first.at(1)));
    // A withheld message of the key becomes ready, which is enough.
    assert!(desk.ack(first));
    assert!(!desk.consumer.is_full() && desk.consumer.deliverable() == 1);
    // A restored consumer loads up to what it had delivered, and further.
    let mut restored = Consumer::restore(Settings::default(), desk.state(110));
    restored.set_budget(0);
    (1..=103)
        .for_each(|seq| restored.offer(seq, if seq <= 100 { HOT } else { 900 + seq as KeyId }));
    assert!(!restored.is_full() && restored.wants_more());
    restored.loaded(103, None);
    assert!(restored.recovering_until.is_none() && !restored.is_full());
    assert!(restored.deliverable() > 0);
}

#[test]
fn what_is_redelivered_is_bounded_and_what_is_withheld_hardly_counts() {
    let mut desk = desk(Settings::default());
    desk.offer(&[HOT; 100_000]);
    assert!(desk.consumer.has_room_to_redeliver(2 * LOOK_AHEAD - 3));
    assert!(!desk.consumer.has_room_to_redeliver(2 * LOOK_AHEAD));
    assert!(!desk.consumer.has_room_to_redeliver(usize::MAX));
}
