//! Reading messages: payloads, keys and rows by seq, and searches for a seq.

use crate::error::{Error, Result};
use crate::pg::exec::datum::{Jsonb, Text};
use crate::pg::exec::memory::OuterContext;
use crate::pg::exec::snapshot::Snapshot;
use crate::pg::exec::spi::{self, Access, Plan, arg, connected};
use crate::pg::exec::{catalog, scan, sequence};
use crate::pg::shared::bounds::Xid;
use pgrx::pg_sys;
use sequin_engine::dispatcher::{Found, Reached, Row};
use sequin_engine::key::Seq;
use sequin_engine::ranges::RangeSet;
use std::time::Duration;

/// A message as `receive` returns it.
pub struct Payload {
    pub seq: Seq,
    pub key: Option<Text>,
    pub data: Option<Jsonb>,
    pub headers: Option<Jsonb>,
    pub inserted_at: i64,
}

/// Runs `f` with the table of a stream, which is locked for reading meanwhile.
pub fn with_table<R>(stream: &str, f: impl FnOnce(pg_sys::Oid) -> Result<R>) -> Result<R> {
    let missing = || Error::NoStream(stream.into());
    let table = catalog::lock_stream_for_reading(stream).ok_or_else(missing)?;
    let result = f(table)?;
    catalog::unlock_from_reading(table);
    Ok(result)
}

/// The messages with these seqs (ascending), as far as they are still there. Calls `writer` with the id of the
/// transaction that inserted each. TOASTed values are returned as pointers: if there are any, the table stays locked
/// until the transaction ends, as after a SELECT.
pub fn payloads(
    table: pg_sys::Oid,
    seqs: &[Seq],
    mut writer: Option<impl FnMut(Xid)>,
) -> Result<Vec<Payload>> {
    let context = OuterContext::current();
    let mut found = Vec::with_capacity(seqs.len());
    let mut is_needed = false;
    catalog::lock_for_reading(table);
    scan::messages(table, &runs(seqs), |message| {
        // The last column is read first: see `Message::datum`.
        let inserted_at = message.inserted_at();
        is_needed |= message.is_out_of_line();
        found.push(Payload {
            seq: message.seq(),
            key: message.key_datum(context),
            data: message.data(context),
            headers: message.headers(context),
            inserted_at,
        });
        if let Some(writer) = &mut writer {
            writer(message.xmin());
        }
        true
    })?;
    if !is_needed {
        catalog::unlock_from_reading(table);
    }
    Ok(found)
}

/// The keys of the messages with these seqs, as far as they are there.
pub fn keys(table: pg_sys::Oid, seqs: &[Seq]) -> Result<Vec<Row>> {
    let mut rows = Vec::with_capacity(seqs.len());
    scan::messages(table, &runs(seqs), |message| {
        rows.push(Row { seq: message.seq(), key: message.key() });
        true
    })?;
    Ok(rows)
}

/// The seqs between two, both included, whose messages are committed by now.
pub fn committed(table: pg_sys::Oid, from: Seq, upto: Seq) -> Result<RangeSet> {
    let mut seqs = RangeSet::new();
    scan::messages(table, &[(from, upto)], |message| {
        seqs.insert(message.seq());
        true
    })?;
    Ok(seqs)
}

/// How long a read of rows may take: the dispatcher serves no session meanwhile (I11).
const TIME: Duration = Duration::from_millis(1);

/// Up to `limit` messages in these ranges, of those that are committed by now; fewer if reading takes longer than
/// [`TIME`].
pub fn rows(table: pg_sys::Oid, ranges: &[(Seq, Seq)], limit: usize) -> Result<Found> {
    let snapshot = Snapshot::newest();
    let found = rows_in(&snapshot, table, ranges, limit);
    snapshot.close();
    found
}

/// The same, of those that a snapshot shows.
pub fn rows_in(
    snapshot: &Snapshot,
    table: pg_sys::Oid,
    ranges: &[(Seq, Seq)],
    limit: usize,
) -> Result<Found> {
    if ranges.is_empty() {
        return Ok(Found { rows: Vec::new(), reached: Reached::End });
    }
    let mut rows = Vec::new();
    let reached = scan::messages_in(snapshot, table, ranges, Some(TIME), |message| {
        rows.push(Row { seq: message.seq(), key: message.key() });
        rows.len() < limit
    })?;
    Ok(Found { rows, reached })
}

/// The seq of a message beyond the last value of its stream's sequence, of those that a snapshot shows.
pub fn beyond(snapshot: &Snapshot, table: pg_sys::Oid, last: Seq) -> Result<Option<Seq>> {
    let Some(next) = last.checked_add(1) else { return Ok(None) };
    let found = rows_in(snapshot, table, &[(next, Seq::MAX)], 1)?;
    Ok(found.rows.first().map(|row| row.seq))
}

