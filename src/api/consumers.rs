//! Consumers.

use super::check::{self, ack_wait, delay, elements, name, not_yet, required, within};
use super::rights::{self, readable, selectable};
use crate::error::{Error, Result};
use crate::pg::exec::datum::{RegProc, RegRole};
use crate::pg::exec::{catalog, role, sequence};
use crate::pg::session::call::call_in_parts;
use crate::pg::session::current;
use crate::pg::shared::session_entry;
use crate::store::acks::{self, Kind};
use crate::store::consumers::{self, Consumer, Given, Start};
use crate::store::{messages, streams};
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;
use sequin_engine::dispatcher::{Answer, LOOK_AHEAD, Request, settled_upto};
use sequin_engine::filter::Filter;
use sequin_engine::key::{KeyId, Seq, key_id};
use sequin_engine::wire::MAX_BATCH;
use std::rc::Rc;

#[pg_extern]
fn create_consumer(
    stream: Option<&str>,
    name: Option<&str>,
    filters: default!(Option<Vec<Option<String>>>, "'{>}'"),
    ack_wait: default!(Option<Interval>, "'30 s'"),
    max_ack_pending: default!(Option<i32>, "10000"),
    max_deliver: default!(Option<i32>, "NULL"),
    backoff: default!(Option<Vec<Option<Interval>>>, "NULL"),
    ordered: default!(Option<bool>, "true"),
    start_seq: default!(Option<i64>, "NULL"),
    start_time: default!(Option<TimestampWithTimeZone>, "NULL"),
    new_only: default!(Option<bool>, "false"),
    condition: default!(Option<&str>, "NULL"),
    transform: default!(Option<RegProc>, "NULL"),
) -> Result<(), ErrorReport> {
    let stream = self::name(stream, "stream", "stream")?;
    let name = self::name(name, "consumer", "name")?;
    let given = given(
        Some(required(filters, "filters")?),
        Some(required(ack_wait, "ack_wait")?),
        Some(required(max_ack_pending, "max_ack_pending")?),
        max_deliver,
        backoff,
        Some(required(ordered, "ordered")?),
        1,
    )?;
    let new_only = required(new_only, "new_only")?;
    not_yet(condition, "condition")?;
    not_yet(transform, "transform")?;
    let starts = [start_seq.is_some(), start_time.is_some(), new_only];
    if starts.into_iter().filter(|&given| given).count() > 1 {
        return Err(Error::TwoStarts.into());
    }
    let looks = start_time.is_some() || new_only;
    let allowed = || if looks { readable(&stream) } else { selectable(&stream) };
    let mut table = allowed()?;
    if !streams::exists(&stream)? {
        return Err(Error::NoStream(stream).into());
    }
    if consumers::exists(&name)? {
        return Err(Error::ConsumerExists(name).into());
    }
    // Locked in the same order as in drop_stream. With both locks, the sequence stays.
    streams::keep(&stream)?;
    match catalog::lock_stream_for_reading(&stream) {
        Some(now) if now == table => {}
        Some(_) => table = allowed()?,
        None => return Err(Error::NoStream(stream).into()),
    }
    let last = sequence::last_value(sequence::of_stream(table)?);
    let at = |after| Start { after, done: Vec::new(), last };
    let start = match (start_seq, start_time) {
        (Some(seq), _) => at(after_seq(seq, "start_seq")?),
        (_, Some(time)) => at(messages::last_before(table, check::time(time))?),
        _ if new_only => from_now_on(table)?,
        _ => at(0),
    };
    Ok(consumers::insert(&name, &stream, given, start)?)
}

