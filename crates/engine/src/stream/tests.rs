//! Which rows are read for which consumer. `tail` tests the tail's own rules, and `model` that nothing gets lost.

use super::*;
use crate::consumer::{LOOK_AHEAD, StepContext};
use crate::ids::{AckId, Ids};
use crate::ranges::RangeSet;
use crate::tail::Reached;

const NONE: [Seq; 0] = [];

const ONE: ConsumerId = ConsumerId(1);
const TWO: ConsumerId = ConsumerId(2);
const THREE: ConsumerId = ConsumerId(3);

/// The stream, its table, and its publishers.
struct Bed {
    stream: Stream,
    table: BTreeMap<Seq, &'static str>,
    last: Seq,
    open: Vec<Publisher>,
    ids: Ids,
}

fn start(floor: Seq) -> ConsumerState {
    ConsumerState::start(floor, RangeSet::new())
}

fn filters(text: &str) -> Vec<Filter> {
    vec![Filter::parse(text).unwrap()]
}

impl Bed {
    fn new(last: Seq, open: &[Seq]) -> Bed {
        let mut bed = Bed {
            stream: Stream::new(0, &[]),
            table: BTreeMap::new(),
            last,
            open: Vec::new(),
            ids: Ids::new(1).unwrap(),
        };
        bed.open(open);
        bed.stream = Stream::new(last, &bed.open);
        bed
    }

    /// Sets the publishers, given by their bounds.
    fn open(&mut self, bounds: &[Seq]) {
        let publisher = |&bound| Publisher { session: bound as u32, transaction: 1, bound };
        self.open = bounds.iter().map(publisher).collect();
    }

    fn put(&mut self, id: ConsumerId, filter: &str, from: ConsumerState) {
        self.stream.put(id, filters(filter), Settings::default(), from);
    }

