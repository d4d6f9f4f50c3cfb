//! Streams.

use super::check::{self, name, required, within};
use crate::error::{Error, Result};
use crate::pg::exec::datum::{RegClass, RegRole};
use crate::pg::exec::{catalog, partitions, role, stream_table};
use crate::store::streams::{self, Keys, Right};
use crate::store::{self, consumers, messages, repair, retention, schedules, sources};
use pgrx::iter::SetOfIterator;
use pgrx::pg_sys;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;
use sequin_engine::retention::Limits;
use sequin_engine::settings::Micros;

/// As version 0.1.0 has declared it.
#[pg_extern(sql = false)]
fn create_stream(
    name: Option<&str>,
    one_message_per_key: Option<bool>,
    retain_for: Option<Interval>,
    retain_messages: Option<i64>,
    retain_bytes: Option<i64>,
    index_keys: Option<bool>,
) -> Result<RegClass, ErrorReport> {
    let limits = limits(retain_for, retain_messages, retain_bytes, false)?;
    Ok(create(name, one_message_per_key, index_keys, &limits, None)?)
}

#[pg_extern(name = "create_stream")]
fn create_stream_v2(
    name: Option<&str>,
    one_message_per_key: default!(Option<bool>, "false"),
    retain_for: default!(Option<Interval>, "NULL"),
    retain_messages: default!(Option<i64>, "NULL"),
    retain_bytes: default!(Option<i64>, "NULL"),
    index_keys: default!(Option<bool>, "true"),
    retain_until_acked: default!(Option<bool>, "false"),
    dedup_window: default!(Option<Interval>, "'2 min'"),
) -> Result<RegClass, ErrorReport> {
    let until_acked = required(retain_until_acked, "retain_until_acked")?;
    let limits = limits(retain_for, retain_messages, retain_bytes, until_acked)?;
    let dedup_window = required(dedup_window, "dedup_window")?;
    Ok(create(name, one_message_per_key, index_keys, &limits, Some(dedup_window))?)
}

fn create(
    name: Option<&str>,
    one_message_per_key: Option<bool>,
    index_keys: Option<bool>,
    limits: &Limits,
    dedup_window: Option<Interval>,
) -> Result<RegClass> {
    let stream = self::name(name, "stream", "name")?;
    let index_keys = required(index_keys, "index_keys")?;
    let one_message_per_key = required(one_message_per_key, "one_message_per_key")?;
    if one_message_per_key {
        catalog::check_member(c"key_locks")?;
    }
    if limits.is_any() {
        catalog::check_member(c"partition_id")?;
        if one_message_per_key {
            return Err(Error::RetentionPerKey(stream));
        }
    }
    let dedup_window = dedup_window.map(check::dedup_window).transpose()?;
    if catalog::stream_table(&stream).is_some() || streams::exists(&stream)? {
        return Err(Error::StreamExists(stream));
    }
    let keys = match (one_message_per_key, index_keys) {
        (true, _) => Keys::Unique,
        (false, true) => Keys::Indexed,
        (false, false) => Keys::NotIndexed,
    };
    streams::create_table(&stream, keys, limits.is_any())?;
    streams::insert(&stream, one_message_per_key)?;
    if limits.is_any() {
        retention::set_limits(&stream, limits)?;
    }
    if let Some(window) = dedup_window {
        streams::set_dedup_window(&stream, window)?;
    }
    Ok(RegClass::from(streams::table(&stream)?))
}

/// As version 0.1.0 has declared it.
#[pg_extern(sql = false)]
fn alter_stream(
    name: Option<&str>,
    retain_for: Option<Interval>,
    retain_messages: Option<i64>,
    retain_bytes: Option<i64>,
) -> Result<(), ErrorReport> {
    let stream = self::name(name, "stream", "name")?;
    must_own(&stream)?;
    let limits = limits(retain_for, retain_messages, retain_bytes, false)?;
    Ok(alter_limits(&stream, &limits, None, &[])?)
}

#[pg_extern(name = "alter_stream")]
fn alter_stream_v2(
    name: Option<&str>,
    retain_for: default!(Option<Interval>, "NULL"),
    retain_messages: default!(Option<i64>, "NULL"),
    retain_bytes: default!(Option<i64>, "NULL"),
    retain_until_acked: default!(Option<bool>, "NULL"),
    dedup_window: default!(Option<Interval>, "NULL"),
    reset: default!(Option<Vec<Option<String>>>, "'{}'"),
) -> Result<(), ErrorReport> {
    let stream = self::name(name, "stream", "name")?;
    must_own(&stream)?;
    let limits = limits(retain_for, retain_messages, retain_bytes, false)?;
    let mut dedup_window = dedup_window.map(check::dedup_window).transpose()?;
    let reset = check::elements(required(reset, "reset")?, "reset")?;
    for setting in &reset {
        match setting.as_str() {
            "retain_for" | "retain_messages" | "retain_bytes" | "retain_until_acked" => {}
            "dedup_window" => dedup_window = Some(DEFAULT_WINDOW),
            _ => return Err(Error::NoSetting(setting.clone()).into()),
        }
    }
    alter_limits(&stream, &limits, retain_until_acked, &reset)?;
    Ok(dedup_window.map_or(Ok(()), |window| streams::change_dedup_window(&stream, window))?)
}

