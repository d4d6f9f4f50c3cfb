//! Retention: the settings of streams, and what the janitor does about their partitions. What it is to do is
//! `sequin_engine::retention`.

use super::partitions::{self, Seqs, owner_of, partition_name, stream_name};
use super::{messages, statement, streams};
use crate::error::{Error, Result};
use crate::pg::exec::datum::micros;
use crate::pg::exec::partitions::Partitions;
use crate::pg::exec::spi::{Access, Plan, Row, Statement, arg, command, connected};
use crate::pg::exec::{catalog, role, scan, sequence};
use crate::pg::now;
use crate::pg::shared::database::Database;
use crate::pg::shared::session_entry;
use pgrx::datum::Interval;
use pgrx::pg_sys;
use sequin_engine::filter::Filter;
use sequin_engine::key::Seq;
use sequin_engine::retention::{Facts, Limits, Partition, Step};
use sequin_engine::settings::Micros;

statement!(
    SET,
    "UPDATE sequin.streams SET \
        retain_for = CASE WHEN $2 IS NULL THEN NULL \
            ELSE $2 OPERATOR(pg_catalog.*) '1 microsecond'::pg_catalog.interval END, \
        retain_messages = $3, retain_bytes = $4, retain_until_acked = $5 \
     WHERE name OPERATOR(pg_catalog.=) $1",
    [TEXTOID, INT8OID, INT8OID, INT8OID, BOOLOID]
);
statement!(
    LIMITS,
    "SELECT retain_for, retain_messages, retain_bytes, retain_until_acked FROM sequin.streams \
     WHERE name OPERATOR(pg_catalog.=) $1 FOR NO KEY UPDATE",
    [TEXTOID]
);

/// The limits of a stream, which nobody else can change before this transaction ends.
pub fn limits_to_change(stream: &str) -> Result<Limits> {
    let read = |s: &Statement| {
        s.run(Access::Write, &[arg(stream)], |rows| {
            rows.first().map_or(Ok(Limits::default()), |row| limits_in(row, 1))
        })
    };
    role::as_owner(|| LIMITS.with(read))
}

/// Sets the limits of a stream.
pub fn set_limits(stream: &str, limits: &Limits) -> Result<()> {
    let count =
        |count: Option<u64>| count.and_then(|it| arg(i64::try_from(it).unwrap_or(i64::MAX)));
    let args = [
        arg(stream),
        limits.age.and_then(arg),
        count(limits.messages),
        count(limits.bytes),
        arg(limits.until_acked),
    ];
    role::as_owner(|| SET.with(|s| s.execute(&args))).map(drop)
}

/// The limits in a row, from this column on.
fn limits_in(row: Row, column: i32) -> Result<Limits> {
    let count = |column| -> Result<Option<u64>> {
        Ok(row.get::<i64>(column)?.and_then(|it| u64::try_from(it).ok()))
    };
    Ok(Limits {
        age: row.get::<Interval>(column)?.map(micros),
        messages: count(column + 1)?,
        bytes: count(column + 2)?,
        until_acked: row.need(column + 3)?,
    })
}

// ---- the janitor ----

macro_rules! partitioned {
    ($columns:literal) => {
        concat!(
            "SELECT ",
            $columns,
            " FROM sequin.streams s JOIN pg_class c ON c.relname = s.name AND c.relkind = 'p' \
             AND c.relnamespace = (SELECT oid FROM pg_namespace WHERE nspname = 'sequin_stream')"
        )
    };
}
statement!(HAS_ANY, concat!(partitioned!("true"), " LIMIT 1"), []);
statement!(
    ALL,
    partitioned!(
        "c.oid, s.name, s.retain_for, s.retain_messages, s.retain_bytes, s.retain_until_acked, \
         s.retention_blocked"
    ),
    []
);
// Up to where a consumer has finished, as a crash would leave it.
statement!(
    ACKED,
    "SELECT coalesce((SELECT k.floor FROM sequin.checkpoints k \
        WHERE k.consumer_id = c.id AND k.generation = c.generation ORDER BY k.id DESC LIMIT 1), c.start_after), c.filters \
     FROM sequin.consumers c WHERE c.stream = $1",
    [TEXTOID]
);
statement!(
    CONSTRAINT,
    "SELECT conname::text, convalidated FROM pg_constraint WHERE conrelid = $1 AND conname ~ '^sequin_rest_\\d+_\\d+$'",
    [OIDOID]
);
statement!(
    HOLDER,
    "SELECT l.pid FROM pg_locks l WHERE l.relation = $1 AND l.granted AND l.pid <> pg_backend_pid() \
        AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database()) \
     ORDER BY l.pid LIMIT 1",
    [OIDOID]
);
statement!(
    NOTE_BLOCKED,
    "UPDATE sequin.streams SET retention_blocked = $2 WHERE name = $1",
    [TEXTOID, TEXTOID]
);

