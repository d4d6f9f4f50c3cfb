//! Requests and answers survive encoding and decoding, or are refused as too long. What surely fits does fit.

use super::*;
use crate::consumer::{Consumer, StepContext};
use crate::ids::Ids;
use crate::settings::Settings;
use proptest::prelude::*;
use std::collections::BTreeMap;

fn ids() -> impl Strategy<Value = Vec<AckId>> {
    prop::collection::vec(any::<i64>().prop_map(AckId), 0..MAX_BATCH)
}

fn number() -> impl Strategy<Value = Option<i64>> {
    any::<Option<i64>>()
}

fn request() -> impl Strategy<Value = Request> {
    let c = || any::<i32>().prop_map(ConsumerId);
    prop_oneof![
        (c(), any::<usize>(), number(), any::<i64>()).prop_map(
            |(consumer, batch, ack_wait, until)| Request::Receive {
                consumer,
                batch,
                ack_wait,
                until
            }
        ),
        (c(), any::<bool>(), ids()).prop_map(|(consumer, rejected, ack_ids)| Request::Finish {
            consumer,
            rejected,
            ack_ids
        }),
        (c(), number(), ids()).prop_map(|(consumer, delay, ack_ids)| Request::Nack {
            consumer,
            delay,
            ack_ids
        }),
        (c(), prop::collection::vec(any::<(i64, u64)>(), 0..MAX_BATCH))
            .prop_map(|(consumer, messages)| Request::Redeliver { consumer, messages }),
        (c(), number(), ids()).prop_map(|(consumer, ack_wait, ack_ids)| Request::Extend {
            consumer,
            ack_wait,
            ack_ids
        }),
        (c(), ids()).prop_map(|(consumer, ack_ids)| Request::Gone { consumer, ack_ids }),
        c().prop_map(|after| Request::Stats { after }),
        (c(), any::<i64>())
            .prop_map(|(consumer, after)| Request::InFlight { consumer, after: AckId(after) }),
        c().prop_map(|consumer| Request::LastError { consumer }),
    ]
}

/// With consecutive ack_ids or not, first deliveries or not, in order or not.
fn deliveries() -> impl Strategy<Value = Vec<Delivery>> {
    let delivery = (prop_oneof![Just(None), any::<Option<i64>>()], any::<i64>(), 1..3_u32);
    let counts = prop_oneof![Just(0), 0..u32::MAX];
    (prop::collection::vec(delivery, 0..MAX_BATCH), any::<i64>(), any::<bool>(), counts).prop_map(
        |(all, first, are_neighbours, count)| {
            let with_id = |(n, (ack_id, seq, least)): (usize, (Option<i64>, i64, u32))| Delivery {
                ack_id: AckId(
                    ack_id
                        .filter(|_| !are_neighbours)
                        .unwrap_or_else(|| first.wrapping_add(n as i64)),
                ),
                seq,
                deliveries: if count == 0 { 1 } else { count.saturating_add(least) },
            };
            all.into_iter().enumerate().map(with_id).collect()
        },
    )
}

fn stats() -> impl Strategy<Value = ConsumerStats> {
    let counts = any::<([usize; 4], [i64; 3])>().prop_map(|([a, b, c, d], [e, f, g])| Counts {
        ready: a,
        in_flight: b,
        delayed: c,
        withheld: d,
        acked_total: e,
        redelivered_total: f,
        dead_total: g,
    });
    (any::<i32>(), counts, any::<[i64; 4]>(), any::<[bool; 3]>()).prop_map(
        |(consumer, counts, [a, b, c, d], [e, f, g])| ConsumerStats {
            consumer: ConsumerId(consumer),
            counts,
            floor: a,
            cursor: b,
            first_unfinished: c,
            waiting: d,
            has_error: e,
            is_damaged: f,
            is_loaded: g,
        },
    )
}

fn lease() -> impl Strategy<Value = (Lease, Seq, u32)> {
    any::<(i64, i64, i32, bool, i64, u32)>().prop_map(|(ack_id, due, holder, pinned, seq, n)| {
        (Lease { ack_id: AckId(ack_id), due, holder, pinned }, seq, n)
    })
}