/// The first message at or after `seq`, with the time when it was inserted.
pub fn first_from(table: pg_sys::Oid, seq: Seq) -> Result<Option<(Seq, i64)>> {
    let mut first = None;
    scan::messages(table, &[(seq, Seq::MAX)], |message| {
        first = Some((message.seq(), message.inserted_at()));
        false
    })?;
    Ok(first)
}

/// The highest seq of a message that is committed by now, or this transaction's; 0 if there is none.
pub fn last(table: pg_sys::Oid) -> Result<Seq> {
    // A binary search: either there is no message from the middle on, or the first one from there on is known.
    let (mut lo, mut hi) = (0, Seq::MAX);
    while lo < hi {
        let middle = lo + (hi - lo) / 2 + 1;
        match first_from(table, middle)? {
            Some((seq, _)) => lo = seq,
            None => hi = middle - 1,
        }
    }
    Ok(lo)
}

/// The seq after which all messages are that were inserted at or after `time`.
///
/// Seqs and times ascend in nearly the same order, so this is a binary search. Of concurrent publishers, one may take
/// its seq and be delayed before it takes the time, hence the margin. A message that is not committed yet is in a gap,
/// and the search does not cut it off.
pub fn last_before(table: pg_sys::Oid, time: i64) -> Result<Seq> {
    const MARGIN: i64 = 1_000_000;
    let last = sequence::last_value(sequence::of_stream(table)?);
    // A role that may INSERT can choose the highest possible seq.
    let (mut lo, mut hi) = (1, last.saturating_add(1));
    while lo < hi {
        let middle = lo + (hi - lo) / 2;
        match first_from(table, middle)? {
            Some((seq, at)) if at < time.saturating_sub(MARGIN) => lo = seq.saturating_add(1),
            _ => hi = middle,
        }
    }
    let mut before = lo - 1;
    scan::messages(table, &[(lo, Seq::MAX)], |message| {
        let is_before = message.inserted_at() < time;
        if is_before {
            before = message.seq();
        }
        is_before
    })?;
    Ok(before)
}

/// Up to `max` messages after a seq whose keys match a filter, ascending by seq. `low` and `high` bound the keys, for
/// the index: both, or `low` alone for a single key, or none. It is a query by the caller, so SQL checks the caller's
/// rights.
pub fn matching(
    stream: &str,
    filter: &str,
    low: Option<String>,
    high: Option<String>,
    after: Seq,
    max: i32,
) -> Result<Vec<Payload>> {
    use pg_sys::{INT4OID, INT8OID, TEXTOID};
    let context = OuterContext::current();
    let keys = match (&low, &high) {
        (Some(_), Some(_)) => "key >= $3 AND key < $4 AND",
        (Some(_), None) => "key = $3 AND",
        _ => "",
    };
    let sql = format!(
        "SELECT seq, key, data, headers, inserted_at FROM sequin_stream.\"{stream}\" \
         WHERE {keys} seq > $2 AND sequin.key_matches(key, $1) ORDER BY seq LIMIT $5"
    );
    let args = [arg(filter), arg(after), low.and_then(arg), high.and_then(arg), arg(max)];
    connected(|| {
        let plan = Plan::new(&sql, &[TEXTOID, INT8OID, TEXTOID, TEXTOID, INT4OID])?;
        let rows = plan.execute(Access::Snapshot, &args)?;
        if !rows.have_types(&scan::COLUMNS) {
            return Err(Error::NotAStream(stream.into()));
        }
        let payload = |row: spi::Row| {
            Ok(Payload {
                seq: row.need(1)?,
                key: row.text(2, context)?,
                data: row.jsonb(3, context)?,
                headers: row.jsonb(4, context)?,
                inserted_at: row.micros(5).unwrap_or(0),
            })
        };
        rows.iter().map(payload).collect()
    })
}

/// A stream's table, as a dispatcher finds it.
pub enum Table {
    /// It may be read until the transaction ends.
    Locked(pg_sys::Oid),
    /// Another session has locked it exclusively.
    Busy,
    Missing,
}

/// Locks a stream's table for reading, without waiting.
pub fn try_lock(stream: &str) -> Table {
    match catalog::stream_table(stream) {
        Some(table) if catalog::try_lock_for_reading(table) => Table::Locked(table),
        Some(_) => Table::Busy,
        None => Table::Missing,
    }
}

/// Consecutive seqs as ranges: mostly a batch is one range.
fn runs(seqs: &[Seq]) -> Vec<(Seq, Seq)> {
    let mut runs: Vec<(Seq, Seq)> = Vec::new();
    for &seq in seqs {
        match runs.last_mut() {
            Some((_, end)) if *end == seq - 1 => *end = seq,
            _ => runs.push((seq, seq)),
        }
    }
    runs
}

#[cfg(test)]
mod tests {
    use super::runs;

    #[test]
    fn neighbours_are_read_as_one_range() {
        assert_eq!(runs(&[1, 2, 3, 7, 9, 10]), [(1, 3), (7, 7), (9, 10)]);
        assert_eq!(runs(&[]), []);
    }
}
