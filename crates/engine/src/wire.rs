//! The encoding of requests and answers in a session's entry. Whether one fits is known when it has been encoded. A
//! list that doesn't fit is sent in parts.
//!
//! In a list, each number is written as its distance from the one before: seqs ascend, and ack_ids are mostly
//! consecutive. A thousand deliveries take one to four kilobytes.

mod bytes;
mod room;
#[cfg(test)]
mod tests;

use super::consumer::{Counts, Delivery, Lease};
use super::dispatcher::{Answer, ConsumerStats, Request};
use super::ids::{AckId, AckRowId, ConsumerId, Generation};
use super::key::{KeyId, Seq};
use bytes::{Reader, Writer};
pub(crate) use room::fitting;
pub use room::{LEASES_PER_ANSWER, MAX_BATCH, MAX_BYTES, STATS_PER_ANSWER, in_parts};

/// Encodes and decodes a list of numbers by their distances.
#[derive(Default)]
struct Distance(i64);

impl Distance {
    fn write(&mut self, w: &mut Writer, number: i64) {
        w.signed(number.wrapping_sub(self.0));
        self.0 = number;
    }

    fn read(&mut self, r: &mut Reader) -> Option<i64> {
        self.0 = self.0.wrapping_add(r.signed()?);
        Some(self.0)
    }

    fn next(&mut self) -> i64 {
        self.0 = self.0.wrapping_add(1);
        self.0
    }
}

fn write_ids(w: &mut Writer, ids: &[AckId]) {
    w.count(ids.len());
    let mut distance = Distance::default();
    ids.iter().for_each(|id| distance.write(w, id.0));
}

fn read_ids(r: &mut Reader) -> Option<Vec<AckId>> {
    let mut distance = Distance::default();
    r.list(|r| distance.read(r).map(AckId))
}

/// Keys are hashes, which can't be written shorter.
fn write_messages(w: &mut Writer, messages: &[(Seq, KeyId)]) {
    w.count(messages.len());
    let mut distance = Distance::default();
    for &(seq, key) in messages {
        distance.write(w, seq);
        key.to_le_bytes().into_iter().for_each(|byte| w.byte(byte));
    }
}

fn read_messages(r: &mut Reader) -> Option<Vec<(Seq, KeyId)>> {
    let mut distance = Distance::default();
    r.list(|r| Some((distance.read(r)?, KeyId::from_le_bytes(r.array()?))))
}

fn write_head(w: &mut Writer, kind: u8, id: ConsumerId) {
    w.byte(kind);
    w.signed(id.0.into());
}

impl Request {
    /// Encodes it, and returns the number of bytes; `None` if there is no room for it.
    pub fn encode(&self, bytes: &mut [u8]) -> Option<usize> {
        let w = &mut Writer::new(bytes);
        match self {
            &Request::Receive { consumer, batch, ack_wait, until } => {
                write_head(w, 1, consumer);
                w.option(ack_wait);
                w.count(batch);
                w.signed(until);
            }
            Request::Finish { consumer, rejected, ack_ids } => {
                write_head(w, 2, *consumer);
                w.byte((*rejected).into());
                write_ids(w, ack_ids);
            }
            Request::Nack { consumer, delay, ack_ids } => {
                write_head(w, 3, *consumer);
                w.option(*delay);
                write_ids(w, ack_ids);
            }
            Request::Redeliver { consumer, messages } => {
                write_head(w, 4, *consumer);
                write_messages(w, messages);
            }
            Request::Extend { consumer, ack_wait, ack_ids } => {
                write_head(w, 5, *consumer);
                w.option(*ack_wait);
                write_ids(w, ack_ids);
            }
            Request::Gone { consumer, ack_ids } => {
                write_head(w, 6, *consumer);
                write_ids(w, ack_ids);
            }
            &Request::Stats { after } => write_head(w, 7, after),
            &Request::InFlight { consumer, after } => {
                write_head(w, 8, consumer);
                w.signed(after.0);
            }
            &Request::LastError { consumer } => write_head(w, 9, consumer),
        }
        w.finish()
    }

    pub fn decode(bytes: &[u8]) -> Option<Request> {
        let r = &mut Reader(bytes);
        let (kind, consumer) = (r.byte()?, ConsumerId(r.small()?));
        let request = match kind {
            1 => Request::Receive {
                consumer,
                ack_wait: r.option()?,
                batch: r.count()?,
                until: r.signed()?,
            },
            2 => Request::Finish { consumer, rejected: r.flag()?, ack_ids: read_ids(r)? },
            3 => Request::Nack { consumer, delay: r.option()?, ack_ids: read_ids(r)? },
            4 => Request::Redeliver { consumer, messages: read_messages(r)? },
            5 => Request::Extend { consumer, ack_wait: r.option()?, ack_ids: read_ids(r)? },
            6 => Request::Gone { consumer, ack_ids: read_ids(r)? },
            7 => Request::Stats { after: consumer },
            8 => Request::InFlight { consumer, after: AckId(r.signed()?) },
            9 => Request::LastError { consumer },
            _ => return None,
        };
        r.is_at_end().then_some(request)
    }
}

/// The most bytes of a text in an answer.
const MAX_TEXT: usize = 1000;

fn write_text(w: &mut Writer, text: &str) {
    w.text(&text.as_bytes()[..text.len().min(MAX_TEXT)]);
}

/// Flags: what is true of all deliveries need not be written for each.
const NEIGHBOURS: u8 = 1;
const ALL_FIRST: u8 = 2;

