//! The function behind `sequin.consumer_stats`: the state of consumers, from the dispatcher for those that it has
//! loaded, and from the tables for the others.

use crate::error::Result;
use crate::pg;
use crate::pg::exec::role;
use crate::pg::exec::savepoint::without_locks;
use crate::pg::exec::settings::by_index;
use crate::pg::session::call::call;
use crate::pg::session::current;
use crate::store::streams::{self, Tail};
use crate::store::{consumers, journal};
use pgrx::iter::TableIterator;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;
use sequin_engine::dispatcher::{Answer, ConsumerConfig, ConsumerStats, Request, unloaded_stats};
use sequin_engine::fault::Known;
use sequin_engine::ids::ConsumerId;
use sequin_engine::key::Seq;
use std::collections::HashMap;

#[pg_extern(name = "_consumer_stats")]
fn consumer_stats() -> Result<
    TableIterator<
        'static,
        (
            name!(consumer_id, i32),
            name!(ready, i64),
            name!(in_flight, i64),
            name!(delayed, i64),
            name!(withheld, i64),
            name!(ack_floor, Option<i64>),
            name!(cursor, Option<i64>),
            name!(redelivered_total, i64),
            name!(acked_total, i64),
            name!(dead_total, i64),
            name!(first_unfinished, i64),
            name!(waiting, i64),
            name!(last_error, Option<String>),
            name!(is_damaged, bool),
        ),
    >,
    ErrorReport,
> {
    let mut rows = Vec::new();
    for Shown { stats, error, .. } in all_consumers()? {
        let count = |n: usize| i64::try_from(n).unwrap_or(i64::MAX);
        rows.push((
            stats.consumer.0,
            count(stats.counts.ready),
            count(stats.counts.in_flight),
            count(stats.counts.delayed),
            count(stats.counts.withheld),
            Some(stats.floor).filter(|_| stats.is_loaded),
            Some(stats.cursor).filter(|_| stats.is_loaded),
            stats.counts.redelivered_total,
            stats.counts.acked_total,
            stats.counts.dead_total,
            stats.first_unfinished,
            stats.waiting,
            error,
            stats.is_damaged,
        ));
    }
    Ok(TableIterator::new(rows))
}

/// A consumer as the views show it.
struct Shown {
    stats: ConsumerStats,
    /// The highest seq of its stream that is known, by this consumer, to have been used.
    seen: Seq,
    /// Its last error.
    error: Option<String>,
}

/// All consumers whose streams exist. Empty while no dispatcher runs, rather than waiting for one. There may be many
/// consumers that the dispatcher has not loaded: their state is read from the tables.
fn all_consumers() -> Result<Vec<Shown>> {
    let mut all: Vec<Shown> = Vec::new();
    if current::database()?.dispatcher.pid() == 0 {
        return Ok(all);
    }
    loop {
        let after = all.last().map_or(ConsumerId(0), |shown| shown.stats.consumer);
        match call(&Request::Stats { after }, None)? {
            Answer::Stats(page) if !page.is_empty() => {
                for stats in page {
                    let error = if stats.has_error { last_error(stats.consumer)? } else { None };
                    all.push(Shown { stats, seen: stats.cursor, error });
                }
            }
            _ => break,
        }
    }
    if all.iter().any(|shown| !shown.stats.is_loaded) {
        role::as_owner(|| without_locks(|| by_index(|| read_unloaded(&mut all))))?;
    }
    Ok(all)
}

/// Fills in the state of the consumers that are not loaded, from the tables.
fn read_unloaded(all: &mut Vec<Shown>) -> Result<()> {
    let unloaded = all.iter().filter(|shown| !shown.stats.is_loaded);
    let ids = unloaded.map(|shown| shown.stats.consumer).collect();
    let configs = consumers::list(Some(ids))?.into_iter().map(|config| (config.id, config));
    let configs: HashMap<ConsumerId, ConsumerConfig> = configs.collect();
    let is_locked = !journal::try_lock();
    let mut streams: HashMap<&str, Seq> = HashMap::new();
    for shown in all.iter_mut().filter(|shown| !shown.stats.is_loaded) {
        let Some(config) = configs.get(&shown.stats.consumer) else { continue };
        if is_locked {
            let error = || "cannot read its state: a table of sequin's is locked".into();
            shown.error.get_or_insert_with(error);
            continue;
        }
        match unloaded_stats(config, journal::read(config.id, config.generation)?, pg::now()) {
            Ok((stats, seen)) => {
                let ConsumerStats { waiting, has_error, is_damaged, .. } = shown.stats;
                shown.stats = ConsumerStats { waiting, has_error, is_damaged, ..stats };
                shown.seen = seen;
            }
            Err(text) => shown.error = Some(text),
        }
        let known = streams.entry(&config.stream).or_default();
        *known = shown.seen.max(*known);
    }
    // The dispatcher may not have looked at these streams: examine their tables here.
    let tails: HashMap<&str, Tail> = (streams.into_iter())
        .map(|(stream, last)| (stream, streams::tail(stream, Known { last, ..Known::default() })))
        .collect();
    all.retain_mut(|shown| {
        let Some(config) = configs.get(&shown.stats.consumer) else { return shown.stats.is_loaded };
        match tails.get(config.stream.as_str()) {
            Some(Tail::Missing) => return false,
            Some(Tail::Broken(fault)) => {
                shown.stats.is_damaged = true;
                shown.error.get_or_insert_with(|| fault.of(&config.stream));
            }
            _ => {}
        }
        true
    });
    Ok(())
}

/// The highest seq of a stream that is known, by its consumers, to have been used.
pub(super) fn highest_seen(stream: &str) -> Result<Seq> {
    let starts = consumers::starts_of(stream)?;
    let seen = |shown: &Shown| {
        let &(_, start) = starts.iter().find(|&&(id, _)| id == shown.stats.consumer)?;
        Some(shown.seen).filter(|&seen| seen > start)
    };
    Ok(all_consumers()?.iter().filter_map(seen).max().unwrap_or(0))
}

fn last_error(consumer: ConsumerId) -> Result<Option<String>> {
    match call(&Request::LastError { consumer }, None)? {
        Answer::Text(text) => Ok(Some(text)),
        _ => Ok(None),
    }
}
