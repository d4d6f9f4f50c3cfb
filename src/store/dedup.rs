//! `sequin.dedup_tables` and the tables that it lists, which have the dedup_ids of published messages. How they take turns
//! is in `sequin_engine::dedup`.

use crate::error::{Error, Result};
use crate::pg::exec::datum::micros;
use crate::pg::exec::dedup_rows::{self, Claim};
use crate::pg::exec::spi::{Access, Arg, Plan, Row, Statement, arg, command, connected, timestamp};
use crate::pg::exec::{catalog, relcache, role};
use crate::pg::now;
use crate::pg::session::current;
use crate::pg::shared::{database::Database, stream_counts};
use crate::store::statement;
use pgrx::datum::Interval;
use pgrx::pg_sys;
use sequin_engine::dedup::{IN_TIME, Table, Turn};
use sequin_engine::key::Seq;
use sequin_engine::settings::Micros;
use std::cell::{OnceCell, RefCell};
use std::collections::HashMap;
use std::ffi::CString;
use std::ops::RangeInclusive;
use std::rc::Rc;

/// Streams with windows up to this one have tables of their own, which are emptied after minutes.
pub const BRIEF: Micros = 600_000_000;

/// The tables of each kind of streams: those with brief windows, and the others.
const TABLES: [RangeInclusive<i16>; 2] = [1..=4, 5..=8];

/// The longest dedup_id, in bytes.
pub const MAX_ID: usize = 255;

// ---- publishers ----

statement!(
    IN_USE,
    "SELECT number, turn FROM sequin.dedup_tables WHERE turn OPERATOR(pg_catalog.<>) 'free'",
    []
);
statement!(
    WINDOW,
    "SELECT dedup_window FROM sequin.streams WHERE name OPERATOR(pg_catalog.=) $1",
    [TEXTOID]
);

/// The statements about one of the tables.
struct Plans {
    claim: Plan,
    take_over: Plan,
    correct: Plan,
}

/// What is known of the tables and of streams' windows, as of a [`relcache::generation`].
#[derive(Default)]
struct Known {
    generation: u64,
    in_use: Option<Vec<(i16, Turn)>>,
    windows: HashMap<pg_sys::Oid, Micros>,
}

thread_local! {
    static PLANS: RefCell<HashMap<i16, Rc<Plans>>> = RefCell::default();
    static KNOWN: RefCell<Known> = RefCell::default();
}

/// What a transaction needs to publish ids of one stream once.
pub struct Ids {
    stream: pg_sys::Oid,
    tables: Vec<(i16, Turn)>,
    now: Micros,
    window: Micros,
    expired: OnceCell<Micros>,
}

impl Ids {
    /// Locks the tables in use: none of them is emptied before this transaction ends. The stream's table must be locked
    /// already, as what changes its window conflicts with that.
    pub fn open(stream: &str, table: pg_sys::Oid) -> Result<Ids> {
        catalog::check_member(c"dedup_tables")?;
        let mut tables = in_use()?;
        loop {
            for &(number, _) in &tables {
                catalog::lock_for_reading(oid(number)?);
            }
            let again = in_use()?;
            if again == tables {
                break;
            }
            tables = again;
        }
        let window = known(|known| known.windows.get(&table).copied());
        let window = match window {
            Some(window) => window,
            None => read_window(stream, table)?,
        };
        Ok(Ids { stream: table, tables, now: now(), window, expired: OnceCell::new() })
    }

    /// The seq that an id has been published with, if it has.
    pub fn look_up(&self, id: &str) -> Result<Option<Seq>> {
        Ok(self.find(&[id])?.into_values().next())
    }

    /// The seqs of those of these ids that have been published: they are counted as duplicates.
    pub fn published(&self, ids: &[&str]) -> Result<HashMap<String, Seq>> {
        let found = self.find(ids)?;
        self.count(ids.iter().filter(|&&id| found.contains_key(id)).count());
        Ok(found)
    }

    fn find(&self, ids: &[&str]) -> Result<HashMap<String, Seq>> {
        let mut found = HashMap::new();
        for &(number, _) in &self.tables {
            let claims = dedup_rows::find(oid(number)?, self.stream, ids)?;
            for (id, claim) in ids.iter().zip(claims) {
                if let Some(claim) = claim.filter(|&claim| !self.has_expired(claim)) {
                    found.insert((*id).to_owned(), claim.seq);
                }
            }
        }
        Ok(found)
    }

