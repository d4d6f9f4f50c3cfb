//! What this session received last, which it may finish without asking the dispatcher: see [`sequin_engine::entry`].

use super::current;
use crate::error::Result;
use sequin_engine::dispatcher::Delivery;
use sequin_engine::ids::{AckId, AckRowId, ConsumerId, Generation, RequestId};
use std::cell::RefCell;

/// The dispatcher's answer to a request for messages.
struct Received {
    request: RequestId,
    consumer: ConsumerId,
    ack_row_id: AckRowId,
    generation: Generation,
    /// Their ack_ids are consecutive.
    deliveries: Vec<Delivery>,
}

/// Deliveries that are finished when the transaction commits, and what their row of sequin.acks needs.
pub struct Finished {
    pub ack_row_id: AckRowId,
    pub generation: Generation,
    pub deliveries: Vec<Delivery>,
}

thread_local! {
    static LAST: RefCell<Option<Received>> = const { RefCell::new(None) };
}

/// Remembers the answer to this session's last request.
pub fn remember(
    consumer: ConsumerId,
    ack_row_id: AckRowId,
    generation: Generation,
    deliveries: &[Delivery],
) {
    let request = current::last_request();
    let deliveries = deliveries.to_vec();
    LAST.set(Some(Received { request, consumer, ack_row_id, generation, deliveries }));
}

/// Finishes deliveries when this transaction commits. `None` if the dispatcher has to be asked: if the deliveries are
/// not those that were received last, or if the dispatcher has revoked the right.
pub fn finish(consumer: ConsumerId, ack_ids: &[AckId]) -> Result<Option<Finished>> {
    LAST.with_borrow_mut(|last| {
        let Some(received) = last.as_ref().filter(|last| last.consumer == consumer) else {
            return Ok(None);
        };
        let Some(positions) = positions(&received.deliveries, ack_ids) else { return Ok(None) };
        if !current::finish(received.request, &positions)? {
            return Ok(None);
        }
        let Some(received) = last.take() else { return Ok(None) };
        let deliveries = positions.iter().map(|&position| received.deliveries[position]).collect();
        Ok(Some(Finished {
            ack_row_id: received.ack_row_id,
            generation: received.generation,
            deliveries,
        }))
    })
}

/// Where these ack_ids are among the deliveries, each once; `None` if one of them isn't there.
fn positions(deliveries: &[Delivery], ack_ids: &[AckId]) -> Option<Vec<usize>> {
    let first = deliveries.first()?.ack_id;
    let mut positions = Vec::with_capacity(ack_ids.len());
    let mut is_sorted = true;
    for ack_id in ack_ids {
        let position = usize::try_from(ack_id.0.checked_sub(first.0)?).ok()?;
        deliveries.get(position).filter(|delivery| delivery.ack_id == *ack_id)?;
        is_sorted &= positions.last().is_none_or(|&last| last < position);
        positions.push(position);
    }
    if !is_sorted {
        positions.sort_unstable();
        positions.dedup();
    }
    (!positions.is_empty()).then_some(positions)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ack_ids_are_found_among_what_was_received() {
        let deliveries: Vec<Delivery> =
            (0..3).map(|n| Delivery { ack_id: AckId(10 + n), seq: n, deliveries: 1 }).collect();
        let positions = |deliveries: &[Delivery], ack_ids: &[i64]| {
            positions(deliveries, &ack_ids.iter().copied().map(AckId).collect::<Vec<_>>())
        };
        assert_eq!(positions(&deliveries, &[10, 12]), Some(vec![0, 2]));
        assert_eq!(positions(&deliveries, &[12, 10, 12]), Some(vec![0, 2]));
        assert_eq!(positions(&deliveries, &[]), None);
        for other in [9, 13, i64::MIN, i64::MAX] {
            assert_eq!(positions(&deliveries, &[10, other]), None);
        }
        assert_eq!(positions(&[], &[10]), None);
    }
}