fn answer() -> impl Strategy<Value = Answer> {
    prop_oneof![
        (any::<i64>(), any::<i32>(), deliveries()).prop_map(
            |(ack_row_id, generation, deliveries)| Answer::Deliveries {
                ack_row_id: AckRowId(ack_row_id),
                generation: Generation(generation),
                deliveries
            }
        ),
        any::<i64>().prop_map(Answer::Count),
        prop::collection::vec(stats(), 0..=STATS_PER_ANSWER).prop_map(Answer::Stats),
        prop::collection::vec(lease(), 0..=LEASES_PER_ANSWER).prop_map(Answer::InFlight),
        "[a-zä ]{0,300}".prop_map(Answer::Text),
        "[a-zä ]{0,300}".prop_map(Answer::Damaged),
        Just(Answer::NoConsumer),
        Just(Answer::TooMany),
        Just(Answer::NotNow),
        Just(Answer::TooLong),
    ]
}

/// Lists of arbitrary numbers: only these can be too long.
fn may_be_too_long(answer: &Answer) -> bool {
    matches!(answer, Answer::Deliveries { .. })
}

/// A consumer that has these messages, each delivered that often, and has redelivered no others.
fn consumer(messages: &BTreeMap<Seq, u32>) -> Consumer {
    let settings = Settings { ordered: false, max_ack_pending: usize::MAX, ..Settings::default() };
    let mut consumer = Consumer::new(settings);
    for (&seq, &deliveries) in messages {
        consumer.enter(seq, 0, deliveries);
        consumer.totals.redelivered_total += i64::from(deliveries.saturating_sub(1));
    }
    consumer
}

/// Messages with gaps between seqs up to some size, and counts of deliveries up to some size.
fn any_messages() -> impl Strategy<Value = BTreeMap<Seq, u32>> {
    (1..54_u32, 1..=32_u32).prop_flat_map(|(gaps, counts)| {
        let message = (1..=gaps, any::<u64>(), 0..=counts, any::<u64>());
        prop::collection::vec(message, MAX_BATCH).prop_map(|all| {
            let mut seq: Seq = 0;
            let message = |(gap_bits, gap, count_bits, count): (u32, u64, u32, u64)| {
                seq = seq.saturating_add_unsigned(1 + (gap >> (64 - gap_bits)));
                (seq, count.checked_shr(64 - count_bits).unwrap_or(0) as u32)
            };
            all.into_iter().map(message).collect()
        })
    })
}

fn grant(consumer: &mut Consumer) -> Vec<Delivery> {
    let mut ids = Ids::new(1).unwrap();
    let mut context = StepContext { now: 0, wall_offset: 0, ids: &mut ids };
    let batch = fitting(MAX_BATCH, consumer);
    consumer.grant(batch, 1, 1, &mut context)
}

fn encode(answer: &Answer) -> Option<usize> {
    answer.encode(&mut [0; MAX_BYTES])
}

fn answer_of(deliveries: Vec<Delivery>) -> Answer {
    let (ack_row_id, generation) = (AckRowId(i64::MAX), Generation(i32::MIN));
    Answer::Deliveries { ack_row_id, generation, deliveries }
}

