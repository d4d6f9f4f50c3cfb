//! What this session received last, and may finish without asking: see [`super::lease`].

use super::session;
use crate::engine::consumer::Delivery;
use crate::engine::stream::ConsumerId;
use crate::error::Result;
use std::cell::RefCell;

/// The dispatcher's answer to a request for messages.
struct Received {
    request: u64,
    consumer: ConsumerId,
    row: i64,
    generation: i32,
    /// Their ack_ids are neighbours.
    deliveries: Vec<Delivery>,
}

/// As the dispatcher answers who asks it to finish deliveries.
pub struct Finished {
    pub row: i64,
    pub generation: i32,
    pub deliveries: Vec<Delivery>,
}

thread_local! {
    static LAST: RefCell<Option<Received>> = const { RefCell::new(None) };
}

/// The answer to this session's last request was these.
pub fn remember(consumer: ConsumerId, row: i64, generation: i32, deliveries: &[Delivery]) {
    let request = session::last_request();
    let deliveries = deliveries.to_vec();
    LAST.set(Some(Received { request, consumer, row, generation, deliveries }));
}

/// Finishes deliveries when this transaction commits. `None` if the dispatcher has to be asked: for others than those
/// that were received last, or when it has taken back its word.
pub fn finish(consumer: ConsumerId, ack_ids: &[i64]) -> Result<Option<Finished>> {
    LAST.with_borrow_mut(|last| {
        let Some(received) = last.as_ref().filter(|last| last.consumer == consumer) else {
            return Ok(None);
        };
        let Some(places) = places(&received.deliveries, ack_ids) else { return Ok(None) };
        if !session::finish(received.request, &places)? {
            return Ok(None);
        }
        let Some(received) = last.take() else { return Ok(None) };
        let deliveries = places.iter().map(|&place| received.deliveries[place]).collect();
        Ok(Some(Finished { row: received.row, generation: received.generation, deliveries }))
    })
}

/// Where these ack_ids are among the deliveries, each once; `None` if one of them isn't there.
fn places(deliveries: &[Delivery], ack_ids: &[i64]) -> Option<Vec<usize>> {
    let first = deliveries.first()?.ack_id;
    let mut places = Vec::with_capacity(ack_ids.len());
    let mut is_sorted = true;
    for ack_id in ack_ids {
        let place = usize::try_from(ack_id.checked_sub(first)?).ok()?;
        deliveries.get(place).filter(|delivery| delivery.ack_id == *ack_id)?;
        is_sorted &= places.last().is_none_or(|&last| last < place);
        places.push(place);
    }
    if !is_sorted {
        places.sort_unstable();
        places.dedup();
    }
    (!places.is_empty()).then_some(places)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ack_ids_are_found_among_what_was_received() {
        let deliveries: Vec<Delivery> =
            (0..3).map(|n| Delivery { ack_id: 10 + n, seq: n, deliveries: 1 }).collect();
        assert_eq!(places(&deliveries, &[10, 12]), Some(vec![0, 2]));
        assert_eq!(places(&deliveries, &[12, 10, 12]), Some(vec![0, 2]));
        assert_eq!(places(&deliveries, &[]), None);
        for other in [9, 13, i64::MIN, i64::MAX] {
            assert_eq!(places(&deliveries, &[10, other]), None);
        }
        assert_eq!(places(&[], &[10]), None);
    }
}
