//! How much fits into a session's entry.

use crate::consumer::Consumer;
use crate::dispatcher::Answer;

/// The most messages that a receive returns, and the most ack_ids in a request.
pub const MAX_BATCH: usize = 1000;

/// Bytes of the longest request or answer. The whole entry has 6 kB.
pub const MAX_BYTES: usize = 5600;

/// The longest LEB128 of 64 bits, and of 32.
const LONG: usize = 10;
const SHORT: usize = 5;

/// The most bytes of the kind and count before a list.
const LEAD: usize = 1 + LONG;

/// How many consumers' statistics fit into one answer, whatever the values are.
pub const STATS_PER_ANSWER: usize = (MAX_BYTES - LEAD) / (SHORT + 11 * LONG + 3);

/// How many leases fit into one answer, whatever the values are.
pub const LEASES_PER_ANSWER: usize = (MAX_BYTES - LEAD) / (3 * LONG + 2 * SHORT + 1);

/// The most bytes before the deliveries of a grant: kind, ack_row_id, generation, flags, count, first ack_id; and the
/// first seq.
const GRANT_LEAD: usize = LEAD + LONG + SHORT + 1 + LONG + LONG;

/// How many deliveries of a grant fit into one answer, whatever their seqs and counts are.
const SURELY: usize = (MAX_BYTES - GRANT_LEAD) / (LONG + SHORT);

/// How many deliveries, `batch` at the most, surely fit into an answer, whichever messages of the consumer are granted.
/// This is less than `batch` if seqs are far apart, or if messages have been delivered very often.
pub(crate) fn fitting(batch: usize, consumer: &Consumer) -> usize {
    let messages = &consumer.messages;
    let ends = messages.first_key_value().zip(messages.last_key_value());
    let span = ends.map_or(0, |((first, _), (last, _))| first.abs_diff(*last));
    // This counts each delivery but a message's first.
    let repeated = consumer.totals.redelivered_total.max(0).cast_unsigned();
    let size = |n: usize| {
        let seqs = longest(n, span.saturating_mul(2));
        GRANT_LEAD + seqs + longest(n, repeated.saturating_add(2 * n as u64))
    };
    let mut n = batch;
    while n > SURELY && size(n) > MAX_BYTES {
        n = (n - n / 8).max(SURELY);
    }
    n
}

/// The most bytes that `n` numbers can take whose sum is at most `sum`. At most sum / 2^7 of them take two bytes or
/// more, at most sum / 2^14 take three or more, and so on.
fn longest(n: usize, sum: u64) -> usize {
    let have_more_than = |bytes: usize| usize::try_from(sum >> (7 * bytes)).unwrap_or(n).min(n);
    n + (1..LONG).map(have_more_than).sum::<usize>()
}

/// Asks about a list in as many parts as it takes. A part is halved as long as it, or its answer, is too long. A single
/// item never is.
pub fn in_parts<T, E>(
    items: &[T],
    mut ask: impl FnMut(&[T]) -> Result<Answer, E>,
    mut take: impl FnMut(Answer) -> Result<(), E>,
) -> Result<(), E> {
    let (mut rest, mut most) = (items, MAX_BATCH);
    while !rest.is_empty() {
        let (part, behind) = rest.split_at(most.min(rest.len()));
        match ask(part)? {
            Answer::TooLong if part.len() > 1 => most = part.len() / 2,
            answer => {
                take(answer)?;
                rest = behind;
            }
        }
    }
    Ok(())
}
