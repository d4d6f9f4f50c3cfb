//! Requests and answers as words, the way they lie in a session's entry.

use super::consumer::{Counts, Delivery, Lease};
use super::dispatcher::{Answer, ConsumerStats, Request};
use super::stream::ConsumerId;

/// Messages, or ack_ids, that one exchange carries; longer lists go in several.
pub const MAX_BATCH: usize = 1000;

/// Words of the longest request or answer: three for each message, and a few that lead them.
pub const MAX_WORDS: usize = 3 * MAX_BATCH + 8;

const NONE: i64 = i64::MIN;

fn option(value: Option<i64>) -> i64 {
    value.unwrap_or(NONE)
}

fn to_option(word: i64) -> Option<i64> {
    (word != NONE).then_some(word)
}

fn count(n: usize) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

fn to_count(word: i64) -> usize {
    usize::try_from(word).unwrap_or(0)
}

fn id(word: i64) -> ConsumerId {
    ConsumerId::try_from(word).unwrap_or(0)
}

impl Request {
    pub fn encode(&self) -> Vec<i64> {
        let with = |head: [i64; 3], ids: &[i64]| [&head[..], ids].concat();
        match self {
            &Request::Receive { consumer, batch, ack_wait, until } => {
                vec![1, consumer.into(), option(ack_wait), count(batch), until]
            }
            Request::Finish { consumer, rejected, ack_ids } => {
                with([2, (*consumer).into(), (*rejected).into()], ack_ids)
            }
            Request::Nack { consumer, delay, ack_ids } => {
                with([3, (*consumer).into(), option(*delay)], ack_ids)
            }
            Request::Redeliver { consumer, messages } => {
                let words: Vec<i64> =
                    messages.iter().flat_map(|&(seq, key)| [seq, key.cast_signed()]).collect();
                with([4, (*consumer).into(), 0], &words)
            }
            Request::Extend { consumer, ack_wait, ack_ids } => {
                with([5, (*consumer).into(), option(*ack_wait)], ack_ids)
            }
            Request::Gone { consumer, ack_ids } => with([6, (*consumer).into(), 0], ack_ids),
            &Request::Stats { after } => vec![7, after.into(), 0],
            &Request::InFlight { consumer, after } => vec![8, consumer.into(), after],
            &Request::LastError { consumer } => vec![9, consumer.into(), 0],
        }
    }

    pub fn decode(words: &[i64]) -> Option<Request> {
        let [kind, consumer, arg, rest @ ..] = words else { return None };
        let consumer = id(*consumer);
        let ack_ids = || rest.to_vec();
        Some(match kind {
            1 => Request::Receive {
                consumer,
                ack_wait: to_option(*arg),
                batch: to_count(*rest.first()?),
                until: *rest.get(1)?,
            },
            2 => Request::Finish { consumer, rejected: *arg != 0, ack_ids: ack_ids() },
            3 => Request::Nack { consumer, delay: to_option(*arg), ack_ids: ack_ids() },
            4 => Request::Redeliver {
                consumer,
                messages: rest.as_chunks().0.iter().map(|&[s, k]| (s, k.cast_unsigned())).collect(),
            },
            5 => Request::Extend { consumer, ack_wait: to_option(*arg), ack_ids: ack_ids() },
            6 => Request::Gone { consumer, ack_ids: ack_ids() },
            7 => Request::Stats { after: consumer },
            8 => Request::InFlight { consumer, after: *arg },
            9 => Request::LastError { consumer },
            _ => return None,
        })
    }
}

/// Bytes of a text in an answer, one to a word: it is rare.
const MAX_TEXT: usize = 1000;

fn text_words(kind: i64, text: &str) -> Vec<i64> {
    let bytes = &text.as_bytes()[..text.len().min(MAX_TEXT)];
    [kind, count(bytes.len())].into_iter().chain(bytes.iter().map(|&b| b.into())).collect()
}

