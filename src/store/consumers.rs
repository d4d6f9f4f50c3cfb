//! `sequin.consumers`: the settings of consumers.

use super::{dead_letters, list_some, statement};
use crate::error::{Error, Result};
use crate::pg::exec::owners::{self, Owned};
use crate::pg::exec::savepoint::without_locks;
use crate::pg::exec::spi::{Access, Arg, Row, Statement, arg};
use crate::pg::exec::{relcache, role};
use pgrx::datum::Interval;
use pgrx::pg_sys;
use sequin_engine::dispatcher::ConsumerConfig;
use sequin_engine::ids::{ConsumerId, Generation};
use sequin_engine::key::Seq;
use sequin_engine::settings::{Micros, Settings};
use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

/// A consumer, as a session needs it.
#[derive(Debug)]
pub struct Consumer {
    pub id: ConsumerId,
    pub name: String,
    pub stream: String,
    pub owner: pg_sys::Oid,
    pub filters: Vec<String>,
}

/// Settings as the caller gave them; `None` takes the default, or leaves the old value.
#[derive(Default)]
pub struct Given {
    pub filters: Option<Vec<String>>,
    pub ack_wait: Option<Interval>,
    pub max_ack_pending: Option<i32>,
    pub max_deliver: Option<i32>,
    pub backoff: Option<Vec<Interval>>,
    pub ordered: Option<bool>,
}

statement!(
    FIND,
    "SELECT id, stream, owner::pg_catalog.oid, filters FROM sequin.consumers \
     WHERE name OPERATOR(pg_catalog.=) $1",
    [TEXTOID]
);
macro_rules! list {
    () => {
        "SELECT id, name, stream, generation, filters, \
            (extract(epoch FROM ack_wait) * 1000000)::bigint, max_ack_pending, max_deliver, \
            ARRAY(SELECT (extract(epoch FROM b) * 1000000)::bigint \
                  FROM unnest(backoff) WITH ORDINALITY u(b, n) ORDER BY n), \
            ordered, paused, start_after, start_done, start_last \
         FROM sequin.consumers"
    };
}
statement!(LIST, list!(), []);
statement!(LIST_SOME, concat!(list!(), " WHERE id = ANY ($1)"), [INT4ARRAYOID]);
statement!(
    INSERT,
    "INSERT INTO sequin.consumers \
        (name, stream, owner, filters, ack_wait, max_ack_pending, max_deliver, backoff, ordered, \
         start_after, start_done, start_last) \
     VALUES ($1, $2, $3::pg_catalog.regrole, $4, $5, $6, $7, $8, $9, $10, $11, $12)",
    [
        TEXTOID,
        TEXTOID,
        OIDOID,
        TEXTARRAYOID,
        INTERVALOID,
        INT4OID,
        INT4OID,
        INTERVALARRAYOID,
        BOOLOID,
        INT8OID,
        INT8ARRAYOID,
        INT8OID
    ]
);
statement!(
    ALTER,
    "UPDATE sequin.consumers SET \
        filters = coalesce($2, filters), ack_wait = coalesce($3, ack_wait), \
        max_ack_pending = coalesce($4, max_ack_pending), \
        max_deliver = CASE WHEN coalesce($5, max_deliver) OPERATOR(pg_catalog.<>) 0 \
            THEN coalesce($5, max_deliver) END, backoff = coalesce($6, backoff), \
        ordered = coalesce($7, ordered) \
     WHERE name OPERATOR(pg_catalog.=) $1",
    [TEXTOID, TEXTARRAYOID, INTERVALOID, INT4OID, INT4OID, INTERVALARRAYOID, BOOLOID]
);
statement!(
    GIVE,
    "UPDATE sequin.consumers SET owner = $2::pg_catalog.regrole WHERE name OPERATOR(pg_catalog.=) $1",
    [TEXTOID, OIDOID]
);
statement!(
    PAUSE,
    "UPDATE sequin.consumers SET paused = $2 WHERE name OPERATOR(pg_catalog.=) $1",
    [TEXTOID, BOOLOID]
);
statement!(
    REWIND,
    "UPDATE sequin.consumers SET generation = generation OPERATOR(pg_catalog.+) 1, \
        start_after = $2, start_done = '{}' \
     WHERE name OPERATOR(pg_catalog.=) $1",
    [TEXTOID, INT8OID]
);
statement!(
    DELETE,
    "WITH gone AS (DELETE FROM sequin.consumers WHERE name OPERATOR(pg_catalog.=) $1 RETURNING id) \
     INSERT INTO sequin.acks (consumer_id, id, generation, kind, seqs) SELECT id, 0, 0, 'g', '{}' FROM gone",
    [TEXTOID]
);
statement!(
    OF_STREAM,
    "SELECT name FROM sequin.consumers WHERE stream OPERATOR(pg_catalog.=) $1 ORDER BY name",
    [TEXTOID]
);

statement!(
    STARTS,
    "SELECT id, start_after FROM sequin.consumers WHERE stream OPERATOR(pg_catalog.=) $1",
    [TEXTOID]
);

thread_local! {
    static CACHE: RefCell<(u64, HashMap<String, Rc<Consumer>>)> = RefCell::default();
}