/// In a grant the ack_ids are consecutive, and mostly each is the first delivery of its message: then only the seqs are
/// written.
fn write_deliveries(w: &mut Writer, deliveries: &[Delivery]) {
    let before = deliveries.first().map_or(0, |first| first.ack_id.0.wrapping_sub(1));
    let (mut ack_id, mut are_neighbours, mut are_first) = (Distance(before), true, true);
    for delivery in deliveries {
        are_neighbours &= delivery.ack_id.0 == ack_id.next();
        are_first &= delivery.deliveries == 1;
    }
    w.byte(if are_neighbours { NEIGHBOURS } else { 0 } | if are_first { ALL_FIRST } else { 0 });
    w.count(deliveries.len());
    w.signed(before);
    let (mut ack_id, mut seq) = (Distance(before), Distance::default());
    for delivery in deliveries {
        seq.write(w, delivery.seq);
        if !are_neighbours {
            ack_id.write(w, delivery.ack_id.0);
        }
        if !are_first {
            w.unsigned(delivery.deliveries.into());
        }
    }
}

fn read_deliveries(r: &mut Reader) -> Option<Vec<Delivery>> {
    let flags = r.byte()?;
    let (count, before) = (r.count()?, r.signed()?);
    let (mut ack_id, mut seq) = (Distance(before), Distance::default());
    r.items(count, |r| {
        let seq = seq.read(r)?;
        let ack_id = match flags & NEIGHBOURS {
            0 => ack_id.read(r)?,
            _ => ack_id.next(),
        };
        let deliveries = match flags & ALL_FIRST {
            0 => u32::try_from(r.unsigned()?).ok()?,
            _ => 1,
        };
        Some(Delivery { ack_id: AckId(ack_id), seq, deliveries })
    })
}

fn write_stats(w: &mut Writer, stats: &ConsumerStats) {
    let ConsumerStats { consumer, counts: c, .. } = *stats;
    w.signed(consumer.0.into());
    [c.ready, c.in_flight, c.delayed, c.withheld].into_iter().for_each(|count| w.count(count));
    let ConsumerStats { floor, cursor, first_unfinished, waiting, .. } = *stats;
    [c.acked_total, c.redelivered_total, c.dead_total, floor, cursor, first_unfinished, waiting]
        .into_iter()
        .for_each(|number| w.signed(number));
    [stats.has_error, stats.is_damaged, stats.is_loaded]
        .into_iter()
        .for_each(|flag| w.byte(flag.into()));
}

fn read_stats(r: &mut Reader) -> Option<ConsumerStats> {
    Some(ConsumerStats {
        consumer: ConsumerId(r.small()?),
        counts: Counts {
            ready: r.count()?,
            in_flight: r.count()?,
            delayed: r.count()?,
            withheld: r.count()?,
            acked_total: r.signed()?,
            redelivered_total: r.signed()?,
            dead_total: r.signed()?,
        },
        floor: r.signed()?,
        cursor: r.signed()?,
        first_unfinished: r.signed()?,
        waiting: r.signed()?,
        has_error: r.flag()?,
        is_damaged: r.flag()?,
        is_loaded: r.flag()?,
    })
}

fn write_lease(w: &mut Writer, &(lease, seq, deliveries): &(Lease, Seq, u32)) {
    let Lease { ack_id, due, holder, pinned } = lease;
    [ack_id.0, due, holder.into(), seq].into_iter().for_each(|number| w.signed(number));
    w.byte(pinned.into());
    w.unsigned(deliveries.into());
}

fn read_lease(r: &mut Reader) -> Option<(Lease, Seq, u32)> {
    let (ack_id, due, holder, seq) = (r.signed()?, r.signed()?, r.small()?, r.signed()?);
    let lease = Lease { ack_id: AckId(ack_id), due, holder, pinned: r.flag()? };
    Some((lease, seq, u32::try_from(r.unsigned()?).ok()?))
}

impl Answer {
    /// Encodes it, and returns the number of bytes; `None` if there is no room for it.
    pub fn encode(&self, bytes: &mut [u8]) -> Option<usize> {
        let w = &mut Writer::new(bytes);
        match self {
            Answer::Deliveries { ack_row_id, generation, deliveries } => {
                w.byte(1);
                w.signed(ack_row_id.0);
                w.signed(generation.0.into());
                write_deliveries(w, deliveries);
            }
            Answer::Count(n) => {
                w.byte(2);
                w.signed(*n);
            }
            Answer::Stats(stats) => {
                w.byte(3);
                w.count(stats.len());
                stats.iter().for_each(|stats| write_stats(w, stats));
            }
            Answer::InFlight(leases) => {
                w.byte(4);
                w.count(leases.len());
                leases.iter().for_each(|lease| write_lease(w, lease));
            }
            Answer::NoConsumer => w.byte(5),
            Answer::TooMany => w.byte(6),
            Answer::NotNow => w.byte(7),
            Answer::Text(text) => {
                w.byte(8);
                write_text(w, text);
            }
            Answer::Damaged(text) => {
                w.byte(9);
                write_text(w, text);
            }
            Answer::TooLong => w.byte(10),
        }
        w.finish()
    }

    pub fn decode(bytes: &[u8]) -> Option<Answer> {
        let r = &mut Reader(bytes);
        let answer = match r.byte()? {
            1 => Answer::Deliveries {
                ack_row_id: AckRowId(r.signed()?),
                generation: Generation(r.small()?),
                deliveries: read_deliveries(r)?,
            },
            2 => Answer::Count(r.signed()?),
            3 => Answer::Stats(r.list(read_stats)?),
            4 => Answer::InFlight(r.list(read_lease)?),
            5 => Answer::NoConsumer,
            6 => Answer::TooMany,
            7 => Answer::NotNow,
            8 => Answer::Text(r.text()?),
            9 => Answer::Damaged(r.text()?),
            10 => Answer::TooLong,
            _ => return None,
        };
        r.is_at_end().then_some(answer)
    }
}
