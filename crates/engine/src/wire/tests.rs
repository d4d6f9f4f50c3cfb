//! Requests and answers survive the way through the slot.

use super::*;
use proptest::prelude::*;

fn ids() -> impl Strategy<Value = Vec<i64>> {
    prop::collection::vec(any::<i64>(), 0..MAX_BATCH)
}

fn wait() -> impl Strategy<Value = Option<i64>> {
    prop::option::of(0..i64::MAX)
}

fn request() -> impl Strategy<Value = Request> {
    let c = any::<i32>;
    prop_oneof![
        (c(), 1..MAX_BATCH, wait(), any::<i64>()).prop_map(|(consumer, batch, ack_wait, until)| {
            Request::Receive { consumer, batch, ack_wait, until }
        }),
        (c(), any::<bool>(), ids()).prop_map(|(consumer, rejected, ack_ids)| Request::Finish {
            consumer,
            rejected,
            ack_ids
        }),
        (c(), wait(), ids()).prop_map(|(consumer, delay, ack_ids)| Request::Nack {
            consumer,
            delay,
            ack_ids
        }),
        (c(), prop::collection::vec(any::<(i64, u64)>(), 0..MAX_BATCH))
            .prop_map(|(consumer, messages)| Request::Redeliver { consumer, messages }),
        (c(), wait(), ids()).prop_map(|(consumer, ack_wait, ack_ids)| Request::Extend {
            consumer,
            ack_wait,
            ack_ids
        }),
        (c(), ids()).prop_map(|(consumer, ack_ids)| Request::Gone { consumer, ack_ids }),
        c().prop_map(|after| Request::Stats { after }),
        (c(), any::<i64>()).prop_map(|(consumer, after)| Request::InFlight { consumer, after }),
    ]
}

proptest! {
    #[test]
    fn a_request_arrives_as_it_was_posted(request in request()) {
        let words = request.encode();
        prop_assert!(words.len() <= MAX_WORDS);
        prop_assert_eq!(Request::decode(&words), Some(request));
    }

    #[test]
    fn deliveries_arrive_as_they_were_granted(ack_row_id: i64, generation: i32, all in prop::collection::vec(any::<(i64, i64, u32)>(), 0..MAX_BATCH)) {
        let deliveries =
            all.into_iter().map(|(ack_id, seq, deliveries)| Delivery { ack_id, seq, deliveries });
        let answer = Answer::Deliveries { ack_row_id, generation, deliveries: deliveries.collect() };
        let words = answer.encode();
        prop_assert!(words.len() <= MAX_WORDS);
        prop_assert_eq!(Answer::decode(&words), Some(answer));
    }

    #[test]
    fn foreign_words_are_no_panic(words in prop::collection::vec(any::<i64>(), 0..40)) {
        let _ = (Request::decode(&words), Answer::decode(&words));
    }
}