    /// Claims ids, each for the message that is about to get this seq. Waits for transactions that have claimed the same.
    /// Returns those that turn out to have been published meanwhile, and their seqs.
    pub fn claim(&self, mut ids: Vec<(String, Seq)>) -> Result<HashMap<String, Seq>> {
        // In one order in all sessions, so that two calls don't wait for each other.
        ids.sort_unstable();
        current::note_claim(self.now)?;
        let mut lost = HashMap::new();
        for number in self.written() {
            let conflicts = self.insert(number, &ids)?;
            for id in conflicts {
                let Some((_, seq)) = ids.iter().find(|(it, _)| *it == id) else { continue };
                if let Some(published) = self.take_over(number, &id, *seq)? {
                    lost.insert(id, published);
                }
            }
            ids.retain(|(id, _)| !lost.contains_key(id));
        }
        // A transaction that doesn't know the closing table any more may have been faster in the current one.
        lost.iter().try_for_each(|(id, &seq)| self.correct(id, seq))?;
        self.count(lost.len());
        Ok(lost)
    }

    /// The message of an id that this transaction has claimed has got another seq.
    pub fn correct(&self, id: &str, seq: Seq) -> Result<()> {
        let args = [arg(self.stream), arg(id), arg(seq)];
        self.written().try_for_each(|number| {
            with_plans(number, |plans| plans.correct.execute(Access::WriteLatest, &args).map(drop))
        })
    }

    /// The tables that ids of this stream are written into: the closing one first, if there is one.
    fn written(&self) -> impl Iterator<Item = i16> {
        let range = &TABLES[usize::from(self.window > BRIEF)];
        [Turn::Closing, Turn::Current].into_iter().filter_map(|turn| {
            let is_it = |&&(number, of): &&(i16, Turn)| of == turn && range.contains(&number);
            self.tables.iter().find(is_it).map(|&(number, _)| number)
        })
    }

    /// Inserts what is new to the table; returns the ids that are not.
    fn insert(&self, number: i16, ids: &[(String, Seq)]) -> Result<Vec<String>> {
        let names: Vec<String> = ids.iter().map(|(id, _)| id.clone()).collect();
        let seqs: Vec<Seq> = ids.iter().map(|&(_, seq)| seq).collect();
        let args = [arg(self.stream), arg(names.clone()), arg(seqs), timestamp(self.now)];
        let inserted: Vec<String> = with_plans(number, |plans| {
            let rows = plans.claim.execute(Access::WriteLatest, &args)?;
            rows.iter().map(|row| row.need(1)).collect()
        })?;
        Ok(names.into_iter().filter(|id| inserted.binary_search(id).is_err()).collect())
    }

    /// Takes an id over from a message whose window is over. If it isn't, returns that message's seq.
    fn take_over(&self, number: i16, id: &str, seq: Seq) -> Result<Option<Seq>> {
        loop {
            let found = dedup_rows::find(oid(number)?, self.stream, &[id])?;
            let Some(claim) = found.into_iter().flatten().next() else {
                return Err(Error::Internal(format!(
                    "a claimed dedup_id is not in table {number}"
                )));
            };
            if !self.has_expired(claim) {
                return Ok(Some(claim.seq));
            }
            let at = timestamp(claim.at);
            let args = [arg(self.stream), arg(id), arg(seq), timestamp(self.now), at];
            let taken = with_plans(number, |plans| {
                Ok(plans.take_over.execute(Access::WriteLatest, &args)?.processed)
            })?;
            if taken > 0 {
                return Ok(None);
            }
        }
    }

    fn has_expired(&self, claim: Claim) -> bool {
        // What all of them have in common is asked for only if it matters.
        claim.at < self.now.saturating_sub(self.window).saturating_sub(IN_TIME)
            && claim.at < *self.expired.get_or_init(|| self.expired_before())
    }

    fn expired_before(&self) -> Micros {
        Database::here().map_or(Micros::MIN, |it| it.expired_before(self.now, self.window))
    }

    fn count(&self, duplicates: usize) {
        stream_counts::add(self.stream, duplicates as u64);
    }
}

