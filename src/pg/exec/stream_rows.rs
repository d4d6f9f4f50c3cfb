//! Inserting messages into a stream's table without the executor, if the table is as create_stream has made it.

use super::datum::{Jsonb, Text};
use super::insert::{Kind, Opened, Target};
use super::spi::Arg;
use super::{catalog, partitions, relcache, scan};
use crate::error::{Error, Result};
use pgrx::pg_sys;
use sequin_engine::key::{self, Seq};
use std::ffi::CStr;

/// A message that is to be inserted.
pub struct New {
    pub seq: Seq,
    pub key: Text,
    pub data: Jsonb,
    pub headers: Option<Jsonb>,
}

type Row = [Arg; 5];

/// Inserts messages as the current role. Does nothing and returns false if the table has anything that only the
/// executor handles. The caller must have announced that it publishes (`session::publish::announce`), as the table's
/// trigger would, and have locked the table.
pub fn insert(table: pg_sys::Oid, messages: impl FnOnce() -> Result<Vec<New>>) -> Result<bool> {
    let partitions = partitions::of(table);
    let kind = if partitions.is_none() { Kind::Plain } else { Kind::Partitioned };
    let target = match open(kind, table) {
        Opened::Plain(target) if has_own_default(&target) => target,
        Opened::Plain(target) => {
            target.close();
            return Ok(false);
        }
        Opened::ForTheExecutor => return Ok(false),
        Opened::Missing => return Err(Error::NoStream(catalog::relation_name(table))),
    };
    if partitions.is_none() {
        let has_checks = has_checks(&target, table);
        target.insert(&rows(messages()?)?, has_checks);
        return Ok(true);
    }
    target.close();
    let rows = rows(messages()?)?;
    let Some(targets) = open_partitions(table, &rows) else { return Ok(false) };
    for (target, rows) in targets {
        let has_checks = has_checks(&target, table);
        target.insert(rows, has_checks);
    }
    Ok(true)
}

/// Opens a table with a stream's columns and trigger.
fn open(kind: Kind, table: pg_sys::Oid) -> Opened {
    Target::open(kind, table, &scan::COLUMNS, Some(c"on_publish"))
}

/// The messages as rows of the table.
fn rows(messages: Vec<New>) -> Result<Vec<Row>> {
    let now = Some(pg_sys::Datum::from(crate::pg::now()));
    let mut rows = Vec::with_capacity(messages.len());
    for New { seq, key, data, headers } in messages {
        key.with_str(key::check_key)?;
        let seq = Some(pg_sys::Datum::from(seq));
        rows.push([seq, Some(key.datum()), Some(data.datum()), headers.map(Jsonb::datum), now]);
    }
    Ok(rows)
}

/// Opens the partitions that rows belong to, each with its rows; `None` if only the executor can insert into one of them,
/// or there is none for a row.
fn open_partitions(table: pg_sys::Oid, rows: &[Row]) -> Option<Vec<(Target, &[Row])>> {
    loop {
        let generation = relcache::generation();
        let partitions = partitions::of(table)?;
        let mut targets: Vec<(Target, &[Row])> = Vec::new();
        let mut left = rows;
        let mut is_plain = true;
        while let Some(&[Some(first), ..]) = left.first() {
            let (upto, partition) = partitions.at(first.value() as Seq);
            let is_in = |row: &Row| {
                row[0].is_some_and(|seq| {
                    (first.value() as Seq..=upto).contains(&(seq.value() as Seq))
                })
            };
            let count = left.iter().take_while(|row| is_in(row)).count();
            let (those, others) = left.split_at(count);
            let opened = partition.map(|it| open(Kind::Partition, it));
            let Some(Opened::Plain(target)) = opened else {
                is_plain = false;
                break;
            };
            targets.push((target, those));
            left = others;
        }
        // While one was locked, another may have taken over some of its seqs.
        if is_plain && relcache::generation() == generation {
            return Some(targets);
        }
        targets.into_iter().for_each(|(target, _)| target.close());
        if !is_plain {
            return None;
        }
    }
}

/// True if rows can violate a constraint of the table other than the one that create_stream makes: that is about the
/// key, which has been checked already.
fn has_checks(target: &Target, table: pg_sys::Oid) -> bool {
    let Some(constraints) = target.constraints() else { return false };
    let own = format!("{}_key_check", catalog::relation_name(table));
    // SAFETY: a relation has as many constraints as it says.
    let is_own = constraints.num_check == 1
        && unsafe { CStr::from_ptr((*constraints.check).ccname) }.to_bytes() == own.as_bytes();
    let needs_headers = target.descriptor().get(3).is_none_or(|headers| headers.attnotnull);
    needs_headers || !(is_own || constraints.num_check == 0)
}

/// True if the time is the only column with a default, and that is clock_timestamp().
fn has_own_default(target: &Target) -> bool {
    const CLOCK: &CStr = c"{FUNCEXPR :funcid 2649 ";
    let Some(constraints) = target.constraints() else { return false };
    if constraints.num_defval != 1 {
        return false;
    }
    // SAFETY: a relation has as many defaults as it says, each the text of an expression.
    unsafe {
        let default = &*constraints.defval;
        let text = CStr::from_ptr(default.adbin);
        usize::try_from(default.adnum) == Ok(scan::COLUMNS.len())
            && text.to_bytes().starts_with(CLOCK.to_bytes())
    }
}