/// So many messages that don't match a consumer are looked at. The dispatcher writes down where it is after some more.
const MOST_SEEN: usize = 200_000;

/// A stream that has partitions.
pub struct Stream {
    pub table: pg_sys::Oid,
    pub name: String,
    pub limits: Limits,
    /// What is in the way of its retention, as noted.
    pub blocked: Option<String>,
}

/// Whether any stream has partitions.
pub fn has_any() -> Result<bool> {
    if catalog::own_table(c"partition_id").is_none() {
        return Ok(false);
    }
    HAS_ANY.with(|s| s.run(Access::Latest, &[], |rows| Ok(rows.len() > 0)))
}

/// The streams that have partitions.
pub fn all() -> Result<Vec<Stream>> {
    let read = |row: Row| {
        Ok(Stream {
            table: row.need(1)?,
            name: row.need(2)?,
            limits: limits_in(row, 3)?,
            blocked: row.get(7)?,
        })
    };
    ALL.with(|s| s.run(Access::Latest, &[], |rows| rows.iter().map(read).collect()))
}

/// The last seq of a stream; `None` if its sequence can't be read now.
pub fn last(stream: &Stream) -> Result<Option<Seq>> {
    let sequence = sequence::of_stream(stream.table)?;
    Ok(catalog::try_lock_for_writing(sequence).then(|| sequence::last_value(sequence)))
}

/// What there is of a stream; `None` if it is locked.
pub fn facts(database: &Database, stream: &Stream, rate: f64) -> Result<Option<Facts>> {
    if !catalog::try_lock_for_reading(stream.table) {
        return Ok(None);
    }
    // In this order: a publisher that is not among the bounds takes no seq up to the last one.
    let Some(last) = last(stream)? else { return Ok(None) };
    let open = session_entry::lowest_bound(database, stream.table).map(|(bound, _)| bound);
    let Some(found) = crate::pg::exec::partitions::of_now(stream.table) else { return Ok(None) };
    keep_owner(stream, &found)?;
    let partitions = found.all.iter().map(|it| Partition {
        table: it.table.to_u32(),
        from: it.from,
        upto: it.upto,
        bytes: bytes(it.table, &stream.limits),
    });
    let mut facts = Facts { now: now(), last, open, rate, ..Facts::default() };
    facts.partitions = partitions.collect();
    let end = facts.partitions.last().map_or(0, |it| it.upto);
    facts.rest_is_used = match found.rest {
        Some(rest) if catalog::main_bytes(rest) > 0 && end < Seq::MAX => {
            messages::first_from(stream.table, end + 1)?.is_some()
        }
        _ => false,
    };
    if let (true, Some(oldest)) = (stream.limits.until_acked, facts.oldest()) {
        facts.acked = acked(stream, oldest.upto)?;
    }
    if let Some(current) = facts.current().copied() {
        let first = messages::first_from(stream.table, current.from)?;
        facts.current_began = first.filter(|(seq, _)| *seq <= current.upto).map(|(_, at)| at);
    }
    if let Some(oldest) = facts.oldest().copied() {
        if stream.limits.age.is_some() {
            facts.oldest_ended = ended(oldest.table.into())?;
        }
        let most = stream.limits.messages.map(|it| Seq::try_from(it).unwrap_or(Seq::MAX));
        if most.is_some_and(|most| last.saturating_sub(oldest.upto) >= most) {
            let behind = facts.partitions.iter().filter(|it| it.from > oldest.from && it.bytes > 0);
            for it in behind {
                facts.messages_behind += count(it.table.into())?;
            }
        }
    }
    Ok(Some(facts))
}

/// Up to where all consumers have finished, but no further than `upto`; `None` if there are none. A consumer's journal may
/// be behind what it has passed over: messages that don't match it, and seqs that no message has.
fn acked(stream: &Stream, upto: Seq) -> Result<Option<Seq>> {
    let read = |row: Row| Ok((row.need::<Seq>(1)?, row.need::<Vec<String>>(2)?));
    let name = arg(stream.name.as_str());
    let run = |s: &Statement| {
        s.run(Access::Latest, &[name], |rows| rows.iter().map(read).collect::<Result<Vec<_>>>())
    };
    let mut least = None;
    for (floor, filters) in ACKED.with(run)? {
        let filters: Vec<Filter> = filters.iter().flat_map(|it| Filter::parse(it)).collect();
        let (mut seen, mut is_left) = (0, false);
        scan::messages(stream.table, &[(floor.saturating_add(1), upto)], |message| {
            seen += 1;
            let key = message.key();
            is_left = seen > MOST_SEEN || filters.iter().any(|filter| filter.matches(&key));
            !is_left
        })?;
        let acked = if is_left { floor.min(upto) } else { upto };
        least = Some(least.map_or(acked, |it: Seq| it.min(acked)));
    }
    Ok(least)
}