/// Does something with what is known, after what has become stale is forgotten.
fn known<R>(f: impl FnOnce(&mut Known) -> R) -> R {
    let generation = relcache::generation();
    KNOWN.with_borrow_mut(|known| {
        if known.generation != generation {
            *known = Known { generation, ..Known::default() };
        }
        f(known)
    })
}

fn in_use() -> Result<Vec<(i16, Turn)>> {
    if let Some(tables) = known(|known| known.in_use.clone()) {
        return Ok(tables);
    }
    let before = relcache::generation();
    let read = |row: Row| Ok((row.need(1)?, turn(&row.need::<String>(2)?)?));
    let mut tables: Vec<(i16, Turn)> = role::as_owner(|| {
        IN_USE.with(|s| s.run(Access::Latest, &[], |rows| rows.iter().map(read).collect()))
    })?;
    tables.sort_unstable_by_key(|&(number, _)| number);
    // Otherwise they may have changed since the statement's snapshot. For this transaction they are good enough: no table
    // is closed before the transactions end that were open when its last turn began.
    if relcache::generation() == before {
        known(|known| known.in_use = Some(tables.clone()));
    }
    Ok(tables)
}

fn read_window(stream: &str, table: pg_sys::Oid) -> Result<Micros> {
    let read = |s: &Statement| {
        s.run(Access::Latest, &[arg(stream)], |rows| {
            rows.first().map(|row| row.need::<Interval>(1)).transpose()
        })
    };
    let mut window = role::as_owner(|| WINDOW.with(read))?;
    if window.is_none() && super::streams::exists(stream)? {
        window = role::as_owner(|| WINDOW.with(read))?;
    }
    let window = micros(window.ok_or_else(|| Error::NoStream(stream.into()))?);
    known(|known| known.windows.insert(table, window));
    Ok(window)
}

fn turn(text: &str) -> Result<Turn> {
    match text {
        "free" => Ok(Turn::Free),
        "current" => Ok(Turn::Current),
        "closing" => Ok(Turn::Closing),
        "closed" => Ok(Turn::Closed),
        other => Err(Error::Internal(format!("unknown turn {other}"))),
    }
}

fn text(turn: Turn) -> &'static str {
    match turn {
        Turn::Free => "free",
        Turn::Current => "current",
        Turn::Closing => "closing",
        Turn::Closed => "closed",
    }
}

/// The OID of one of the tables.
fn oid(number: i16) -> Result<pg_sys::Oid> {
    let name = CString::new(format!("dedup_{number}")).unwrap_or_default();
    catalog::own_table(&name).ok_or_else(|| Error::NotAMember(format!("dedup_{number}")))
}

/// Runs statements about one of the tables, as the extension's owner.
fn with_plans<R>(number: i16, f: impl FnOnce(&Plans) -> Result<R>) -> Result<R> {
    role::as_owner(|| {
        connected(|| {
            let known = PLANS.with_borrow(|plans| plans.get(&number).cloned());
            let plans = match known {
                Some(plans) => plans,
                None => {
                    let plans = Rc::new(Plans::new(number)?);
                    PLANS.with_borrow_mut(|all| all.insert(number, Rc::clone(&plans)));
                    plans
                }
            };
            f(&plans)
        })
    })
}

impl Plans {
    fn new(number: i16) -> Result<Plans> {
        use pg_sys::{INT8ARRAYOID, INT8OID, OIDOID, TEXTARRAYOID, TEXTOID, TIMESTAMPTZOID};
        let of_id = "WHERE stream OPERATOR(pg_catalog.=) $1 AND id OPERATOR(pg_catalog.=) $2";
        let claim = format!(
            "INSERT INTO sequin.dedup_{number} (stream, id, seq, at) \
             SELECT $1, i, s, $4 FROM unnest($2, $3) u(i, s) \
             ON CONFLICT (stream, id) DO NOTHING RETURNING id"
        );
        let take_over = format!(
            "UPDATE sequin.dedup_{number} SET seq = $3, at = $4 {of_id} AND at OPERATOR(pg_catalog.=) $5"
        );
        let correct = format!("UPDATE sequin.dedup_{number} SET seq = $3 {of_id}");
        Ok(Plans {
            claim: Plan::new(&claim, &[OIDOID, TEXTARRAYOID, INT8ARRAYOID, TIMESTAMPTZOID])?,
            take_over: Plan::new(
                &take_over,
                &[OIDOID, TEXTOID, INT8OID, TIMESTAMPTZOID, TIMESTAMPTZOID],
            )?,
            correct: Plan::new(&correct, &[OIDOID, TEXTOID, INT8OID])?,
        })
    }
}

