//! Publishing.

use super::check::{self, name, required};
use super::rights;
use crate::error::{Error, Result};
use crate::pg;
use crate::pg::exec::datum::{Jsonb, JsonbArray, Text, TextArray};
use crate::store::dedup::{self, Ids};
use crate::store::messages::Batch;
use crate::store::{messages, schedules, streams};
use pgrx::iter::SetOfIterator;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;

#[pg_extern]
fn publish(
    stream: Option<&str>,
    key: Option<Text>,
    data: Option<Jsonb>,
    headers: default!(Option<Jsonb>, "NULL"),
    deliver_at: default!(Option<TimestampWithTimeZone>, "NULL"),
    dedup_id: default!(Option<&str>, "NULL"),
) -> Result<Option<i64>, ErrorReport> {
    let stream = name(stream, "stream", "stream")?;
    let key = required(key, "key")?;
    let data = required(data, "data")?;
    let dedup_id = dedup_id.map(self::dedup_id).transpose()?;
    let table = streams::table(&stream)?;
    if let Some(at) = deliver_at.map(check::schedule).transpose()? {
        if dedup_id.is_some() {
            return Err(Error::ScheduledOnce.into());
        }
        if at > pg::now() {
            schedules::insert(&stream, table, key, data, headers, at)?;
            return Ok(None);
        }
    }
    Ok(Some(messages::insert(&stream, table, key, data, headers, dedup_id)?))
}

#[pg_extern]
fn schedule(
    stream: Option<&str>,
    key: Option<Text>,
    data: Option<Jsonb>,
    deliver_at: Option<TimestampWithTimeZone>,
    headers: default!(Option<Jsonb>, "NULL"),
) -> Result<i64, ErrorReport> {
    let stream = name(stream, "stream", "stream")?;
    let key = required(key, "key")?;
    let data = required(data, "data")?;
    let at = check::schedule(required(deliver_at, "deliver_at")?)?;
    Ok(schedules::insert(&stream, streams::table(&stream)?, key, data, headers, at)?)
}

#[pg_extern]
fn unschedule(id: Option<i64>) -> Result<bool, ErrorReport> {
    Ok(schedules::delete(required(id, "id")?)?)
}

/// As version 0.1.0 has declared it.
#[pg_extern(sql = false)]
fn publish_many(
    stream: Option<&str>,
    keys: Option<TextArray>,
    data: Option<JsonbArray>,
    headers: Option<JsonbArray>,
) -> Result<SetOfIterator<'static, i64>, ErrorReport> {
    Ok(SetOfIterator::new(publish_all(stream, keys, data, headers, None)?))
}

#[pg_extern(name = "publish_many")]
fn publish_many_v2(
    stream: Option<&str>,
    keys: Option<TextArray>,
    data: Option<JsonbArray>,
    headers: default!(Option<JsonbArray>, "NULL"),
    dedup_ids: default!(Option<TextArray>, "NULL"),
) -> Result<SetOfIterator<'static, i64>, ErrorReport> {
    Ok(SetOfIterator::new(publish_all(stream, keys, data, headers, dedup_ids)?))
}

fn publish_all(
    stream: Option<&str>,
    keys: Option<TextArray>,
    data: Option<JsonbArray>,
    headers: Option<JsonbArray>,
    dedup_ids: Option<TextArray>,
) -> Result<Vec<i64>> {
    let stream = name(stream, "stream", "stream")?;
    let keys = required(keys, "keys")?;
    let data = required(data, "data")?;
    let count = same_length(keys, data, headers, dedup_ids)?;
    let ids = dedup_ids.map(each_id).transpose()?;
    let table = streams::table(&stream)?;
    messages::insert_many(&stream, table, &Batch { count, keys, data, headers }, ids)
}

#[pg_extern]
fn published_before(
    stream: Option<&str>,
    dedup_id: Option<&str>,
) -> Result<Option<i64>, ErrorReport> {
    let stream = name(stream, "stream", "stream")?;
    let id = self::dedup_id(required(dedup_id, "dedup_id")?)?;
    let table = streams::table(&stream)?;
    if messages::may_publish(&stream, table).is_err() && !rights::may_see_seqs(table) {
        return Err(Error::NoInsert(stream).into());
    }
    Ok(Ids::open(&stream, table)?.look_up(&id)?)
}

#[pg_extern]
fn delete_key(stream: Option<&str>, key: Option<Text>) -> Result<Option<i64>, ErrorReport> {
    let stream = name(stream, "stream", "stream")?;
    let key = required(key, "key")?;
    Ok(messages::delete_key(&stream, streams::table(&stream)?, key)?)
}

/// A dedup_id of this length.
fn dedup_id(id: &str) -> Result<String> {
    if (1..=dedup::MAX_ID).contains(&id.len()) {
        return Ok(id.into());
    }
    let value = format!("{} bytes", id.len());
    Err(Error::Range { what: "dedup_id", range: "1 to 255 bytes long", value })
}

fn each_id(ids: TextArray) -> Result<Vec<Option<String>>> {
    let each = ids.elements().into_iter();
    each.map(|id| id.map(|id| id.with_str(dedup_id)).transpose()).collect()
}

fn same_length(
    keys: TextArray,
    data: JsonbArray,
    headers: Option<JsonbArray>,
    dedup_ids: Option<TextArray>,
) -> Result<usize> {
    let (k, d) = (keys.len(), data.len());
    let (h, i) = (headers.map(|headers| headers.len()), dedup_ids.map(|ids| ids.len()));
    if k != d || [h, i].into_iter().flatten().any(|n| n != k) {
        return Err(Error::ArrayLengths { keys: k, data: d, headers: h, dedup_ids: i });
    }
    if keys.has_null() {
        return Err(Error::NullElement("keys"));
    }
    if data.has_null() {
        return Err(Error::NullElement("data"));
    }
    Ok(k)
}