/// A consumer that must exist. Cached until some consumer changes.
pub fn find(name: &str) -> Result<Rc<Consumer>> {
    let generation = relcache::generation();
    let cached = CACHE.with_borrow_mut(|(of, map)| {
        if *of != generation {
            map.clear();
            *of = generation;
        }
        map.get(name).cloned()
    });
    if let Some(consumer) = cached {
        return Ok(consumer);
    }
    let found = without_locks(|| lookup(name))?;
    let consumer = Rc::new(found.ok_or_else(|| Error::NoConsumer(name.into()))?);
    // If the lookup has processed invalidations, the generation has risen, and the consumer is looked up again next
    // time.
    CACHE.with_borrow_mut(|(_, map)| map.insert(name.into(), Rc::clone(&consumer)));
    Ok(consumer)
}

pub fn exists(name: &str) -> Result<bool> {
    lookup(name).map(|found| found.is_some())
}

fn lookup(name: &str) -> Result<Option<Consumer>> {
    let read = |row: Row| {
        Ok(Consumer {
            id: ConsumerId(row.need(1)?),
            name: name.into(),
            stream: row.need(2)?,
            owner: row.need(3)?,
            filters: row.need(4)?,
        })
    };
    let run = |s: &Statement| {
        s.run(Access::Latest, &[arg(name)], |rows| rows.first().map(read).transpose())
    };
    role::as_owner(|| FIND.with(run))
}

/// The consumers of a stream, by name.
pub fn of_stream(stream: &str) -> Result<Vec<String>> {
    let read = |s: &Statement| {
        s.run(Access::Latest, &[arg(stream)], |rows| {
            rows.iter().map(|row| row.need::<String>(1)).collect()
        })
    };
    role::as_owner(|| OF_STREAM.with(read))
}

/// The ids of a stream's consumers, and after which seq each begins.
pub fn starts_of(stream: &str) -> Result<Vec<(ConsumerId, Seq)>> {
    let read = |s: &Statement| {
        s.run(Access::Latest, &[arg(stream)], |rows| {
            rows.iter().map(|row| Ok((ConsumerId(row.need(1)?), row.need(2)?))).collect()
        })
    };
    role::as_owner(|| STARTS.with(read))
}

/// For the dispatcher: the configurations of these consumers, or of all, as far as they are committed by now.
pub fn list(these: Option<Vec<ConsumerId>>) -> Result<Vec<ConsumerConfig>> {
    let count = |n: i32| usize::try_from(n).unwrap_or(0);
    let read = |row: Row| {
        Ok(ConsumerConfig {
            id: ConsumerId(row.need(1)?),
            name: row.need(2)?,
            stream: row.need(3)?,
            generation: Generation(row.need(4)?),
            filters: row.need(5)?,
            settings: Settings {
                ack_wait: row.need::<Micros>(6)?,
                max_ack_pending: count(row.need(7)?),
                max_deliver: row.get::<i32>(8)?.map(i32::unsigned_abs),
                backoff: row.need(9)?,
                ordered: row.need(10)?,
                paused: row.need(11)?,
            },
            start_after: row.need(12)?,
            start_done: row.need(13)?,
            start_last: row.need(14)?,
        })
    };
    let these: Option<Vec<i32>> = these.map(|ids| ids.into_iter().map(|id| id.0).collect());
    list_some(&LIST, &LIST_SOME, these, read)
}

/// Where a consumer starts.
pub struct Start {
    pub after: Seq,
    /// Seqs above it that are not wanted, as pairs of first and last.
    pub done: Vec<Seq>,
    /// The stream's last seq.
    pub last: Seq,
}

/// Inserts a consumer that the current role owns. The caller has called `streams::keep` for its stream.
pub fn insert(name: &str, stream: &str, given: Given, start: Start) -> Result<()> {
    let owner = role::current();
    owners::note(Owned::Consumers, owner);
    let args = [
        arg(name),
        arg(stream),
        arg(owner),
        given.filters.and_then(arg),
        given.ack_wait.and_then(arg),
        given.max_ack_pending.and_then(arg),
        given.max_deliver.and_then(arg),
        given.backoff.and_then(arg),
        given.ordered.and_then(arg),
        arg(start.after),
        arg(start.done),
        arg(start.last),
    ];
    role::as_owner(|| INSERT.with(|s| s.execute(&args))).map(drop)
}

pub fn alter(name: &str, given: Given) -> Result<()> {
    let args = [
        arg(name),
        given.filters.and_then(arg),
        given.ack_wait.and_then(arg),
        given.max_ack_pending.and_then(arg),
        given.max_deliver.and_then(arg),
        given.backoff.and_then(arg),
        given.ordered.and_then(arg),
    ];
    change(name, &ALTER, &args)
}

/// Gives it to another role.
pub fn give(name: &str, owner: pg_sys::Oid) -> Result<()> {
    owners::note(Owned::Consumers, owner);
    change(name, &GIVE, &[arg(name), arg(owner)])
}

pub fn pause(name: &str, paused: bool) -> Result<()> {
    change(name, &PAUSE, &[arg(name), arg(paused)])
}

/// Makes the consumer start anew after this seq.
pub fn rewind(name: &str, after: Seq) -> Result<()> {
    change(name, &REWIND, &[arg(name), arg(after)])
}

/// Deletes it with its dead letters. The dispatcher deletes its rows in the journals: if this did, an open transaction
/// would lock rows that the dispatcher may have to delete.
pub fn delete(name: &str) -> Result<()> {
    change(name, &DELETE, &[arg(name)])?;
    dead_letters::delete_all(name)
}

fn change(
    name: &str,
    statement: &'static std::thread::LocalKey<Statement>,
    args: &[Arg],
) -> Result<()> {
    match role::as_owner(|| statement.with(|s| s.execute(args)))? {
        0 => Err(Error::NoConsumer(name.into())),
        _ => Ok(()),
    }
}
