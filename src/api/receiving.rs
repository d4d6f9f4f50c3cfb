//! Receiving messages, and finishing deliveries: ack, nack, extend, reject.

use super::check::{self, delay, required, within};
use super::consumers::{mine, unexpected};
use super::rights::readable;
use crate::error::{Error, Result};
use crate::pg::exec::catalog;
use crate::pg::exec::datum::{Jsonb, Text, Timestamptz};
use crate::pg::process;
use crate::pg::session::call::{call, call_in_parts};
use crate::pg::session::caller::Reader;
use crate::pg::session::received::{self, Finished};
use crate::store::acks::{self, Kind};
use crate::store::consumers::Consumer;
use crate::store::dead_letters;
use crate::store::messages::{self, Payload};
use pgrx::iter::TableIterator;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;
use sequin_engine::dispatcher::{Answer, Delivery, Request};
use sequin_engine::event::Item;
use sequin_engine::ids::AckId;
use sequin_engine::key::Seq;
use sequin_engine::settings::Micros;
use sequin_engine::wire::MAX_BATCH;

type Message = (i64, i64, Option<Text>, Option<Jsonb>, Option<Jsonb>, i32, Timestamptz);

#[pg_extern]
fn receive(
    consumer: Option<&str>,
    batch_size: default!(Option<i32>, "1"),
    wait: default!(Option<Interval>, "'0'"),
    ack_wait: default!(Option<Interval>, "NULL"),
    fcinfo: pg_sys::FunctionCallInfo,
) -> Result<
    TableIterator<
        'static,
        (
            name!(ack_id, i64),
            name!(seq, i64),
            name!(key, Option<Text>),
            name!(data, Option<Jsonb>),
            name!(headers, Option<Jsonb>),
            name!(deliver_count, i32),
            name!(inserted_at, Timestamptz),
        ),
    >,
    ErrorReport,
> {
    let consumer = mine(consumer, "consumer")?;
    let batch = within(
        required(batch_size, "batch_size")?,
        1,
        MAX_BATCH as i32,
        "batch_size",
        "between 1 and 1000",
    )?;
    let until = process::monotonic() + check::long_poll(required(wait, "wait")?)?;
    let ack_wait = ack_wait.map(check::ack_wait).transpose()?;
    let reader = Reader::calling(fcinfo);
    let messages = deliver(&consumer, batch.unsigned_abs() as usize, until, ack_wait, reader)?;
    Ok(TableIterator::new(messages))
}

/// Asks for messages until there are some, or the time is over.
fn deliver(
    consumer: &Consumer,
    mut batch: usize,
    until: Micros,
    ack_wait: Option<Micros>,
    reader: Option<Reader>,
) -> Result<Vec<Message>> {
    let mut table = readable(&consumer.stream)?;
    loop {
        let request = Request::Receive { consumer: consumer.id, batch, ack_wait, until };
        let deliveries = match call(&request, Some(table))? {
            Answer::Deliveries { ack_row_id, generation, deliveries } => {
                received::remember(consumer.id, ack_row_id, generation, &deliveries);
                deliveries
            }
            // This happens only if the journal knows of fewer redeliveries than there were: then the dispatcher has
            // granted too much for one answer.
            Answer::TooLong if batch > 1 => {
                batch /= 2;
                continue;
            }
            other => return Err(unexpected(consumer, &other)),
        };
        if deliveries.is_empty() {
            return Ok(Vec::new());
        }
        let seqs: Vec<Seq> = deliveries.iter().map(|delivery| delivery.seq).collect();
        let mut is_too_new = false;
        let writer = reader.as_ref().map(|reader| |xid| is_too_new |= !reader.sees(xid));
        let payloads = messages::with_table(&consumer.stream, |now| {
            // Another table may have got the stream's name since.
            if now != table {
                table = readable(&consumer.stream)?;
            }
            messages::payloads(table, &seqs, writer)
        })?;
        // A statement that joins such a message to other tables would not find there what was committed with it.
        if is_too_new {
            return Err(Error::TooNew(consumer.stream.clone()));
        }
        let (messages, gone) = join(&deliveries, payloads);
        if !gone.is_empty() {
            // Their rows were deleted from the table: they count as finished.
            let request =
                |part: &[AckId]| Request::Gone { consumer: consumer.id, ack_ids: part.to_vec() };
            call_in_parts(&gone, Some(table), request, |_| Ok(()))?;
        }
        if !messages.is_empty() {
            return Ok(messages);
        }
    }
}

/// Deliveries with their payloads, both ascending by seq, and the ack_ids of those that have none.
fn join(deliveries: &[Delivery], payloads: Vec<Payload>) -> (Vec<Message>, Vec<AckId>) {
    let mut messages = Vec::with_capacity(payloads.len());
    let mut gone = Vec::new();
    let mut payloads = payloads.into_iter().peekable();
    for delivery in deliveries {
        let Some(found) = payloads.next_if(|payload| payload.seq == delivery.seq) else {
            gone.push(delivery.ack_id);
            continue;
        };
        messages.push((
            delivery.ack_id.0,
            delivery.seq,
            found.key,
            found.data,
            found.headers,
            delivery.deliveries.cast_signed(),
            Timestamptz::from(found.inserted_at),
        ));
    }
    (messages, gone)
}

