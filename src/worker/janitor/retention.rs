//! Gives messages of streams back that are not to be kept any longer, and makes partitions for those to come.

use super::Work;
use crate::pg::exec::catalog;
use crate::pg::process;
use crate::pg::shared::database::Database;
use crate::pg::shared::session_entry;
use crate::store::partitions::partition_name;
use crate::store::retention::{self, Outcome, Stream};
use pgrx::pg_sys;
use sequin_engine::key::Seq;
use sequin_engine::retention::{Facts, Step, steps};
use std::collections::HashMap;
use std::time::{Duration, Instant};

/// How often the streams are looked through.
const PAUSE: Duration = Duration::from_secs(1);

/// The shortest time between two looks at a stream.
const SHORTEST: Duration = Duration::from_millis(250);

/// At most this time passes before a stream is looked at again to which nobody publishes, or in whose way something is.
const QUIET: Duration = Duration::from_secs(30);
const BLOCKED: Duration = Duration::from_secs(3);

/// For so long something is in the way before it is said.
const PATIENCE: Duration = Duration::from_secs(5);

pub struct Retention {
    database: &'static Database,
    watched: HashMap<pg_sys::Oid, Watched>,
}

/// What is known of a stream.
struct Watched {
    /// Its last seq, when that was seen, and how many are taken per second.
    last: Seq,
    seen: Instant,
    rate: f64,
    due: Instant,
    blocked_since: Option<Instant>,
}

impl Work for Retention {
    fn round(&mut self) -> Result<Option<Duration>, String> {
        let streams = process::transaction(|| {
            if catalog::extension().is_none() || catalog::own_table(c"partition_id").is_none() {
                return Ok(Vec::new());
            }
            catalog::check_member(c"partition_id")?;
            retention::all()
        })?;
        self.watched.retain(|table, _| streams.iter().any(|stream| stream.table == *table));
        let (mut errors, mut next) = (Vec::new(), Instant::now() + PAUSE);
        for stream in &streams {
            if session_entry::is_suspended(self.database.oid()) {
                break;
            }
            match self.look_after(stream) {
                Ok(due) => next = next.min(due),
                Err(error) => errors.push(format!("stream \"{}\": {error}", stream.name)),
            }
        }
        match errors.is_empty() {
            true => {
                Ok((!streams.is_empty()).then(|| next.saturating_duration_since(Instant::now())))
            }
            false => Err(errors.join("; ")),
        }
    }
}

impl Retention {
    pub fn new(database: &'static Database) -> Retention {
        Retention { database, watched: HashMap::new() }
    }

    /// Does for a stream what is due, and returns when to look again.
    fn look_after(&mut self, stream: &Stream) -> Result<Instant, String> {
        let watched = self.watched.entry(stream.table).or_insert_with(Watched::new);
        let last = process::transaction(|| retention::last(stream))?;
        let Some(last) = last else { return Ok(Instant::now() + PAUSE) };
        let is_moving = watched.note(last);
        if Instant::now() < watched.due && !is_moving {
            return Ok(watched.due);
        }
        let (database, rate) = (self.database, watched.rate);
        let facts = process::transaction(|| retention::facts(database, stream, rate))?;
        let Some(facts) = facts else { return Ok(Instant::now() + PAUSE) };
        let mut in_the_way = held_by_publisher(database, stream, &facts).map(|it| (GIVES_BACK, it));
        let mut note = |step: &Step, obstacle| {
            let rank = rank(step);
            if in_the_way.as_ref().is_none_or(|(other, _)| rank < *other) {
                in_the_way = Some((rank, obstacle));
            }
        };
        let mut again = None;
        for step in steps(&stream.limits, &facts) {
            match carry_out(stream, &step)? {
                // There may be more of these to make; what the others lead to can wait a little.
                Ok(Outcome::Done) if matches!(step, Step::Extend { .. }) => {
                    again = Some(Duration::ZERO);
                }
                Ok(Outcome::Done | Outcome::GoOn) => {
                    again.get_or_insert(SHORTEST);
                }
                Ok(Outcome::InUse(table)) => {
                    let publisher = session_entry::lowest_bound(database, stream.table);
                    let obstacle = match (&step, publisher) {
                        (Step::Close { .. }, Some((_, pid))) => Obstacle::Publisher(pid),
                        _ => Obstacle::Locked(table),
                    };
                    note(&step, obstacle);
                }
                Err(why) => note(&step, Obstacle::Error(why)),
            }
            if let Step::Close { upto } = step {
                watched.last = watched.last.max(upto);
            }
        }
        let in_the_way = in_the_way.map(|(_, obstacle)| obstacle);
        watched.note_obstacle(stream, in_the_way.as_ref())?;
        let pause = match in_the_way {
            Some(_) => BLOCKED,
            None => again.unwrap_or_else(|| pause(stream, &facts)),
        };
        watched.due = Instant::now() + pause;
        Ok(watched.due)
    }
}

