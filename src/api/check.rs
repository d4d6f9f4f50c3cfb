//! Checks of arguments, each in one place.

use crate::error::{Error, Result};
use crate::pg::exec::datum::micros;
use pgrx::datum::{Interval, TimestampWithTimeZone};
use sequin_engine::dedup::{LONGEST_WINDOW, SHORTEST_WINDOW};
use sequin_engine::settings::Micros;

/// The longest name of a stream, consumer or source, in bytes: leaves room for what is derived from it, such
/// as the names of indexes, within NAMEDATALEN.
const MAX_NAME: usize = 48;

/// The longest of all waits that a consumer's settings have: 366 days.
const MAX_WAIT: Micros = 366 * 86_400_000_000;

/// The longest time for which messages are kept: 36,525 days.
const MAX_RETENTION: Micros = 36_525 * 86_400_000_000;

/// The longest long poll.
const MAX_LONG_POLL: Micros = 3_600_000_000;

/// A required argument.
pub fn required<T>(value: Option<T>, name: &'static str) -> Result<T> {
    value.ok_or(Error::Null(name))
}

/// A required name: of `what`, in the argument `argument`.
pub fn name(value: Option<&str>, what: &'static str, argument: &'static str) -> Result<String> {
    let value = required(value, argument)?;
    let is_valid = (1..=MAX_NAME).contains(&value.len())
        && value.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    if is_valid { Ok(value.into()) } else { Err(Error::Name(what, value.into())) }
}

/// A number within bounds.
pub fn within<T: PartialOrd + ToString>(
    value: T,
    least: T,
    most: T,
    what: &'static str,
    range: &'static str,
) -> Result<T> {
    if value >= least && value <= most {
        return Ok(value);
    }
    Err(Error::Range { what, range, value: value.to_string() })
}

fn interval(
    value: Interval,
    least: Micros,
    most: Micros,
    what: &'static str,
    range: &'static str,
) -> Result<Micros> {
    let micros = micros(value);
    if (least..=most).contains(&micros) {
        return Ok(micros);
    }
    #[allow(clippy::cast_precision_loss)]
    let seconds = micros as f64 / 1e6;
    Err(Error::Range { what, range, value: format!("{seconds} s") })
}

/// A lease.
pub fn ack_wait(value: Interval) -> Result<Micros> {
    interval(value, 1000, MAX_WAIT, "ack_wait", "between 1 millisecond and 366 days")
}

/// A delay before a redelivery.
pub fn delay(value: Interval, what: &'static str) -> Result<Micros> {
    interval(value, 0, MAX_WAIT, what, "between 0 and 366 days")
}

/// How long a stream remembers dedup_ids.
pub fn dedup_window(value: Interval) -> Result<Micros> {
    interval(value, SHORTEST_WINDOW, LONGEST_WINDOW, "dedup_window", "between 1 second and 7 days")
}

/// How long messages are kept.
pub fn retain_for(value: Interval) -> Result<Micros> {
    interval(value, 1_000_000, MAX_RETENTION, "retain_for", "between 1 second and 100 years")
}

/// How long `receive` may wait.
pub fn long_poll(value: Interval) -> Result<Micros> {
    interval(value, 0, MAX_LONG_POLL, "wait", "between 0 and 1 hour")
}

/// A point in time, in microseconds.
pub fn time(value: TimestampWithTimeZone) -> Micros {
    value.into_inner()
}

/// A point in time for which a message is scheduled: a finite one.
pub fn schedule(value: TimestampWithTimeZone) -> Result<Micros> {
    let time = value.into_inner();
    match time {
        Micros::MIN | Micros::MAX => Err(Error::Range {
            what: "deliver_at",
            range: "finite",
            value: if time > 0 { "infinity" } else { "-infinity" }.into(),
        }),
        finite => Ok(finite),
    }
}

/// An argument that this version does not support: it must be NULL.
pub fn not_yet<T>(value: Option<T>, what: &'static str) -> Result<()> {
    if value.is_some() { Err(Error::NotYet(what)) } else { Ok(()) }
}

/// An array without NULLs.
pub fn elements<T>(values: Vec<Option<T>>, name: &'static str) -> Result<Vec<T>> {
    values.into_iter().map(|value| value.ok_or(Error::NullElement(name))).collect()
}
