//! The functions behind the views of streams and workers, and those that look into streams and consumers.

use super::check::{name, required, within};
use super::consumers::{mine, unexpected};
use super::rights;
use crate::error::{Error, Result};
use crate::pg::exec::datum::{Jsonb, Text, Timestamptz};
use crate::pg::exec::{catalog, partitions, role, sequence};
use crate::pg::session::call::call;
use crate::pg::session::current;
use crate::pg::shared::database::Database;
use crate::pg::shared::shmem::segment;
use crate::pg::shared::status::Status;
use crate::pg::shared::{capturers, session_entry, stream_counts};
use crate::store::{consumers, messages, streams};
use pgrx::iter::TableIterator;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;
use sequin_engine::dispatcher::{Answer, Request};
use sequin_engine::filter::{Filter, KeyRange};
use sequin_engine::ids::AckId;
use sequin_engine::key::Seq;
use sequin_engine::wire::LEASES_PER_ANSWER;

#[pg_extern]
fn messages(
    stream: Option<&str>,
    filter: default!(Option<&str>, "'>'"),
    after_seq: default!(Option<i64>, "0"),
    max_messages: default!(Option<i32>, "100"),
) -> Result<
    TableIterator<
        'static,
        (
            name!(seq, i64),
            name!(key, Option<Text>),
            name!(data, Option<Jsonb>),
            name!(headers, Option<Jsonb>),
            name!(inserted_at, Timestamptz),
        ),
    >,
    ErrorReport,
> {
    let stream = name(stream, "stream", "stream")?;
    let filter = Filter::parse(required(filter, "filter")?).map_err(Error::from)?;
    let after = required(after_seq, "after_seq")?;
    let max = required(max_messages, "max_messages")?;
    let max = within(max, 0, 1_000_000, "max_messages", "between 0 and 1000000")?;
    streams::table(&stream)?;
    let (low, high) = match filter.key_range() {
        KeyRange::Exact(key) => (Some(key.to_owned()), None),
        range @ KeyRange::Prefix(prefix) => {
            (range.prefix_end().map(|_| prefix.to_owned()), range.prefix_end())
        }
    };
    let rows = (messages::matching(&stream, filter.as_str(), low, high, after, max)?.into_iter())
        .map(|p| (p.seq, p.key, p.data, p.headers, Timestamptz::from(p.inserted_at)));
    Ok(TableIterator::new(rows.collect::<Vec<_>>()))
}

#[pg_extern]
fn in_flight(
    consumer: Option<&str>,
) -> Result<
    TableIterator<
        'static,
        (
            name!(ack_id, i64),
            name!(seq, i64),
            name!(key, Option<String>),
            name!(deliver_count, i32),
            name!(deadline, Timestamptz),
            name!(pid, Option<i32>),
        ),
    >,
    ErrorReport,
> {
    let consumer = match role::is_monitor() {
        true => consumers::find(required(consumer, "consumer")?)?,
        false => mine(consumer, "consumer")?,
    };
    let table = streams::table(&consumer.stream)?;
    let shows_keys = rights::may_see_keys(table);
    let mut rows = Vec::new();
    let mut after = AckId(0);
    loop {
        let leases = match call(&Request::InFlight { consumer: consumer.id, after }, Some(table))? {
            Answer::InFlight(leases) => leases,
            other => return Err(unexpected(&consumer, &other).into()),
        };
        // After a full page there may be another. Deliveries that are granted while pages are read may be missing.
        let is_last = leases.len() < LEASES_PER_ANSWER;
        after = leases.last().map_or(after, |(lease, ..)| lease.ack_id);
        let mut seqs: Vec<Seq> = leases.iter().map(|&(_, seq, _)| seq).collect();
        seqs.sort_unstable();
        let keys = if shows_keys { messages::keys(table, &seqs)? } else { Vec::new() };
        for (lease, seq, deliveries) in leases {
            let key = keys.binary_search_by_key(&seq, |row| row.seq).ok();
            let key = key.and_then(|n| keys.get(n)).map(|row| row.key.clone());
            let pid = Some(lease.holder).filter(|&pid| pid != 0);
            let due = Timestamptz::from(lease.due);
            rows.push((lease.ack_id.0, seq, key, deliveries.cast_signed(), due, pid));
        }
        if is_last {
            return Ok(TableIterator::new(rows));
        }
    }
}

#[pg_extern(name = "_stream_stats")]
fn stream_stats(
    stream: Option<&str>,
) -> Result<
    TableIterator<
        'static,
        (
            name!(messages, Option<i64>),
            name!(bytes, i64),
            name!(first_seq, Option<i64>),
            name!(last_seq, Option<i64>),
            name!(open_publishers, i32),
            name!(oldest_publisher_pid, Option<i32>),
            name!(oldest_publisher_since, Option<Timestamptz>),
        ),
    >,
    ErrorReport,