#[pg_extern]
fn alter_consumer(
    name: Option<&str>,
    filters: default!(Option<Vec<Option<String>>>, "NULL"),
    ack_wait: default!(Option<Interval>, "NULL"),
    max_ack_pending: default!(Option<i32>, "NULL"),
    max_deliver: default!(Option<i32>, "NULL"),
    backoff: default!(Option<Vec<Option<Interval>>>, "NULL"),
    ordered: default!(Option<bool>, "NULL"),
    condition: default!(Option<&str>, "NULL"),
    transform: default!(Option<RegProc>, "NULL"),
    owner: default!(Option<RegRole>, "NULL"),
) -> Result<(), ErrorReport> {
    let consumer = mine(name, "name")?;
    not_yet(condition, "condition")?;
    not_yet(transform, "transform")?;
    let given = given(filters, ack_wait, max_ack_pending, max_deliver, backoff, ordered, 0)?;
    let owner = owner.map(rights::new_owner).transpose()?;
    if let Some(owner) = owner
        && !role::may_be_shown(owner, streams::table(&consumer.stream)?)
    {
        return Err(Error::NoSelect(consumer.stream.clone()).into());
    }
    consumers::alter(&consumer.name, given)?;
    Ok(owner.map_or(Ok(()), |owner| consumers::give(&consumer.name, owner))?)
}

#[pg_extern]
fn drop_consumer(name: Option<&str>) -> Result<(), ErrorReport> {
    Ok(consumers::delete(&mine(name, "name")?.name)?)
}

#[pg_extern]
fn pause_consumer(name: Option<&str>) -> Result<(), ErrorReport> {
    Ok(consumers::pause(&mine(name, "name")?.name, true)?)
}

#[pg_extern]
fn resume_consumer(name: Option<&str>) -> Result<(), ErrorReport> {
    Ok(consumers::pause(&mine(name, "name")?.name, false)?)
}

#[pg_extern]
fn rewind(
    consumer: Option<&str>,
    to_seq: default!(Option<i64>, "NULL"),
    to_time: default!(Option<TimestampWithTimeZone>, "NULL"),
) -> Result<(), ErrorReport> {
    let consumer = mine(consumer, "consumer")?;
    let after = match (to_seq, to_time) {
        (Some(_), Some(_)) => return Err(Error::TwoTargets.into()),
        (Some(seq), None) => after_seq(seq, "to_seq")?,
        (None, Some(time)) => {
            messages::last_before(readable(&consumer.stream)?, check::time(time))?
        }
        (None, None) => 0,
    };
    Ok(consumers::rewind(&consumer.name, after)?)
}

#[pg_extern]
fn redeliver(consumer: Option<&str>, seqs: Option<Vec<Option<i64>>>) -> Result<i32, ErrorReport> {
    let consumer = mine(consumer, "consumer")?;
    let seqs = required(seqs, "seqs")?.into_iter().flatten().collect();
    let wanted = wanted_again(&consumer, seqs, true)?;
    Ok(i32::try_from(wanted.len()).unwrap_or(i32::MAX))
}

/// A consumer that the caller may use: the caller has the rights of its owner.
pub fn mine(name: Option<&str>, argument: &'static str) -> Result<Rc<Consumer>> {
    let consumer = consumers::find(required(name, argument)?)?;
    if role::has_rights_of(role::current(), consumer.owner) {
        return Ok(consumer);
    }
    if !role::exists(consumer.owner) {
        return Err(Error::OwnerGone { what: "consumer", name: consumer.name.clone() });
    }
    let owner = crate::pg::exec::catalog::role_name(consumer.owner);
    Err(Error::NotConsumerOwner { consumer: consumer.name.clone(), owner })
}

/// Makes the consumer deliver finished messages once more. Returns the seqs of those that will be: they exist and were
/// finished.
pub fn wanted_again(consumer: &Consumer, mut seqs: Vec<Seq>, filtered: bool) -> Result<Vec<Seq>> {
    seqs.sort_unstable();
    seqs.dedup();
    let table = readable(&consumer.stream)?;
    let filters: Vec<Filter> =
        consumer.filters.iter().filter_map(|filter| Filter::parse(filter).ok()).collect();
    let mut wanted = Vec::new();
    for chunk in seqs.chunks(MAX_BATCH) {
        let rows = messages::keys(table, chunk)?;
        let messages: Vec<(Seq, KeyId)> = (rows.iter())
            .filter(|row| !filtered || filters.iter().any(|filter| filter.matches(&row.key)))
            .map(|row| (row.seq, key_id(&row.key)))
            .collect();
        let request =
            |part: &[_]| Request::Redeliver { consumer: consumer.id, messages: part.to_vec() };
        call_in_parts(&messages, Some(table), request, |answer| {
            let (ack_row_id, generation, deliveries) = match answer {
                Answer::Deliveries { ack_row_id, generation, deliveries } => {
                    (ack_row_id, generation, deliveries)
                }
                Answer::TooMany => return Err(Error::TooManyRedelivered(2 * LOOK_AHEAD)),
                other => return Err(unexpected(consumer, &other)),
            };
            let seqs: Vec<Seq> = deliveries.iter().map(|delivery| delivery.seq).collect();
            if !seqs.is_empty() {
                acks::insert(consumer.id, ack_row_id, generation, Kind::Redelivered, &seqs)?;
            }
            wanted.extend(seqs);
            Ok(())
        })?;
    }
    Ok(wanted)
}