/// The ids of a stream are those of another table now: nobody publishes to either meanwhile.
pub fn move_ids(stream: pg_sys::Oid, to: pg_sys::Oid) -> Result<()> {
    let (from, to) = (stream.to_u32(), to.to_u32());
    role::as_owner(|| {
        TABLES.into_iter().flatten().try_for_each(|number| {
            command(&format!(
                "UPDATE sequin.dedup_{number} SET stream = {to} WHERE stream OPERATOR(pg_catalog.=) {from}::pg_catalog.oid"
            ))
        })
    })
}

// ---- the janitor ----

statement!(TABLE, "SELECT number, turn, since FROM sequin.dedup_tables", []);
statement!(
    SET,
    "UPDATE sequin.dedup_tables SET turn = $2, since = $3 WHERE number = $1",
    [INT2OID, TEXTOID, TIMESTAMPTZOID]
);
statement!(
    WINDOWS,
    "SELECT max(dedup_window) FILTER (WHERE dedup_window <= '10 min'), \
        max(dedup_window) FILTER (WHERE dedup_window > '10 min') FROM sequin.streams",
    []
);

/// The tables of one kind of streams, and the longest window of these streams.
pub struct Group {
    pub tables: Vec<Table>,
    pub window: Micros,
    /// The current table has ids, or had some when it was last emptied.
    pub has_ids: bool,
}

/// All tables as they are committed by now: two groups.
pub fn groups() -> Result<Vec<Group>> {
    let read = |row: Row| {
        let turn = turn(&row.need::<String>(2)?)?;
        Ok(Table { number: row.need(1)?, turn, since: row.micros(3).unwrap_or(0) })
    };
    let all: Vec<Table> =
        TABLE.with(|s| s.run(Access::Latest, &[], |rows| rows.iter().map(read).collect()))?;
    let windows = WINDOWS.with(|s| {
        s.run(Access::Latest, &[], |rows| {
            let row = rows.one()?;
            Ok([row.get::<Interval>(1)?, row.get(2)?])
        })
    })?;
    let group = |(range, window): (&RangeInclusive<i16>, Option<Interval>)| {
        let tables: Vec<Table> =
            all.iter().copied().filter(|table| range.contains(&table.number)).collect();
        let current = tables.iter().find(|table| table.turn == Turn::Current);
        let has_ids = match current {
            Some(table) => catalog::main_bytes(oid(table.number)?) > 0,
            None => false,
        };
        Ok(Group { tables, window: window.map_or(BRIEF, micros), has_ids })
    };
    TABLES.iter().zip(windows).map(group).collect()
}

/// Whether there are ids that have to be forgotten some time.
pub fn has_ids() -> Result<bool> {
    if catalog::own_table(c"dedup_tables").is_none() {
        return Ok(false);
    }
    let mut numbers = TABLES.into_iter().flatten();
    numbers.try_fold(false, |has, number| Ok(has || catalog::main_bytes(oid(number)?) > 0))
}

/// Changes the turn of a table when the transaction commits.
pub fn set_turn(number: i16, turn: Turn, now: Micros) -> Result<()> {
    let args: [Arg; 3] = [arg(number), arg(text(turn)), timestamp(now)];
    SET.with(|s| s.execute(&args))?;
    let list = catalog::own_table(c"dedup_tables").ok_or(Error::Outdated)?;
    relcache::invalidate(list);
    Ok(())
}

/// Empties a table and makes it free, unless somebody uses it.
pub fn empty(number: i16, now: Micros) -> Result<()> {
    if !catalog::try_lock_exclusively(oid(number)?) {
        return Ok(());
    }
    let truncate = format!("TRUNCATE sequin.dedup_{number}");
    connected(|| Plan::new(&truncate, &[])?.execute(Access::Write, &[]).map(drop))?;
    set_turn(number, Turn::Free, now)
}