    /// Committed messages from `first` on.
    fn commit(&mut self, first: Seq, keys: &[&'static str]) {
        self.table.extend((first..).zip(keys.iter().copied()));
        self.last = self.last.max(self.table.keys().next_back().copied().unwrap_or(0));
    }

    fn read(&self, ranges: &[(Seq, Seq)], limit: usize) -> Found {
        let rows = ranges.iter().flat_map(|&(lo, hi)| self.table.range(lo..=hi));
        let rows: Vec<Row> = rows.map(|(&seq, &key)| Row { seq, key: key.into() }).collect();
        let reached = match rows.get(limit) {
            None => Reached::End,
            Some(next) => Reached::UpTo(next.seq - 1),
        };
        Found { rows: rows.into_iter().take(limit).collect(), reached }
    }

    fn look(&mut self) {
        let plan = self.stream.plan_read(self.last, self.open.clone(), 100);
        let late = self.read(&plan.recheck, 1000);
        let scan: Vec<_> = plan.scan.iter().map(|&(after, upto)| (after + 1, upto)).collect();
        let new = self.read(&scan, 1000);
        self.stream.apply_read(plan, &late, &new);
    }

    fn catch_up(&mut self, id: ConsumerId, limit: usize) {
        let (after, upto) = self.stream.behind(id).expect("is behind");
        let found = self.read(&[(after + 1, upto)], limit);
        self.stream.catch_up(id, &found, upto);
    }

    fn grant(&mut self, id: ConsumerId, max: usize) -> Vec<(Seq, AckId)> {
        let mut context = StepContext { now: 0, wall_offset: 0, ids: &mut self.ids };
        let deliveries = self.stream.consumer_mut(id).unwrap().grant(max, 100, 0, &mut context);
        deliveries.into_iter().map(|delivery| (delivery.seq, delivery.ack_id)).collect()
    }

    fn ack(&mut self, id: ConsumerId, ack_ids: impl IntoIterator<Item = AckId>) {
        let consumer = self.stream.consumer_mut(id).unwrap();
        assert!(ack_ids.into_iter().all(|ack_id| consumer.finish(ack_id)));
    }

    /// Receives and acks all messages that there are, and returns their seqs.
    fn take(&mut self, id: ConsumerId) -> Vec<Seq> {
        let (mut seqs, mut ack_ids): (Vec<Seq>, Vec<AckId>) =
            self.grant(id, 1000).into_iter().unzip();
        while !ack_ids.is_empty() {
            self.ack(id, ack_ids);
            let more: (Vec<Seq>, Vec<AckId>) = self.grant(id, 1000).into_iter().unzip();
            seqs.extend(more.0);
            ack_ids = more.1;
        }
        seqs
    }
}

#[test]
fn each_consumer_gets_what_its_filters_match() {
    let mut bed = Bed::new(0, &[]);
    bed.put(ONE, ">", start(0));
    bed.put(TWO, "a.*", start(0));
    bed.put(THREE, "a.*", start(2));
    bed.commit(1, &["a.x", "b", "a.y"]);
    bed.look();
    assert_eq!(
        [bed.take(ONE), bed.take(TWO), bed.take(THREE)],
        [vec![1, 2, 3], vec![1, 3], vec![3]]
    );
}

#[test]
fn a_dropped_consumer_gets_nothing_and_its_id_may_come_again() {
    let mut bed = Bed::new(0, &[]);
    bed.put(ONE, ">", start(0));
    bed.stream.remove(ONE);
    bed.commit(1, &["a"]);
    bed.look();
    assert!(bed.stream.consumer(ONE).is_none());
    bed.put(ONE, "b", start(0));
    bed.commit(2, &["b"]);
    bed.look();
    bed.catch_up(ONE, 10);
    assert_eq!(bed.take(ONE), [2]);
}

#[test]
fn what_fills_a_hole_goes_to_those_it_matches() {
    let mut bed = Bed::new(0, &[1]);
    bed.put(ONE, ">", start(0));
    bed.put(TWO, "b", start(0));
    bed.commit(3, &["a", "b"]);
    bed.look();
    assert_eq!((bed.take(ONE), bed.take(TWO)), (vec![3, 4], vec![4]));
    bed.commit(1, &["a", "b"]);
    bed.look();
    assert_eq!((bed.take(ONE), bed.take(TWO)), (vec![], vec![]), "its publisher is still open");
    bed.open(&[]);
    bed.look();
    assert_eq!((bed.take(ONE), bed.take(TWO)), (vec![1, 2], vec![2]));
    assert_eq!(bed.stream.floor(ONE), Some(4));
}

#[test]
fn a_full_consumer_detaches_and_the_others_go_on() {
    let mut bed = Bed::new(0, &[]);
    bed.put(ONE, ">", start(0));
    bed.put(TWO, ">", start(0));
    let all = LOOK_AHEAD + 10;
    let keys: Vec<&'static str> = (0..all).map(|n| &*format!("k.{n}").leak()).collect();
    let (first, more) = keys.split_at(LOOK_AHEAD);
    bed.commit(1, first);
    bed.look();
    assert_eq!(bed.take(TWO).len(), LOOK_AHEAD);
    bed.commit(LOOK_AHEAD as Seq + 1, more);
    bed.look();
    assert_eq!(bed.take(TWO).len(), 10);
    assert_eq!(bed.stream.cursor(ONE), Some(LOOK_AHEAD as Seq));
    assert_eq!(bed.stream.behind(ONE), None, "it is full");
    assert_eq!(bed.take(ONE).len(), LOOK_AHEAD);
    assert_eq!(bed.stream.behind(ONE), Some((LOOK_AHEAD as Seq, all as Seq)));
}

#[test]
fn a_key_with_any_number_of_withheld_messages_stops_no_other_key() {
    let mut bed = Bed::new(0, &[]);
    bed.put(ONE, ">", start(0));
    bed.stream.consumer_mut(ONE).unwrap().set_budget(0);
    let hot = 100 * LOOK_AHEAD;
    bed.commit(1, &vec!["hot"; hot]);
    while bed.stream.tail().pos() < hot as Seq {
        bed.look();
    }
    let [(1, ack_id)] = bed.grant(ONE, 10)[..] else { panic!("the head of one key") };
    bed.commit(hot as Seq + 1, &["a", "hot", "b"]);
    bed.look();
    let granted: Vec<Seq> = bed.grant(ONE, 10).into_iter().map(|(seq, _)| seq).collect();
    assert_eq!(granted, [hot as Seq + 1, hot as Seq + 3]);
    assert_eq!(bed.stream.floor(ONE), Some(0));
    bed.ack(ONE, [ack_id]);
    assert_eq!(bed.take(ONE).len(), hot);
}

#[test]
fn a_consumer_that_is_put_elsewhere_keeps_its_budget() {
    let mut bed = Bed::new(0, &[]);
    bed.put(ONE, ">", start(0));
    bed.stream.consumer_mut(ONE).unwrap().set_budget(0);
    bed.put(ONE, ">", start(0));
    bed.commit(1, &["a", "b", "c", "d"]);
    bed.look();
    assert!(bed.stream.consumer(ONE).unwrap().is_full());
}

#[test]
fn a_detached_consumer_reads_on_from_its_cursor_and_attaches_at_the_tail() {
    let mut bed = Bed::new(0, &[]);
    bed.commit(1, &["a"; 10]);
    bed.look();
    bed.put(ONE, ">", start(0));
    bed.catch_up(ONE, 4);
    assert_eq!(bed.stream.cursor(ONE), Some(4));
    bed.commit(11, &["a"]);
    bed.look();
    assert_eq!(bed.take(ONE), [1, 2, 3, 4]);
    bed.catch_up(ONE, 100);
    assert_eq!(bed.stream.behind(ONE), None);
    bed.commit(12, &["a"]);
    bed.look();
    assert_eq!(bed.take(ONE), [5, 6, 7, 8, 9, 10, 11, 12]);
}

/// Otherwise a later message would come first: the read was made before the hole was filled, so it lacks the hole's
/// message, which is offered only when the tail finds it.
#[test]
fn a_detached_consumer_gets_what_fills_a_hole_once() {
    for is_past in [false, true] {
        let mut bed = Bed::new(0, &[1]);
        bed.commit(2, &["a", "a"]);
        bed.look();
        bed.commit(1, &["b"]);
        bed.put(ONE, ">", start(0));
        if is_past {
            bed.catch_up(ONE, 1);
            assert_eq!(bed.stream.cursor(ONE), Some(1));
        }
        bed.open(&[]);
        bed.look();
        bed.catch_up(ONE, 100);
        assert_eq!(bed.take(ONE), [1, 2, 3]);
    }
}

#[test]
fn a_read_that_is_older_than_the_tail_is_not_used() {
    let mut bed = Bed::new(0, &[1]);
    bed.commit(2, &["a"]);
    bed.look();
    bed.put(ONE, ">", start(0));
    let (after, upto) = bed.stream.behind(ONE).unwrap();
    let found = bed.read(&[(after + 1, upto)], 100);
    bed.commit(1, &["a"]);
    bed.open(&[]);
    bed.look();
    bed.stream.catch_up(ONE, &found, upto);
    bed.catch_up(ONE, 100);
    assert_eq!(bed.take(ONE), [1, 2]);
}

#[test]
fn a_look_that_another_has_followed_is_void() {
    let mut bed = Bed::new(0, &[]);
    bed.put(ONE, ">", start(0));
    bed.commit(1, &["a"]);
    let plan = bed.stream.plan_read(bed.last, Vec::new(), 100);
    let new = bed.read(&[(1, 1)], 100);
    bed.look();
    assert_eq!(bed.take(ONE), [1]);
    assert!(
        bed.stream
            .apply_read(plan, &Found { rows: Vec::new(), reached: Reached::Nowhere }, &new)
            .is_empty()
    );
    assert_eq!(bed.take(ONE), NONE);
}

/// The dispatcher starts while a publisher is open, so its tail begins below messages that the consumer has finished.
#[test]
fn what_was_finished_beyond_the_tail_does_not_come_again() {
    let mut bed = Bed::new(3, &[1]);
    bed.commit(2, &["a", "a"]);
    let mut state = start(0);
    state.done.insert_range(2, 3);
    bed.put(ONE, ">", state);
    assert_eq!(bed.stream.tail().pos(), 0);
    bed.look();
    assert_eq!(bed.take(ONE), NONE);
    bed.commit(1, &["a"]);
    bed.open(&[]);
    bed.look();
    assert_eq!(bed.take(ONE), [1]);
}

#[test]
fn a_consumer_put_elsewhere_forgets_its_deliveries() {
    let mut bed = Bed::new(0, &[]);
    bed.put(ONE, ">", start(0));
    bed.commit(1, &["a", "b", "c"]);
    bed.look();
    let old = bed.grant(ONE, 10);
    bed.put(ONE, ">", start(1));
    bed.catch_up(ONE, 10);
    assert!(
        old.iter().all(|&(_, ack_id)| bed.stream.consumer_mut(ONE).unwrap().pin(ack_id).is_none())
    );
    assert_eq!(bed.take(ONE), [2, 3]);
}

#[test]
fn only_finished_messages_can_be_redelivered() {
    let mut bed = Bed::new(0, &[1]);
    bed.put(ONE, ">", start(0));
    bed.commit(2, &["a", "b"]);
    bed.look();
    let [(2, acked), (3, _)] = bed.grant(ONE, 10)[..] else { panic!("two messages") };
    bed.ack(ONE, [acked]);
    let key = |seq| key_id(if seq == 3 { "b" } else { "a" });
    let seen: Vec<bool> = (1..=4).map(|seq| bed.stream.seen(ONE, seq, key(seq))).collect();
    assert_eq!(seen, [false, true, false, false], "a hole, finished, in flight, not there yet");
}