proptest! {
    #[test]
    fn a_request_arrives_as_it_was_posted(request in request(), room in 0..2 * MAX_BYTES) {
        let mut all = vec![0; 20 * MAX_BATCH];
        let len = request.encode(&mut all).unwrap();
        prop_assert_eq!(Request::decode(&all[..len]), Some(request.clone()));
        prop_assert_eq!(request.encode(&mut vec![0; room]), (len <= room).then_some(len));
    }

    #[test]
    fn an_answer_arrives_as_it_was_given(answer in answer(), room in 0..2 * MAX_BYTES) {
        let mut all = vec![0; 30 * MAX_BATCH];
        let len = answer.encode(&mut all).unwrap();
        prop_assert_eq!(Answer::decode(&all[..len]), Some(answer.clone()));
        prop_assert_eq!(answer.encode(&mut vec![0; room]), (len <= room).then_some(len));
        prop_assert!(len <= MAX_BYTES || may_be_too_long(&answer));
    }

    #[test]
    fn foreign_bytes_are_no_panic(bytes in prop::collection::vec(any::<u8>(), 0..40), kind in 0..12u8) {
        let known = [&[kind], &bytes[..]].concat();
        let _ = (Request::decode(&bytes), Answer::decode(&bytes));
        let _ = (Request::decode(&known), Answer::decode(&known));
    }

    #[test]
    fn what_is_cut_off_is_not_read(answer in answer(), request in request(), at in any::<prop::sample::Index>()) {
        let mut all = vec![0; 30 * MAX_BATCH];
        let len = answer.encode(&mut all).unwrap();
        prop_assert_eq!(Answer::decode(&all[..at.index(len)]), None);
        let len = request.encode(&mut all).unwrap();
        prop_assert_eq!(Request::decode(&all[..at.index(len)]), None);
    }

    /// Whatever the seqs are, and however often it has failed.
    #[test]
    fn a_grant_always_fits(messages in any_messages()) {
        let granted = grant(&mut consumer(&messages));
        prop_assert!(!granted.is_empty());
        prop_assert!(encode(&answer_of(granted)).is_some());
    }

    #[test]
    fn a_list_is_asked_about_in_parts(
        lengths in prop::collection::vec(1..100_usize, 0..2 * MAX_BATCH),
        room in 100..5000_usize,
    ) {
        let mut asked: Vec<usize> = Vec::new();
        let mut taken = 0;
        let ask = |part: &[usize]| -> Result<Answer, ()> {
            if part.len() > MAX_BATCH {
                return Err(());
            }
            if part.iter().sum::<usize>() > room {
                return Ok(Answer::TooLong);
            }
            asked.extend(part);
            Ok(Answer::Count(part.len() as i64))
        };
        let take = |answer| {
            let Answer::Count(n) = answer else { return Err(()) };
            taken += n;
            Ok(())
        };
        prop_assert_eq!(in_parts(&lengths, ask, take), Ok(()));
        prop_assert_eq!(taken, lengths.len() as i64);
        prop_assert_eq!(asked, lengths);
    }
}

fn every(gap: Seq, deliveries: u32) -> BTreeMap<Seq, u32> {
    (1..=MAX_BATCH as Seq).map(|n| (n * gap, deliveries)).collect()
}

#[test]
fn a_full_batch_is_granted_unless_seqs_are_far_apart_and_failures_many() {
    for (gap, deliveries) in [(1, 0), (1, 100), (1 << 26, 3), (1 << 12, 10_000), (63, 1 << 20)] {
        let granted = grant(&mut consumer(&every(gap, deliveries)));
        assert_eq!(granted.len(), MAX_BATCH, "{gap} {deliveries}");
    }
    let granted = grant(&mut consumer(&every(i64::MAX / MAX_BATCH as Seq, u32::MAX - 1)));
    assert!((300..MAX_BATCH).contains(&granted.len()), "{}", granted.len());
}

#[test]
fn a_batch_takes_a_byte_or_two_for_each_message() {
    let size = |gap, deliveries| encode(&answer_of(grant(&mut consumer(&every(gap, deliveries)))));
    assert!(size(1, 0) < Some(1040));
    assert!(size(60, 0) < Some(1040));
    assert!(size(1000, 0) < Some(2040));
    assert!(size(1000, 3) < Some(3040));
}

#[test]
fn what_says_how_much_fits_is_near_the_truth() {
    let worst = ConsumerStats {
        consumer: ConsumerId(i32::MIN),
        counts: Counts {
            ready: usize::MAX,
            in_flight: usize::MAX,
            delayed: usize::MAX,
            withheld: usize::MAX,
            acked_total: i64::MIN,
            redelivered_total: i64::MIN,
            dead_total: i64::MIN,
        },
        floor: i64::MIN,
        cursor: i64::MIN,
        first_unfinished: i64::MIN,
        waiting: i64::MIN,
        has_error: true,
        is_damaged: true,
        is_loaded: true,
    };
    assert!(encode(&Answer::Stats(vec![worst; STATS_PER_ANSWER])).is_some());
    assert!(encode(&Answer::Stats(vec![worst; STATS_PER_ANSWER + 1])).is_none());
    let lease = Lease { ack_id: AckId(i64::MIN), due: i64::MIN, holder: i32::MIN, pinned: true };
    let worst = (lease, i64::MIN, u32::MAX);
    assert!(encode(&Answer::InFlight(vec![worst; LEASES_PER_ANSWER])).is_some());
    assert!(encode(&Answer::InFlight(vec![worst; LEASES_PER_ANSWER + 1])).is_none());
}