/// The size of a partition: 0 if it has never had anything, or was truncated.
fn bytes(table: pg_sys::Oid, limits: &Limits) -> u64 {
    let bytes = match catalog::main_bytes(table) {
        0 => 0,
        _ if limits.bytes.is_some() => catalog::table_bytes(table),
        main => main,
    };
    u64::try_from(bytes).unwrap_or(0)
}

/// When the last message of a partition was inserted.
fn ended(table: pg_sys::Oid) -> Result<Option<Micros>> {
    let sql =
        format!("SELECT inserted_at FROM {} ORDER BY seq DESC LIMIT 1", partition_name(table));
    connected(|| {
        let plan = Plan::new(&sql, &[])?;
        let rows = plan.execute(Access::Latest, &[])?;
        Ok(rows.first().and_then(|row| row.micros(1)))
    })
}

/// How many messages a partition has.
fn count(table: pg_sys::Oid) -> Result<u64> {
    let sql = format!("SELECT count(*) FROM {}", partition_name(table));
    connected(|| {
        let plan = Plan::new(&sql, &[])?;
        let count = plan.execute(Access::Latest, &[])?.one()?.need::<i64>(1)?;
        Ok(u64::try_from(count).unwrap_or(0))
    })
}

/// Gives partitions to the owner of the stream's table, if that has changed.
fn keep_owner(stream: &Stream, partitions: &Partitions) -> Result<()> {
    let owner = owner_of(&stream.name, stream.table)?;
    for table in partitions.tables().filter(|&table| catalog::table_owner(table) != Some(owner)) {
        partitions::give_to(&partition_name(table), owner)?;
    }
    Ok(())
}

/// What became of a step.
pub enum Outcome {
    Done,
    /// It is done in several transactions: this was not the last one.
    GoOn,
    /// Somebody uses this table.
    InUse(pg_sys::Oid),
}

/// Carries out a step in the current transaction.
pub fn carry_out(stream: &Stream, step: &Step) -> Result<Outcome> {
    let found = crate::pg::exec::partitions::of_now(stream.table);
    let found = found.ok_or_else(|| Error::NoStream(stream.name.clone()))?;
    match step {
        Step::Extend { from, upto } => extend(stream, &found, *from, *upto),
        Step::Close { upto } => close(stream, *upto),
        Step::Cut { table } => cut(stream, (*table).into()),
        Step::Drop { tables } => drop_empty(stream, tables),
        Step::Adopt { from, upto } => adopt(stream, &found, *from, *upto),
    }
}

/// Nobody publishes while the partition is attached: an INSERT or COPY that has begun before would go on to put its seqs
/// into the rest, and fail. Who reads the rest is in the way too, as PostgreSQL looks there for rows of the new partition.
fn extend(stream: &Stream, found: &Partitions, from: Seq, upto: Seq) -> Result<Outcome> {
    // The table is not made in vain again and again while somebody publishes, or reads, for long.
    keep_publishers_out(stream)?;
    catalog::unlock_from_publishers(stream.table);
    if let Some(rest) = found.rest.filter(|&rest| !catalog::is_unused(rest)) {
        return Ok(Outcome::InUse(rest));
    }
    let made = partitions::make(&stream.name)?;
    keep_publishers_out(stream)?;
    if let Some(rest) = found.rest
        && !catalog::try_lock_exclusively(rest)
    {
        return Err(Error::PartitionLocked(partition_name(rest)));
    }
    made.attach(Seqs::Range(from, upto))?;
    Ok(Outcome::Done)
}

/// Waits for those who publish for no longer than lock_timeout: others wait behind it.
fn keep_publishers_out(stream: &Stream) -> Result<()> {
    command(&format!("LOCK TABLE ONLY {} IN SHARE MODE", stream_name(&stream.name)))
}

fn close(stream: &Stream, upto: Seq) -> Result<Outcome> {
    keep_publishers_out(stream)?;
    let sequence = sequence::of_stream(stream.table)?;
    if sequence::last_value(sequence) < upto {
        streams::set_last(sequence, upto)?;
    }
    Ok(Outcome::Done)
}

fn cut(stream: &Stream, table: pg_sys::Oid) -> Result<Outcome> {
    if !catalog::try_lock_exclusively(table) {
        return Ok(Outcome::InUse(table));
    }
    // Nobody can have added a message since it was looked at but who has chosen its seq: then it is looked at again.
    if let Some(age) = stream.limits.age
        && !stream.limits.until_acked
        && stream.limits.messages.is_none()
        && stream.limits.bytes.is_none()
        && ended(table)?.is_some_and(|at| at >= now().saturating_sub(age))
    {
        return Ok(Outcome::Done);
    }
    let truncate = format!("TRUNCATE ONLY {}", partition_name(table));
    role::as_role(owner_of(&stream.name, stream.table)?, || command(&truncate))?;
    Ok(Outcome::Done)
}

