//! Publishing.

use super::check::{name, not_yet, required};
use crate::error::{Error, Result};
use crate::pg::exec::datum::{Jsonb, JsonbArray, Text, TextArray};
use crate::store::{messages, streams};
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
) -> Result<i64, ErrorReport> {
    let stream = name(stream, "stream", "stream")?;
    let key = required(key, "key")?;
    let data = required(data, "data")?;
    not_yet(deliver_at, "deliver_at")?;
    not_yet(dedup_id, "dedup_id")?;
    Ok(messages::insert(&stream, streams::table(&stream)?, key, data, headers)?)
}

#[pg_extern]
fn publish_many(
    stream: Option<&str>,
    keys: Option<TextArray>,
    data: Option<JsonbArray>,
    headers: default!(Option<JsonbArray>, "NULL"),
) -> Result<SetOfIterator<'static, i64>, ErrorReport> {
    let stream = name(stream, "stream", "stream")?;
    let keys = required(keys, "keys")?;
    let data = required(data, "data")?;
    let count = same_length(keys, data, headers)?;
    let table = streams::table(&stream)?;
    let seqs = messages::insert_many(&stream, table, count, keys, data, headers)?;
    Ok(SetOfIterator::new(seqs))
}

#[pg_extern]
fn delete_key(stream: Option<&str>, key: Option<Text>) -> Result<Option<i64>, ErrorReport> {
    let stream = name(stream, "stream", "stream")?;
    let key = required(key, "key")?;
    Ok(messages::delete_key(&stream, streams::table(&stream)?, key)?)
}

fn same_length(keys: TextArray, data: JsonbArray, headers: Option<JsonbArray>) -> Result<usize> {
    let (k, d, h) = (keys.len(), data.len(), headers.map(|headers| headers.len()));
    if k != d || h.is_some_and(|h| h != k) {
        return Err(Error::ArrayLengths { keys: k, data: d, headers: h });
    }
    if keys.has_null() {
        return Err(Error::NullElement("keys"));
    }
    if data.has_null() {
        return Err(Error::NullElement("data"));
    }
    Ok(k)
}
