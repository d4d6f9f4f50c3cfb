//! `sequin.schedules`: messages that are to be published later.

use super::messages;
use super::{statement, streams};
use crate::error::{Error, Result};
use crate::pg::exec::datum::{Jsonb, Text};
use crate::pg::exec::memory::OuterContext;
use crate::pg::exec::savepoint::in_savepoint;
use crate::pg::exec::spi::{Access, Row, Statement, arg, timestamp};
use crate::pg::exec::{catalog, role};
use pgrx::pg_sys;
use sequin_engine::key;
use sequin_engine::settings::Micros;
use std::collections::HashSet;

statement!(
    INSERT,
    "INSERT INTO sequin.schedules (stream, key, data, headers, deliver_at, owner) \
     VALUES ($1, $2, $3, $4, $5, $6::pg_catalog.regrole) RETURNING id",
    [TEXTOID, TEXTOID, JSONBOID, JSONBOID, TIMESTAMPTZOID, OIDOID]
);
statement!(
    OWNER,
    "SELECT owner::pg_catalog.oid FROM sequin.schedules WHERE id OPERATOR(pg_catalog.=) $1",
    [INT8OID]
);
statement!(DELETE, "DELETE FROM sequin.schedules WHERE id OPERATOR(pg_catalog.=) $1", [INT8OID]);
statement!(
    DELETE_OF_STREAM,
    "DELETE FROM sequin.schedules WHERE stream OPERATOR(pg_catalog.=) $1",
    [TEXTOID]
);

/// Schedules a message, in the name of the current role, and returns the schedule's id.
pub fn insert(
    stream: &str,
    table: pg_sys::Oid,
    key: Text,
    data: Jsonb,
    headers: Option<Jsonb>,
    at: Micros,
) -> Result<i64> {
    catalog::check_member(c"schedules")?;
    messages::may_publish(stream, table)?;
    key.with_str(key::check_key)?;
    let args = [
        arg(stream),
        arg(key),
        arg(data),
        headers.and_then(arg),
        timestamp(at),
        arg(role::current()),
    ];
    let run = |s: &Statement| s.run(Access::Write, &args, |rows| rows.one()?.need(1));
    role::as_owner(|| INSERT.with(run))
}

/// Deletes a schedule of a role that the caller is a member of; false if there is none, or its message is published.
pub fn delete(id: i64) -> Result<bool> {
    catalog::check_member(c"schedules")?;
    let read = |s: &Statement| {
        s.run(Access::Latest, &[arg(id)], |rows| {
            rows.first().map(|row| row.need::<pg_sys::Oid>(1)).transpose()
        })
    };
    let Some(owner) = role::as_owner(|| OWNER.with(read))? else { return Ok(false) };
    if !role::has_rights_of(role::current(), owner) {
        return Err(Error::NotScheduler { id, owner: catalog::role_name(owner) });
    }
    role::as_owner(|| DELETE.with(|s| s.execute(&[arg(id)]))).map(|count| count > 0)
}

/// Deletes all that is to be published to a stream.
pub fn delete_of(stream: &str) -> Result<()> {
    if catalog::check_member(c"schedules").is_err() {
        return Ok(());
    }
    role::as_owner(|| DELETE_OF_STREAM.with(|s| s.execute(&[arg(stream)]))).map(drop)
}

// ---- the scheduler ----

/// A place in the order in which messages are published.
pub type Place = (Micros, i64);

/// Whether there may be something to be published some time: the table is not empty, or was not before it was vacuumed.
pub fn has_any() -> bool {
    catalog::own_table(c"schedules").is_some_and(|table| catalog::main_bytes(table) > 0)
}

// By index, from a place on: what was published before, and is not vacuumed yet, is not read again.
statement!(
    DUE,
    "SELECT id, deliver_at, stream FROM sequin.schedules \
     WHERE reason IS NULL AND (deliver_at, id) > ($1, $2) AND deliver_at <= $3 ORDER BY deliver_at, id LIMIT $4",
    [TIMESTAMPTZOID, INT8OID, TIMESTAMPTZOID, INT8OID]
);
statement!(
    LOCK,
    "SELECT id, stream, key, data, headers, owner::oid FROM sequin.schedules \
     WHERE id = ANY ($1) AND reason IS NULL ORDER BY deliver_at, id FOR UPDATE SKIP LOCKED",
    [INT8ARRAYOID]
);
statement!(DELETE_ALL, "DELETE FROM sequin.schedules WHERE id = ANY ($1)", [INT8ARRAYOID]);
statement!(FAIL, "UPDATE sequin.schedules SET reason = $2 WHERE id = $1", [INT8OID, TEXTOID]);
statement!(
    NEXT,
    "SELECT deliver_at FROM sequin.schedules WHERE reason IS NULL AND deliver_at > $1 \
     ORDER BY deliver_at, id LIMIT 1",
    [TIMESTAMPTZOID]
);

/// A message that is due.
struct Due {
    id: i64,
    stream: String,
    key: Text,
    data: Jsonb,
    headers: Option<Jsonb>,
    owner: pg_sys::Oid,
}