/// Keeps everybody out, and waits no longer.
fn lock_whole(stream: &Stream) -> Result<()> {
    command(&format!("LOCK TABLE ONLY {} IN ACCESS EXCLUSIVE MODE", stream_name(&stream.name)))
}

fn drop_empty(stream: &Stream, tables: &[u32]) -> Result<Outcome> {
    lock_whole(stream)?;
    let mut names = Vec::new();
    for &table in tables {
        let table = pg_sys::Oid::from(table);
        if !catalog::try_lock_exclusively(table) {
            return Ok(Outcome::InUse(table));
        }
        if catalog::main_bytes(table) > 0 {
            break;
        }
        names.push(partition_name(table));
    }
    if !names.is_empty() {
        let drop = format!("DROP TABLE {}", names.join(", "));
        role::as_role(owner_of(&stream.name, stream.table)?, || command(&drop))?;
    }
    Ok(Outcome::Done)
}

/// Makes the rest a partition for these seqs: first a constraint says that it has no others, then that is checked while
/// publishers go on, and then nobody has to read its rows to make it one.
fn adopt(stream: &Stream, found: &Partitions, from: Seq, upto: Seq) -> Result<Outcome> {
    let Some(rest) = found.rest else {
        partitions::create(&stream.name, Seqs::Rest)?;
        return Ok(Outcome::Done);
    };
    let owner = owner_of(&stream.name, stream.table)?;
    let name = partition_name(rest);
    let read = |s: &Statement| {
        s.run(Access::Latest, &[arg(rest)], |rows| {
            let constraint = |row: Row| Ok((row.need::<String>(1)?, row.need::<bool>(2)?));
            rows.first().map(constraint).transpose()
        })
    };
    let constraint = CONSTRAINT.with(read)?;
    let bounds = constraint.as_ref().and_then(|(name, _)| bounds_in(name));
    let is_validated = constraint.as_ref().is_some_and(|(_, is_validated)| *is_validated);
    match (constraint, bounds) {
        (Some((constraint, _)), Some((lo, hi))) if lo == from && is_validated => {
            lock_whole(stream)?;
            if !catalog::try_lock_exclusively(rest) {
                return Ok(Outcome::InUse(rest));
            }
            let root = stream_name(&stream.name);
            role::as_role(owner, || {
                command(&format!("ALTER TABLE {root} DETACH PARTITION {name}"))?;
                partitions::attach(&root, &name, Seqs::Range(lo, hi))?;
                command(&format!("ALTER TABLE {name} DROP CONSTRAINT {constraint}"))
            })?;
            partitions::create(&stream.name, Seqs::Rest)?;
            Ok(Outcome::Done)
        }
        (Some((constraint, false)), Some((lo, _))) if lo == from => {
            role::as_role(owner, || {
                command(&format!("ALTER TABLE {name} VALIDATE CONSTRAINT {constraint}"))
            })?;
            Ok(Outcome::GoOn)
        }
        (constraint, _) => {
            if !catalog::try_lock_exclusively(rest) {
                return Ok(Outcome::InUse(rest));
            }
            role::as_role(owner, || {
                if let Some((constraint, _)) = constraint {
                    command(&format!("ALTER TABLE {name} DROP CONSTRAINT {constraint}"))?;
                }
                // What was published with a seq of its own choice, where all others are gone.
                if let Some(first) = found.all.first() {
                    command(&format!("DELETE FROM ONLY {name} WHERE seq < {}", first.from))?;
                }
                command(&format!(
                    "ALTER TABLE {name} ADD CONSTRAINT sequin_rest_{from}_{upto} \
                     CHECK (seq >= {from} AND seq <= {upto}) NOT VALID"
                ))
            })?;
            Ok(Outcome::GoOn)
        }
    }
}

/// The seqs that the name of a constraint says.
fn bounds_in(name: &str) -> Option<(Seq, Seq)> {
    let (from, upto) = name.strip_prefix("sequin_rest_")?.split_once('_')?;
    Some((from.parse().ok()?, upto.parse().ok()?))
}

/// The process that uses a table, if it can be found.
pub fn holder(table: pg_sys::Oid) -> Result<Option<i32>> {
    HOLDER.with(|s| {
        s.run(Access::Latest, &[arg(table)], |rows| {
            rows.first().map_or(Ok(None), |row| row.get::<i32>(1))
        })
    })
}

/// Notes what is in the way of a stream's retention, for `sequin.stream_stats`.
pub fn note_blocked(stream: &str, why: Option<&str>) -> Result<()> {
    NOTE_BLOCKED.with(|s| s.execute(&[arg(stream), why.and_then(arg)])).map(drop)
}