fn limits(
    retain_for: Option<Interval>,
    retain_messages: Option<i64>,
    retain_bytes: Option<i64>,
    until_acked: bool,
) -> Result<Limits> {
    let count = |value: Option<i64>, what| {
        let value = value.map(|it| within(it, 1, i64::MAX, what, "at least 1")).transpose()?;
        Ok::<_, Error>(value.map(i64::unsigned_abs))
    };
    Ok(Limits {
        age: retain_for.map(check::retain_for).transpose()?,
        messages: count(retain_messages, "retain_messages")?,
        bytes: count(retain_bytes, "retain_bytes")?,
        until_acked,
    })
}

/// Changes those limits of a stream that are given or reset. The first time, its table gets partitions.
fn alter_limits(
    stream: &str,
    given: &Limits,
    until_acked: Option<bool>,
    reset: &[String],
) -> Result<()> {
    let is_reset = |name: &str| reset.iter().any(|it| it == name);
    let names = ["retain_for", "retain_messages", "retain_bytes", "retain_until_acked"];
    if !given.is_any() && until_acked.is_none() && !names.into_iter().any(is_reset) {
        return Ok(());
    }
    catalog::check_member(c"partition_id")?;
    let before = retention::limits_to_change(stream)?;
    let kept = |name| !is_reset(name);
    let limits = Limits {
        age: given.age.or(before.age.filter(|_| kept("retain_for"))),
        messages: given.messages.or(before.messages.filter(|_| kept("retain_messages"))),
        bytes: given.bytes.or(before.bytes.filter(|_| kept("retain_bytes"))),
        until_acked: until_acked.unwrap_or(before.until_acked && kept("retain_until_acked")),
    };
    let table = streams::table(stream)?;
    if limits.is_any() && !partitions::has_any(table) {
        if stream_table::keeps_one_per_key(table) {
            return Err(Error::RetentionPerKey(stream.into()));
        }
        store::partitions::convert(stream, table)?;
    }
    retention::set_limits(stream, &limits)
}

/// That of create_stream.
const DEFAULT_WINDOW: Micros = 120_000_000;

#[pg_extern]
fn grant_publish(stream: Option<&str>, role: Option<RegRole>) -> Result<(), ErrorReport> {
    Ok(grant(Right::Insert, stream, role)?)
}

#[pg_extern]
fn grant_consume(stream: Option<&str>, role: Option<RegRole>) -> Result<(), ErrorReport> {
    Ok(grant(Right::Select, stream, role)?)
}

fn grant(right: Right, stream: Option<&str>, role: Option<RegRole>) -> Result<()> {
    let stream = name(stream, "stream", "stream")?;
    let role = pg_sys::Oid::from(required(role, "role")?);
    streams::table(&stream)?;
    must_own(&stream)?;
    if !role::exists(role) {
        return Err(Error::NoRole(role.to_u32()));
    }
    streams::grant(right, &stream, &catalog::role_name(role))
}

#[pg_extern]
fn purge(
    stream: Option<&str>,
    before_seq: default!(Option<i64>, "NULL"),
    before_time: default!(Option<TimestampWithTimeZone>, "NULL"),
) -> Result<i64, ErrorReport> {
    let stream = name(stream, "stream", "stream")?;
    if before_seq.is_none() && before_time.is_none() {
        return Err(Error::NoBound.into());
    }
    streams::table(&stream)?;
    let count = messages::purge(&stream, before_seq, before_time.map(check::time))?;
    Ok(i64::try_from(count).unwrap_or(i64::MAX))
}

#[pg_extern]
fn repair_stream(name: Option<&str>) -> Result<SetOfIterator<'static, String>, ErrorReport> {
    let stream = self::name(name, "stream", "name")?;
    let table = streams::table(&stream)?;
    must_own(&stream)?;
    let seen = super::consumer_stats::highest_seen(&stream)?;
    Ok(SetOfIterator::new(repair::repair(&stream, table, seen)?))
}

#[pg_extern]
fn drop_stream(
    name: Option<&str>,
    force: default!(Option<bool>, "false"),
) -> Result<(), ErrorReport> {
    let stream = self::name(name, "stream", "name")?;
    let force = required(force, "force")?;
    must_own(&stream)?;
    // First, so that nothing new can refer to the stream from here on.
    streams::delete(&stream)?;
    let used_by = consumers::of_stream(&stream)?;
    if !force && !used_by.is_empty() {
        let consumers = used_by.join(", ");
        return Err(Error::StreamInUse { stream, consumers }.into());
    }
    let fed_by = sources::of_stream(&stream)?;
    if !force && !fed_by.is_empty() {
        return Err(Error::StreamFed { stream, sources: fed_by.join(", ") }.into());
    }
    for source in &fed_by {
        super::sources::forget(&sources::find(source)?)?;
    }
    for consumer in &used_by {
        consumers::delete(consumer)?;
    }
    schedules::delete_of(&stream)?;
    streams::drop_table(&stream)?;
    Ok(())
}

/// A stream whose table was dropped by hand has no owner: only a superuser may clean up.
fn must_own(stream: &str) -> Result<()> {
    if !streams::exists(stream)? {
        return Err(Error::NoStream(stream.into()));
    }
    let may = match catalog::stream_table(stream) {
        Some(table) => role::owns_table(table),
        None => role::is_superuser(),
    };
    if may { Ok(()) } else { Err(Error::NotStreamOwner(stream.into())) }
}
