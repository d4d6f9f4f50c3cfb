//! Streams with one message per key: what the trigger `on_upsert` does about the message that a new one replaces.
//!
//! A row of sequin.key_locks stands for a key of a stream, and each transaction that publishes the key holds the row's
//! lock until it ends. So what it finds afterwards, by the newest snapshot, is the only message of that key, and nobody
//! else can add one. The rows are of hashes of keys: two keys with the same hash wait for each other.

use crate::error::{Error, Result};
use crate::pg::exec::spi::{Access, Plan, Row, arg, connected};
use crate::pg::exec::{catalog, role, sequence};
use crate::pg::session::upsert::{Incoming, Verdict};
use crate::store::statement;
use pgrx::pg_sys;
use sequin_engine::key::{KeyId, Seq};
use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

// In the order of the keys, so that two calls that publish the same keys do not wait for each other.
statement!(
    LOCK,
    "INSERT INTO sequin.key_locks AS l (stream, key) \
     SELECT DISTINCT $1, k FROM pg_catalog.unnest($2) k ORDER BY k \
     ON CONFLICT (stream, key) DO UPDATE SET key = l.key WHERE false",
    [OIDOID, INT8ARRAYOID]
);
statement!(FORGET, "DELETE FROM sequin.key_locks WHERE stream OPERATOR(pg_catalog.=) $1", [OIDOID]);

/// The one message of a key.
pub struct Current {
    pub seq: Seq,
    pub is_same: bool,
}

/// The plans of one stream.
struct Plans {
    find: Plan,
    delete: Plan,
}

/// The most streams whose plans a session keeps.
const MAX_PLANNED: usize = 128;

/// What the trigger has decided on a message of a publishing function.
pub struct Decision {
    table: pg_sys::Oid,
    /// The seq that the function has given it.
    pub given: Seq,
    /// The seq that the message of its key has now.
    pub seq: Seq,
    /// The seq of the message that it has replaced.
    pub replaced: Option<Seq>,
}

thread_local! {
    /// By the stream's name, which the plans' SQL contains.
    static PLANS: RefCell<HashMap<String, Rc<Plans>>> = RefCell::default();
    /// The decisions of the function that publishes at this moment.
    static DECISIONS: RefCell<Option<Vec<Decision>>> = const { RefCell::new(None) };
}

/// Runs `f`, which inserts into a table, and returns what the trigger has decided on its rows. Triggers of the owner's may
/// publish meanwhile: to this stream, to others, and by the same function.
pub fn decisions(table: pg_sys::Oid, f: impl FnOnce() -> Result<()>) -> Result<Vec<Decision>> {
    /// Those of the function that called this one, by way of such a trigger.
    struct Outer(Option<Vec<Decision>>);
    impl Drop for Outer {
        fn drop(&mut self) {
            DECISIONS.set(self.0.take());
        }
    }
    let _outer = Outer(DECISIONS.replace(Some(Vec::new())));
    f()?;
    let mut all = DECISIONS.take().unwrap_or_default();
    all.retain(|decision| decision.table == table);
    Ok(all)
}

/// Waits until no other transaction that publishes these keys is open, and keeps others out until this one ends.
pub fn lock(table: pg_sys::Oid, keys: &[KeyId]) -> Result<()> {
    catalog::check_member(c"key_locks")?;
    let keys: Vec<i64> = keys.iter().map(|key| key.cast_signed()).collect();
    role::as_owner(|| LOCK.with(|s| s.execute(&[arg(table), arg(keys)]))).map(drop)
}

/// Removes the locks of a stream that is dropped.
pub fn forget(table: pg_sys::Oid) -> Result<()> {
    catalog::check_member(c"key_locks")?;
    role::as_owner(|| FORGET.with(|s| s.execute(&[arg(table)]))).map(drop)
}

/// Makes room for a message: deletes the one of its key, unless that says the same. Its seq stays as it is unless a newer
/// message was there, as when this one took its seq first and then waited for the other's transaction.
pub fn supersede(table: pg_sys::Oid, new: &Incoming) -> Result<Verdict> {
    lock(table, &[new.key.id()])?;
    let Some(current) = find(table, new)? else {
        decide(table, new.seq, new.seq, None);
        return Ok(Verdict::InsertAs(new.seq));
    };
    if current.is_same {
        decide(table, new.seq, current.seq, None);
        return Ok(Verdict::Skip);
    }
    as_owner_of(table, |plans| {
        plans.delete.execute(Access::WriteLatest, &[arg(current.seq)]).map(drop)
    })?;
    let seq = if current.seq < new.seq {
        new.seq
    } else {
        sequence::take(sequence::of_stream(table)?, 1)[0]
    };
    decide(table, new.seq, seq, Some(current.seq));
    Ok(Verdict::InsertAs(seq))
}

/// The message of a key, by the newest snapshot.
pub fn find(table: pg_sys::Oid, new: &Incoming) -> Result<Option<Current>> {
    let read = |row: Row| Ok(Current { seq: row.need(1)?, is_same: row.need(2)? });
    as_owner_of(table, |plans| {
        let args = [arg(new.key), arg(new.data), new.headers.and_then(arg)];
        plans.find.execute(Access::Latest, &args)?.first().map(read).transpose()
    })
}

fn decide(table: pg_sys::Oid, given: Seq, seq: Seq, replaced: Option<Seq>) {
    DECISIONS.with_borrow_mut(|decisions| {
        if let Some(decisions) = decisions {
            decisions.push(Decision { table, given, seq, replaced });
        }
    });
}

/// As the table's owner, since a publisher needs no right to read or delete. So do the triggers of the table's foreign
/// keys.
fn as_owner_of<R>(table: pg_sys::Oid, f: impl FnOnce(&Plans) -> Result<R>) -> Result<R> {
    let stream = catalog::relation_name(table);
    let owner = catalog::table_owner(table).ok_or_else(|| Error::NoStream(stream.clone()))?;
    role::as_role(owner, || {
        connected(|| {
            let known = PLANS.with_borrow(|map| map.get(&stream).cloned());
            let plans = match known {
                Some(plans) => plans,
                None => keep(&stream, Plans::new(&stream)?),
            };
            f(&plans)
        })
    })
}

fn keep(stream: &str, plans: Plans) -> Rc<Plans> {
    let plans = Rc::new(plans);
    PLANS.with_borrow_mut(|map| {
        if map.len() >= MAX_PLANNED {
            map.clear();
        }
        map.insert(stream.into(), Rc::clone(&plans));
    });
    plans
}

impl Plans {
    fn new(stream: &str) -> Result<Plans> {
        use pg_sys::{INT8OID, JSONBOID, TEXTOID};
        let table = format!("sequin_stream.\"{}\"", stream.replace('"', "\"\""));
        let find = format!(
            "SELECT seq, COALESCE(data OPERATOR(pg_catalog.=) $2, false) \
                AND (headers IS NULL AND $3 IS NULL OR COALESCE(headers OPERATOR(pg_catalog.=) $3, false)) \
             FROM {table} WHERE key OPERATOR(pg_catalog.=) $1"
        );
        let delete = format!("DELETE FROM {table} WHERE seq OPERATOR(pg_catalog.=) $1");
        Ok(Plans {
            find: Plan::new(&find, &[TEXTOID, JSONBOID, JSONBOID])?,
            delete: Plan::new(&delete, &[INT8OID])?,
        })
    }
}