/// What is said first, if something is in the way of several steps: that of giving back messages.
const GIVES_BACK: u8 = 0;

fn rank(step: &Step) -> u8 {
    match step {
        Step::Cut { .. } => GIVES_BACK,
        Step::Close { .. } => 1,
        Step::Adopt { .. } => 2,
        Step::Extend { .. } | Step::Drop { .. } => 3,
    }
}

/// What is in the way of a step.
enum Obstacle {
    Publisher(i32),
    Locked(pg_sys::Oid),
    Error(String),
}

/// A publisher whose transaction has been open for so long that messages can't be given back.
fn held_by_publisher(database: &Database, stream: &Stream, facts: &Facts) -> Option<Obstacle> {
    let cuts = |facts: &Facts| {
        steps(&stream.limits, facts).iter().any(|step| matches!(step, Step::Cut { .. }))
    };
    let is_held =
        facts.open.is_some() && !cuts(facts) && cuts(&Facts { open: None, ..facts.clone() });
    let (_, pid) = session_entry::lowest_bound(database, stream.table).filter(|_| is_held)?;
    Some(Obstacle::Publisher(pid))
}

/// Carries out a step. What only waits for a lock in vain, or is refused by PostgreSQL, is no error of the janitor's.
fn carry_out(stream: &Stream, step: &Step) -> Result<Result<Outcome, String>, String> {
    match process::try_transaction(|| retention::carry_out(stream, step)) {
        Ok(outcome) => Ok(Ok(outcome)),
        Err(failure) if failure.is_lock => Ok(Ok(Outcome::InUse(stream.table))),
        Err(failure) if !failure.is_passing => Ok(Err(failure.text)),
        Err(failure) => Err(failure.text),
    }
}

/// When a stream is to be looked at again in whose way nothing is.
fn pause(stream: &Stream, facts: &Facts) -> Duration {
    let period = stream
        .limits
        .age
        .map_or(QUIET, |age| Duration::from_micros(u64::try_from(age / 40).unwrap_or(0)));
    if facts.oldest().is_none() { QUIET } else { period.clamp(SHORTEST, QUIET) }
}

impl Watched {
    fn new() -> Watched {
        let now = Instant::now();
        Watched { last: 0, seen: now, rate: -1.0, due: now, blocked_since: None }
    }

    /// Notes the last seq. Returns whether so many were taken lately that partitions may be used up soon.
    fn note(&mut self, last: Seq) -> bool {
        let (before, elapsed) = (self.last, self.seen.elapsed());
        if self.rate < 0.0 {
            (self.last, self.seen, self.rate) = (last, Instant::now(), 0.0);
            return true;
        }
        if elapsed < SHORTEST / 2 {
            return false;
        }
        #[allow(clippy::cast_precision_loss)]
        let rate = last.saturating_sub(before).max(0) as f64 / elapsed.as_secs_f64();
        // Up at once, down slowly.
        self.rate = if rate > self.rate { rate } else { (rate + 3.0 * self.rate) / 4.0 };
        (self.last, self.seen) = (last.max(before), Instant::now());
        last > before
    }

    /// Notes, once it has lasted, what is in the way; and that nothing is any more.
    fn note_obstacle(
        &mut self,
        stream: &Stream,
        obstacle: Option<&Obstacle>,
    ) -> Result<(), String> {
        let Some(obstacle) = obstacle else {
            self.blocked_since = None;
            return match stream.blocked {
                Some(_) => process::transaction(|| retention::note_blocked(&stream.name, None)),
                None => Ok(()),
            };
        };
        if self.blocked_since.get_or_insert_with(Instant::now).elapsed() < PATIENCE {
            return Ok(());
        }
        process::transaction(|| {
            let why = match obstacle {
                Obstacle::Publisher(pid) => {
                    format!("process {pid} has published, and has not ended its transaction")
                }
                Obstacle::Locked(table) => {
                    let name = match *table == stream.table {
                        true => "the stream's table".into(),
                        false => format!("partition {}", partition_name(*table)),
                    };
                    match retention::holder(*table)? {
                        Some(pid) => format!("process {pid} uses {name}"),
                        None => format!("{name} is in use"),
                    }
                }
                Obstacle::Error(why) => why.clone(),
            };
            match stream.blocked.as_ref() == Some(&why) {
                true => Ok(()),
                false => retention::note_blocked(&stream.name, Some(&why)),
            }
        })
    }
}