/// The error for an answer that isn't what was asked for.
pub fn unexpected(consumer: &Consumer, answer: &Answer) -> Error {
    match answer {
        Answer::NoConsumer => {}
        Answer::Damaged(fault) => return Error::Damaged(consumer.stream.clone(), fault.clone()),
        _ => return Error::Internal(format!("the dispatcher answered {answer:?}")),
    }
    // The consumer or its stream was dropped during the wait; or the consumer is so new that only this transaction sees
    // it.
    match consumers::exists(&consumer.name) {
        Ok(true) => match streams::has_table(&consumer.stream) {
            Ok(true) => Error::ConsumerUncommitted(consumer.name.clone()),
            Ok(false) => Error::NoStream(consumer.stream.clone()),
            Err(error) => error,
        },
        Ok(false) => Error::NoConsumer(consumer.name.clone()),
        Err(error) => error,
    }
}

/// Checks settings. `least_max_deliver` is 0 where max_deliver may be 0, which removes the limit.
fn given(
    filters: Option<Vec<Option<String>>>,
    wait: Option<Interval>,
    max_ack_pending: Option<i32>,
    max_deliver: Option<i32>,
    backoff: Option<Vec<Option<Interval>>>,
    ordered: Option<bool>,
    least_max_deliver: i32,
) -> Result<Given> {
    /// As many messages as a consumer keeps in memory.
    const MAX_PENDING: i32 = LOOK_AHEAD as i32;
    let filters = filters.map(|filters| elements(filters, "filters")).transpose()?;
    if filters.as_ref().is_some_and(Vec::is_empty) {
        return Err(Error::NoFilter);
    }
    for filter in filters.iter().flatten() {
        Filter::parse(filter)?;
    }
    if let Some(wait) = wait {
        ack_wait(wait)?;
    }
    if let Some(n) = max_ack_pending {
        within(n, 1, MAX_PENDING, "max_ack_pending", "between 1 and 65536")?;
    }
    if let Some(n) = max_deliver {
        let range =
            if least_max_deliver == 0 { "at least 1, or 0 for no limit" } else { "at least 1" };
        within(n, least_max_deliver, i32::MAX, "max_deliver", range)?;
    }
    let backoff = backoff.map(|backoff| elements(backoff, "backoff")).transpose()?;
    for &wait in backoff.iter().flatten() {
        delay(wait, "backoff")?;
    }
    Ok(Given { filters, ack_wait: wait, max_ack_pending, max_deliver, backoff, ordered })
}

/// To start at `seq` is to start after the one before it.
fn after_seq(seq: i64, what: &'static str) -> Result<Seq> {
    Ok(within(seq, 1, i64::MAX, what, "at least 1")? - 1)
}

/// Where a consumer of new messages starts: it gets what open transactions have published, but nothing that is
/// committed by now.
fn from_now_on(table: pgrx::pg_sys::Oid) -> Result<Start> {
    let last = sequence::last_value(sequence::of_stream(table)?);
    let publishers = session_entry::publishers(current::database()?, table);
    let after = settled_upto(last, publishers.bound());
    let done = messages::committed(table, after + 1, last)?;
    Ok(Start { after, done: done.to_pairs(), last })
}