#[pg_extern]
fn ack(consumer: Option<&str>, ack_ids: Option<Vec<Option<i64>>>) -> Result<i32, ErrorReport> {
    let consumer = mine(consumer, "consumer")?;
    let mut count = 0;
    for ack_ids in given(ack_ids)?.chunks(MAX_BATCH) {
        count += finish(&consumer, ack_ids, Kind::Acked)?.len();
    }
    Ok(to_count(count))
}

#[pg_extern]
fn nack(
    consumer: Option<&str>,
    ack_ids: Option<Vec<Option<i64>>>,
    delay: default!(Option<Interval>, "NULL"),
) -> Result<i32, ErrorReport> {
    let consumer = mine(consumer, "consumer")?;
    let delay = delay.map(|wait| self::delay(wait, "delay")).transpose()?;
    let mut count = 0;
    let request =
        |part: &[AckId]| Request::Nack { consumer: consumer.id, delay, ack_ids: part.to_vec() };
    call_in_parts(&given(ack_ids)?, table_of(&consumer), request, |answer| match answer {
        Answer::Deliveries { deliveries, .. } => {
            count += deliveries.len();
            Ok(())
        }
        other => Err(unexpected(&consumer, &other)),
    })?;
    Ok(to_count(count))
}

#[pg_extern]
fn extend(
    consumer: Option<&str>,
    ack_ids: Option<Vec<Option<i64>>>,
    ack_wait: default!(Option<Interval>, "NULL"),
) -> Result<i32, ErrorReport> {
    let consumer = mine(consumer, "consumer")?;
    let ack_wait = ack_wait.map(check::ack_wait).transpose()?;
    let mut count = 0;
    let request = |part: &[AckId]| Request::Extend {
        consumer: consumer.id,
        ack_wait,
        ack_ids: part.to_vec(),
    };
    call_in_parts(&given(ack_ids)?, table_of(&consumer), request, |answer| match answer {
        Answer::Count(n) => {
            count += usize::try_from(n).unwrap_or(0);
            Ok(())
        }
        other => Err(unexpected(&consumer, &other)),
    })?;
    Ok(to_count(count))
}

#[pg_extern]
fn reject(
    consumer: Option<&str>,
    ack_ids: Option<Vec<Option<i64>>>,
    reason: default!(Option<&str>, "NULL"),
) -> Result<i32, ErrorReport> {
    let consumer = mine(consumer, "consumer")?;
    // Their payloads are copied into the dead letters, which all members of the consumer's owner can read.
    readable(&consumer.stream)?;
    let mut count = 0;
    for ack_ids in given(ack_ids)?.chunks(MAX_BATCH) {
        let finished = finish(&consumer, ack_ids, Kind::Rejected)?;
        let items: Vec<Item> = finished
            .iter()
            .map(|d| Item { seq: d.seq, key: 0, deliveries: d.deliveries })
            .collect();
        if !items.is_empty() {
            dead_letters::insert(&consumer.name, &consumer.stream, &items, reason)?;
        }
        count += items.len();
    }
    Ok(to_count(count))
}

/// Finishes the deliveries that are live, when this transaction commits.
fn finish(consumer: &Consumer, ack_ids: &[AckId], kind: Kind) -> Result<Vec<Delivery>> {
    let fast_path = match kind {
        Kind::Acked => received::finish(consumer.id, ack_ids)?,
        _ => None,
    };
    match fast_path {
        Some(finished) => note_finished(consumer, kind, finished),
        None => ask_to_finish(consumer, ack_ids, kind),
    }
}

fn ask_to_finish(consumer: &Consumer, ack_ids: &[AckId], kind: Kind) -> Result<Vec<Delivery>> {
    let rejected = kind == Kind::Rejected;
    let request = |part: &[AckId]| Request::Finish {
        consumer: consumer.id,
        rejected,
        ack_ids: part.to_vec(),
    };
    let mut all = Vec::new();
    call_in_parts(ack_ids, table_of(consumer), request, |answer| match answer {
        Answer::Deliveries { ack_row_id, generation, deliveries } => {
            let finished = Finished { ack_row_id, generation, deliveries };
            all.append(&mut note_finished(consumer, kind, finished)?);
            Ok(())
        }
        other => Err(unexpected(consumer, &other)),
    })?;
    Ok(all)
}

/// Writes the row of sequin.acks for finished deliveries.
fn note_finished(consumer: &Consumer, kind: Kind, finished: Finished) -> Result<Vec<Delivery>> {
    let Finished { ack_row_id, generation, deliveries } = finished;
    if !deliveries.is_empty() {
        let seqs: Vec<Seq> = deliveries.iter().map(|delivery| delivery.seq).collect();
        acks::insert(consumer.id, ack_row_id, generation, kind, &seqs)?;
    }
    Ok(deliveries)
}

fn table_of(consumer: &Consumer) -> Option<pg_sys::Oid> {
    catalog::stream_table(&consumer.stream)
}

/// The ack_ids. A NULL among them names no delivery.
fn given(ack_ids: Option<Vec<Option<i64>>>) -> Result<Vec<AckId>> {
    Ok(required(ack_ids, "ack_ids")?.into_iter().flatten().map(AckId).collect())
}

fn to_count(n: usize) -> i32 {
    i32::try_from(n).unwrap_or(i32::MAX)
}
