//! Strict order for each key: while a message is unfinished, later ones of its key wait.
//!
//! The reader looks for itself: at each message it must have seen all earlier ones of that key, and no ack may still
//! be missing among them.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Barrier, Mutex};
use std::thread;
use std::time::Instant;

use super::Peers;
use super::message::{self, Message};
use super::peer::{Done, Load, Ordered, SEQUIN};
use super::sql::{Goal, Sql};
use super::turns::{self, Turns};
use crate::options::Options;
use crate::report::Row;

const LOAD: Load = Load { ordered: true, publishers: 1, ..Load::of(10) };

const KEYS: [(usize, &str); 2] = [(1_000, "1,000 keys"), (1, "one hot key")];

pub fn rows(peers: &mut Peers, options: &Options) -> Vec<Row> {
    let mut rows = Vec::new();
    for (keys, name) in KEYS {
        eprintln!("order, {name}");
        let time = turns::figure_time(options);
        let counts: Vec<Result<usize, String>> = peers
            .iter_mut()
            .map(|peer| turns::count_for(time, |n| Ok(peer.order(&LOAD, keys, n)?.done)))
            .collect();
        let mut broken: HashMap<&str, usize> = HashMap::new();
        let turns = turns::take(peers, options, |peer, n| {
            let ordered = peer.order(&LOAD, keys, counts[n].clone()?)?;
            let count = ordered.broken.unwrap_or(0);
            assert!(peer.name() != SEQUIN || count == 0, "{count} messages of sequin out of order");
            *broken.entry(peer.name()).or_default() += count;
            Ok(ordered.done.per_second())
        });
        rows.extend(turns.others().map(|peer| row(&turns, name, peer, broken.get(peer))));
    }
    rows
}

fn row(turns: &Turns<f64>, keys: &str, peer: &str, broken: Option<&usize>) -> Row {
    let what = match broken {
        Some(broken) if *broken > 0 => format!("{keys} (its order broken {broken} times)"),
        _ => keys.into(),
    };
    turns.row(&what, peer)
}

/// The messages of a key have rising numbers.
pub fn of_sql(sql: &Sql, load: &Load, keys: usize, count: usize) -> Result<Ordered, String> {
    publish(sql, load, keys, count);
    let (seen, broken) = (Mutex::new(HashMap::<u64, u64>::new()), Mutex::new(0));
    let (goal, over) = (Goal::new(count), AtomicBool::new(false));
    let workers = sql.workers(load);
    let start = Barrier::new(workers.len() + 1);
    let (begun, end) = thread::scope(|scope| {
        scope.spawn(|| sql.attend(load, &over));
        let working = workers.into_iter().map(|(_, mut worker)| {
            let (seen, broken, goal, start) = (&seen, &broken, &goal, &start);
            scope.spawn(move || {
                start.wait();
                goal.work(worker.as_mut(), &mut |message: Message| {
                    let number = message::number(NUMBER, message.data);
                    let expected = &mut *seen.lock().unwrap();
                    let next = expected.entry(number % keys as u64).or_insert(number % keys as u64);
                    *broken.lock().unwrap() += usize::from(*next != number);
                    *next = (*next).max(number) + keys as u64;
                })
            })
        });
        let working: Vec<_> = working.collect();
        start.wait();
        let begun = Instant::now();
        let end = working.into_iter().filter_map(|thread| thread.join().unwrap()).max();
        over.store(true, Relaxed);
        (begun, end)
    });
    goal.check()?;
    let seconds = (end.expect("reached") - begun).as_secs_f64();
    let broken = broken.into_inner().unwrap();
    Ok(Ordered { done: Done { messages: count, seconds }, broken: Some(broken) })
}

/// The name of a message's number. Its key is that modulo their count.
const NUMBER: &str = "id";

/// One publisher: the order of several among each other is nobody's.
fn publish(sql: &Sql, load: &Load, keys: usize, count: usize) {
    const BATCH: usize = 1_000;
    let mut publisher = sql.queue.publisher(sql.database.connect(), load);
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| sql.attend(load, &over));
        for first in (0..count).step_by(BATCH) {
            let texts = (first..count.min(first + BATCH)).map(|n| {
                (format!("orders.{}", n % keys), message::numbered(NUMBER, n as u64, load.bytes))
            });
            let texts: Vec<(String, String)> = texts.collect();
            let messages: Vec<Message> =
                texts.iter().map(|(key, data)| Message { key, data }).collect();
            publisher.publish(&messages);
        }
        over.store(true, Relaxed);
    });
    sql.settle();
}