> {
    let Some(table) = catalog::stream_table(required(stream, "stream")?) else {
        return Ok(TableIterator::new(Vec::new()));
    };
    let last = last_of(table);
    let shows_seqs = rights::may_see_seqs(table);
    let first = if shows_seqs { first_from(table, 1)?.map(|(seq, _)| seq) } else { None };
    let open = session_entry::open_publishers(current::database()?, table);
    let oldest = open.iter().min_by_key(|publisher| publisher.since);
    Ok(TableIterator::new(vec![(
        shows_seqs.then(|| first.zip(last).map_or(0, |(first, last)| (last - first + 1).max(0))),
        catalog::table_bytes(table),
        first,
        last,
        i32::try_from(open.len()).unwrap_or(i32::MAX),
        oldest.map(|publisher| publisher.pid),
        oldest.map(|publisher| Timestamptz::from(publisher.since)),
    )]))
}

/// The first message from a seq on; `None` where the table can't be read, so that the views still show the other
/// streams.
fn first_from(table: pgrx::pg_sys::Oid, seq: Seq) -> Result<Option<(Seq, i64)>> {
    match messages::first_from(table, seq) {
        Err(Error::NotAStream(_)) => Ok(None),
        other => other,
    }
}

#[pg_extern(name = "_duplicates")]
fn duplicates(stream: Option<&str>) -> Result<Option<i64>, ErrorReport> {
    let Some(table) = catalog::stream_table(required(stream, "stream")?) else { return Ok(None) };
    Ok(i64::try_from(stream_counts::duplicates(table)).ok())
}

#[pg_extern(name = "_partitions")]
fn partitions(stream: Option<&str>) -> Result<Option<i32>, ErrorReport> {
    let table = catalog::stream_table(required(stream, "stream")?);
    let found = table.and_then(partitions::of);
    let count = found.map(|it| it.tables().count());
    Ok(count.and_then(|count| i32::try_from(count).ok()))
}

#[pg_extern(name = "_last_seq")]
fn last_seq(stream: Option<&str>) -> Result<Option<i64>, ErrorReport> {
    let Some(table) = catalog::stream_table(required(stream, "stream")?) else { return Ok(None) };
    Ok(last_of(table))
}

/// The last seq; `None` where the table is damaged, for the same reason.
fn last_of(table: pgrx::pg_sys::Oid) -> Option<Seq> {
    sequence::of_stream(table).ok().map(sequence::last_value)
}

#[pg_extern(name = "_inserted_at")]
fn inserted_at(stream: Option<&str>, seq: Option<i64>) -> Result<Option<Timestamptz>, ErrorReport> {
    let Some(table) = catalog::stream_table(required(stream, "stream")?) else { return Ok(None) };
    let Some(seq) = seq.filter(|&seq| seq > 0) else { return Ok(None) };
    if !rights::may_see_times(table) {
        return Ok(None);
    }
    let first = first_from(table, seq)?.filter(|&(found, _)| found == seq);
    Ok(first.map(|(_, at)| Timestamptz::from(at)))
}

#[pg_extern(name = "_workers")]
fn workers() -> Result<
    TableIterator<
        'static,
        (
            name!(process, &'static str),
            name!(database, Option<String>),
            name!(pid, Option<i32>),
            name!(state, &'static str),
            name!(since, Option<Timestamptz>),
            name!(last_error, Option<String>),
        ),
    >,
    ErrorReport,
> {
    let segment = segment().ok_or(Error::NotPreloaded)?;
    let row = |process: &'static str, database: Option<String>, status: &Status, enabled: bool| {
        let pid = Some(status.pid()).filter(|&pid| pid != 0);
        let state = match (pid, enabled) {
            (Some(_), _) => "running",
            (None, true) => "starting",
            (None, false) => "stopped",
        };
        (process, database, pid, state, status.since().map(Timestamptz::from), status.error())
    };
    let mut rows = vec![row("launcher", None, &segment.launcher, true)];
    for entry in segment.databases().iter().filter(|entry| is_shown(entry)) {
        let database = catalog::database_name(entry.oid());
        rows.push(row("dispatcher", database, &entry.dispatcher, entry.is_enabled()));
    }
    for entry in segment.databases().iter().filter(|entry| is_shown(entry)) {
        for (kind, helper) in entry.helpers() {
            if helper.is_wanted() || helper.status.pid() != 0 {
                let database = catalog::database_name(entry.oid());
                rows.push(row(kind, database, &helper.status, helper.is_wanted()));
            }
        }
    }
    for (_, entry) in capturers::all() {
        let database = catalog::database_name(entry.database());
        rows.push(row("capturer", database, &entry.status, entry.is_enabled()));
    }
    Ok(TableIterator::new(rows))
}

fn is_shown(entry: &Database) -> bool {
    entry.oid() != pgrx::pg_sys::Oid::INVALID && (entry.is_enabled() || entry.dispatcher.pid() != 0)
}
