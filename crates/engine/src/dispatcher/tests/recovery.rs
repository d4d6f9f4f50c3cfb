//! A consumer goes on where the tables say that the last dispatcher has left it.

use super::*;
use crate::consumer_state::{ConsumerState, Hold};
use crate::event::{Change, Event, Item};
use crate::fault::Fault;
use crate::key::key_id;
use crate::ranges::RangeSet;

/// The rows of a stream's table and what the journals have of ONE, whose generation is the second.
fn rig(messages: usize, journal: Journal) -> Rig {
    let mut rig = Rig::with(|rig| rig.consumers[0].generation = Generation(2));
    (0..messages).for_each(|n| rig.insert(S, &[&format!("a.{n}")]));
    rig.journals.insert(ONE, journal);
    rig
}

fn seqs(rig: &mut Rig) -> Vec<Seq> {
    rig.receive(1, ONE).into_iter().map(|(seq, _)| seq).collect()
}

/// The answer to a request that can't be served, and the log.
fn refused(rig: &mut Rig) -> (Answer, String) {
    rig.requests += 1;
    let request_id = RequestId(rig.requests);
    let request = Request::Receive { consumer: ONE, batch: 1, ack_wait: None, until: 0 };
    let asked = Asked { session: 1, request_id, pid: 101, request };
    match &rig.give(Input::Requests(vec![asked]))[..] {
        [Effect::Log(text)] => (rig.answer_to(request_id).unwrap().clone(), text.clone()),
        other => panic!("{other:?}"),
    }
}

fn checkpoint(generation: i32, state: ConsumerState) -> Option<Checkpoint> {
    Some(Checkpoint { id: 3, generation: Generation(generation), state, ..Checkpoint::default() })
}

fn ack(id: i64, generation: i32, rejected: bool, seqs: &[Seq]) -> AckRow {
    let change = Change::Finished { seqs: seqs.to_vec() };
    AckRow { id: AckRowId(id), generation: Generation(generation), rejected, change }
}

#[test]
fn a_new_consumer_starts_where_it_was_told_to() {
    let mut rig = Rig::with(|rig| {
        rig.consumers[0].start_after = 2;
        rig.consumers[0].start_done = vec![4, 5];
    });
    rig.insert(S, &["a", "b", "c", "d", "e", "f"]);
    assert_eq!(seqs(&mut rig), [3, 6]);
}

#[test]
fn a_checkpoint_says_what_is_finished_and_one_from_before_a_rewind_only_how_much_was() {
    for (generation, expected) in [(2, vec![4]), (1, vec![1, 2, 3, 4])] {
        let state = ConsumerState { floor: 3, acked_total: 7, ..ConsumerState::default() };
        let journal = Journal { checkpoint: checkpoint(generation, state), ..Journal::default() };
        let mut rig = rig(4, journal);
        assert_eq!(seqs(&mut rig), expected);
        assert_eq!(rig.stats(ONE).counts.acked_total, 7);
    }
}

#[test]
fn acks_since_the_checkpoint_are_counted_and_those_from_before_a_rewind_are_void() {
    let acks = vec![
        ack(5, 2, false, &[1, 2]),
        ack(6, 2, true, &[3]),
        ack(7, 1, false, &[4]),
        ack(8, 2, false, &[6]),
    ];
    let mut rig = rig(6, Journal { acks, ..Journal::default() });
    assert_eq!(seqs(&mut rig), [4, 5]);
    let counts = rig.stats(ONE).counts;
    assert_eq!((counts.acked_total, counts.dead_total), (3, 1));
    // All of these rows are in the next checkpoint, or of no use.
    let effects = rig.give(Input::Flush);
    let folded = effects.iter().find_map(|effect| match effect {
        Effect::Checkpoint { folded_acks, .. } => Some(&folded_acks[..]),
        _ => None,
    });
    assert_eq!(folded, Some(&[(AckRowId(5), AckRowId(8))][..]));
}

/// Whoever may write the tables may have written that, and arithmetic on it might overflow.
#[test]
fn what_no_dispatcher_writes_is_refused_wherever_it_is() {
    let state = ConsumerState { floor: -1, ..ConsumerState::default() };
    let change = Change::Finished { seqs: vec![0] };
    let journals = [
        Journal { checkpoint: checkpoint(2, state), ..Journal::default() },
        Journal { events: vec![Event { id: 5, change }], ..Journal::default() },
        Journal { acks: vec![ack(5, 2, false, &[0])], ..Journal::default() },
    ];
    for journal in journals {
        let mut rig = rig(1, journal);
        let text =
            "cannot read its state: the journal of consumer 1 has numbers that nobody counts up to";
        assert_eq!(refused(&mut rig), (Answer::NotNow, format!("consumer \"one\": {text}")));
        assert_eq!(rig.last_error(ONE).as_deref(), Some(text));
    }
}

#[test]
fn a_stream_is_damaged_whose_sequence_has_not_handed_out_what_a_consumer_has_finished() {
    let state = ConsumerState { floor: 9, ..ConsumerState::default() };
    let mut rig = rig(5, Journal { checkpoint: checkpoint(2, state), ..Journal::default() });
    let fault = Fault::WentBack { last: 5, known: 9 };
    assert_eq!(refused(&mut rig), (Answer::Damaged(fault.to_string()), fault.of("s")));
}

/// A restored dump may have fewer messages than there were.
#[test]
fn where_a_consumer_starts_shows_no_seq_to_have_been_used() {
    let mut rig = Rig::with(|rig| rig.consumers[0].start_after = 9);
    rig.insert(S, &["a"]);
    assert_eq!(seqs(&mut rig), [0; 0]);
}

/// What the views show of a consumer that nobody has loaded.
#[test]
fn a_consumer_that_is_not_loaded_is_shown_as_it_would_be_if_it_were() {
    const NOW: Micros = 100;
    let item = |seq: Seq| Item { seq, key: key_id(&seq.to_string()), deliveries: 1 };
    let held = |seq, due| {
        let ack_id = AckId(seq);
        (seq, (item(seq), Hold::InFlight(Lease { ack_id, due, holder: 0, pinned: false })))
    };
    let state = ConsumerState {
        floor: 2,
        done: RangeSet::from_pairs(&[3, 3]).unwrap(),
        active: BTreeMap::from([held(4, NOW), held(6, NOW + 1)]),
        acked_total: 5,
        ..ConsumerState::default()
    };
    let journal = Journal { checkpoint: checkpoint(1, state), ..Journal::default() };
    let config = &Rig::unconfigured().consumers[0];
    let (stats, used) = unloaded_stats(config, journal, NOW).unwrap();
    let expected = ConsumerStats {
        consumer: ONE,
        counts: Counts { ready: 1, in_flight: 1, acked_total: 5, ..Counts::default() },
        floor: 2,
        cursor: 2,
        first_unfinished: 4,
        is_loaded: true,
        ..ConsumerStats::default()
    };
    assert_eq!((stats, used), (expected, 6));
}