/// What became of messages that were due.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Round {
    /// The last one, if there were as many as were asked for: there may be others after it.
    pub upto: Option<Place>,
    /// The time of the first one that can't be published now: somebody has locked it, its stream or its key, say.
    pub held_up: Option<Micros>,
}

/// Publishes at most `max` messages that are due after a place up to `now`, each as the role that has scheduled it. One that
/// is refused stays, with the reason.
pub fn publish_due(after: Place, now: Micros, max: usize) -> Result<Round> {
    let limit = arg(i64::try_from(max).unwrap_or(i64::MAX));
    let read =
        |row: Row| Ok(((row.micros(2).unwrap_or(0), row.need::<i64>(1)?), row.need::<String>(3)?));
    let found: Vec<(Place, String)> = DUE.with(|s| {
        let args = [timestamp(after.0), arg(after.1), timestamp(now), limit];
        s.run(Access::Latest, &args, |rows| rows.iter().map(read).collect())
    })?;
    let full = found.len() >= max;
    let upto = found.last().filter(|_| full).map(|&(place, _)| place);
    let streams: HashSet<&str> = found.iter().map(|(_, stream)| stream.as_str()).collect();
    let free: HashSet<&str> = streams.into_iter().filter(|stream| is_free(stream)).collect();
    let is_free = |(_, stream): &&(Place, String)| free.contains(stream.as_str());
    let ids: Vec<i64> = found.iter().filter(is_free).map(|&((_, id), _)| id).collect();
    let context = OuterContext::current();
    let due: Vec<Due> = LOCK.with(|s| {
        s.run(Access::Write, &[arg(ids)], |rows| {
            rows.iter().map(|row| Due::read(row, context)).collect()
        })
    })?;
    let mut ends = Ends::default();
    for of_one in due.chunk_by(|a, b| (&a.stream, a.owner) == (&b.stream, b.owner)) {
        publish(of_one, &mut ends)?;
    }
    let dealt_with: HashSet<i64> = ends.published.iter().chain(&ends.refused).copied().collect();
    DELETE_ALL.with(|s| s.execute(&[arg(ends.published)]))?;
    let mut others = found.iter().filter(|((_, id), _)| !dealt_with.contains(id));
    Ok(Round { upto, held_up: others.next().map(|&((at, _), _)| at) })
}

/// What became of messages, by the ids of their schedules.
#[derive(Default)]
struct Ends {
    published: Vec<i64>,
    refused: Vec<i64>,
    /// Streams and keys of messages that could not be published now, each of which took its time. Later ones of the same key
    /// wait for them.
    put_off: HashSet<(String, String)>,
}

/// Locks a stream's table for publishing, unless that would have to wait. One that isn't there is refused later.
fn is_free(stream: &str) -> bool {
    catalog::stream_table(stream).is_none_or(catalog::try_lock_for_writing)
}

impl Due {
    fn read(row: Row, context: OuterContext) -> Result<Due> {
        let missing = || Error::Internal("a schedule has no message".into());
        Ok(Due {
            id: row.need(1)?,
            stream: row.need(2)?,
            key: row.text(3, context)?.ok_or_else(missing)?,
            data: row.jsonb(4, context)?.ok_or_else(missing)?,
            headers: row.jsonb(5, context)?,
            owner: row.need(6)?,
        })
    }
}

/// After so many waits for locks in a transaction, what has to be published one by one is left for later.
const MOST_PUT_OFF: usize = 25;

/// Publishes messages of one role to one stream.
fn publish(all: &[Due], ends: &mut Ends) -> Result<()> {
    let Some(Due { stream, owner, .. }) = all.first() else { return Ok(()) };
    let insert = |some: &[Due]| {
        if !role::exists(*owner) {
            return Err(Error::NoRole(owner.to_u32()));
        }
        role::as_role(*owner, || {
            let table = streams::table(stream)?;
            some.iter().try_for_each(|due| {
                messages::insert(stream, table, due.key, due.data, due.headers, None).map(drop)
            })
        })
    };
    if in_savepoint(|| insert(all)).is_ok() {
        ends.published.extend(all.iter().map(|due| due.id));
        return Ok(());
    }
    // Each by itself: what is wrong with one is that one's affair.
    for due in all {
        if ends.put_off.len() >= MOST_PUT_OFF {
            break;
        }
        let key = (stream.clone(), due.key.with_str(str::to_owned));
        if ends.put_off.contains(&key) {
            continue;
        }
        match in_savepoint(|| insert(std::slice::from_ref(due))) {
            Ok(()) => ends.published.push(due.id),
            Err(failure) if failure.is_passing => drop(ends.put_off.insert(key)),
            Err(failure) => {
                FAIL.with(|s| s.execute(&[arg(due.id), arg(failure.text)]))?;
                ends.refused.push(due.id);
            }
        }
    }
    Ok(())
}

/// When the next message after `now` is due; `None` if none is.
pub fn next_after(now: Micros) -> Result<Option<Micros>> {
    NEXT.with(|s| {
        s.run(Access::Latest, &[timestamp(now)], |rows| {
            Ok(rows.first().and_then(|row| row.micros(1)))
        })
    })
}