fn text(words: &[i64]) -> String {
    let bytes: Vec<u8> = words.iter().map(|&word| word as u8).collect();
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Words that [`ConsumerStats`] takes.
const STATS_WORDS: usize = 15;

/// Consumers whose state fits into one answer.
pub const STATS_PER_ANSWER: usize = 3 * MAX_BATCH / STATS_WORDS;

/// Leases that fit into one answer.
pub const LEASES_PER_ANSWER: usize = 3 * MAX_BATCH / LEASE_WORDS;
const LEASE_WORDS: usize = 6;

impl ConsumerStats {
    fn words(&self) -> [i64; STATS_WORDS] {
        let c = &self.counts;
        [
            self.consumer.into(),
            count(c.ready),
            count(c.in_flight),
            count(c.delayed),
            count(c.withheld),
            c.acked_total,
            c.redelivered_total,
            c.dead_total,
            self.floor,
            self.cursor,
            self.first_unfinished,
            self.waiting,
            self.has_error.into(),
            self.is_damaged.into(),
            self.is_loaded.into(),
        ]
    }

    fn from_words(w: &[i64; STATS_WORDS]) -> ConsumerStats {
        ConsumerStats {
            consumer: id(w[0]),
            counts: Counts {
                ready: to_count(w[1]),
                in_flight: to_count(w[2]),
                delayed: to_count(w[3]),
                withheld: to_count(w[4]),
                acked_total: w[5],
                redelivered_total: w[6],
                dead_total: w[7],
            },
            floor: w[8],
            cursor: w[9],
            first_unfinished: w[10],
            waiting: w[11],
            has_error: w[12] != 0,
            is_damaged: w[13] != 0,
            is_loaded: w[14] != 0,
        }
    }
}

impl Answer {
    pub fn encode(&self) -> Vec<i64> {
        match self {
            Answer::Deliveries { ack_row_id, generation, deliveries } => {
                let mut words = Vec::with_capacity(3 + 3 * deliveries.len());
                words.extend([1, *ack_row_id, (*generation).into()]);
                for d in deliveries {
                    words.extend([d.ack_id, d.seq, d.deliveries.into()]);
                }
                words
            }
            Answer::Count(n) => vec![2, *n],
            Answer::Stats(stats) => {
                [3, 0].into_iter().chain(stats.iter().flat_map(ConsumerStats::words)).collect()
            }
            Answer::InFlight(leases) => {
                let words = leases.iter().flat_map(|(lease, seq, deliveries)| {
                    let Lease { ack_id, due, holder, pinned } = *lease;
                    [ack_id, due, holder.into(), pinned.into(), *seq, (*deliveries).into()]
                });
                [4, 0].into_iter().chain(words).collect()
            }
            Answer::Text(text) => text_words(8, text),
            Answer::Damaged(text) => text_words(9, text),
            Answer::NoConsumer => vec![5, 0],
            Answer::TooMany => vec![6, 0],
            Answer::NotNow => vec![7, 0],
        }
    }

    pub fn decode(words: &[i64]) -> Option<Answer> {
        let [kind, arg, rest @ ..] = words else { return None };
        let number = |word: i64| u32::try_from(word).unwrap_or(u32::MAX);
        Some(match kind {
            1 => {
                let (&generation, rest) = rest.split_first()?;
                Answer::Deliveries {
                    ack_row_id: *arg,
                    generation: id(generation),
                    deliveries: (rest.as_chunks().0.iter())
                        .map(|&[ack_id, seq, n]| Delivery { ack_id, seq, deliveries: number(n) })
                        .collect(),
                }
            }
            2 => Answer::Count(*arg),
            3 => Answer::Stats(rest.as_chunks().0.iter().map(ConsumerStats::from_words).collect()),
            4 => Answer::InFlight(
                (rest.as_chunks::<LEASE_WORDS>().0.iter())
                    .map(|&[ack_id, due, holder, pinned, seq, n]| {
                        let holder = i32::try_from(holder).unwrap_or(0);
                        (Lease { ack_id, due, holder, pinned: pinned != 0 }, seq, number(n))
                    })
                    .collect(),
            ),
            5 => Answer::NoConsumer,
            6 => Answer::TooMany,
            7 => Answer::NotNow,
            8 => Answer::Text(text(rest)),
            9 => Answer::Damaged(text(rest)),
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests;
