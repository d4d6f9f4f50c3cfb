//! Inserting messages as the caller: without the executor where the table allows it, and by SQL otherwise.

use super::once::Taken;
use super::superseding::{self, Decision};
use crate::error::{Error, Result};
use crate::pg::exec::datum::{Jsonb, JsonbArray, Text, TextArray};
use crate::pg::exec::spi::{Access, Arg, Plan, arg, connected};
use crate::pg::exec::stream_rows::{self, New};
use crate::pg::exec::{catalog, role, scan, sequence, stream_table};
use crate::pg::session::publish;
use crate::pg::session::upsert::Incoming;
use pgrx::pg_sys;
use sequin_engine::key::{self, KeyId, Seq};
use std::cell::RefCell;
use std::collections::{BTreeSet, HashMap};
use std::rc::Rc;

/// The forms in which messages are given to an INSERT.
#[derive(Clone, Copy)]
enum Form {
    One,
    Many,
    /// Without headers, and with data as JSON text.
    Texts,
}

/// The plans of one stream, by [`Form`]. Planned when they are first used.
type Inserts = [Option<Rc<Plan>>; 3];

thread_local! {
    /// By the stream's name, which the plan's SQL contains: PostgreSQL plans anew when another table has that name.
    static INSERTS: RefCell<HashMap<String, Inserts>> = RefCell::default();
}

/// The headers of a message that says that its key is gone.
const TOMBSTONE: &str = r#"{"sequin-deleted": true}"#;

/// The most streams whose plans a session keeps, at some 10 kB each. A session that publishes to more streams plans
/// again.
const MAX_PLANNED: usize = 128;

impl Form {
    fn plan(self, stream: &str) -> Result<Plan> {
        use pg_sys::{INT8ARRAYOID, INT8OID, JSONBARRAYOID, JSONBOID, TEXTARRAYOID, TEXTOID};
        let (columns, values, types): (_, _, &[pg_sys::Oid]) = match self {
            Form::One => (
                "seq, key, data, headers",
                "VALUES ($1, $2, $3, $4)",
                &[INT8OID, TEXTOID, JSONBOID, JSONBOID],
            ),
            Form::Many => (
                "seq, key, data, headers",
                "SELECT * FROM unnest($1, $2, $3, $4) u(s) WHERE s IS NOT NULL",
                &[INT8ARRAYOID, TEXTARRAYOID, JSONBARRAYOID, JSONBARRAYOID],
            ),
            Form::Texts => (
                "seq, key, data",
                "SELECT s, k, d::jsonb FROM unnest($1, $2, $3) u(s, k, d)",
                &[INT8ARRAYOID, TEXTARRAYOID, TEXTARRAYOID],
            ),
        };
        let sql = format!(
            "INSERT INTO sequin_stream.\"{stream}\" ({columns}) OVERRIDING SYSTEM VALUE {values}"
        );
        Plan::new(&sql, types)
    }
}

/// Inserts by SQL, and returns the seqs that the messages have then: with one message per key, some may be others.
/// Triggers and rules of the owner's may leave out rows or change their seqs: that is an error, since the publisher would
/// be told seqs that nobody ever receives.
fn insert_by(
    form: Form,
    stream: &str,
    table: pg_sys::Oid,
    seqs: Vec<Seq>,
    args: &[Arg],
) -> Result<Vec<Seq>> {
    let decisions = superseding::decisions(table, || {
        connected(|| {
            let known = INSERTS.with_borrow(|map| map.get(stream)?[form as usize].clone());
            let plan = match known {
                Some(plan) => plan,
                None => keep(form, stream, form.plan(stream)?),
            };
            plan.execute(Access::Write, args).map(drop)
        })
    })?;
    let (seqs, expected) = as_decided(seqs, &decisions);
    let there = super::keys(table, &expected)?.len();
    if there == expected.len() {
        return Ok(seqs);
    }
    // PostgreSQL doesn't plan anew when a rule is dropped because of which the plan did nothing.
    INSERTS.with_borrow_mut(|map| map.remove(stream));
    let (left_out, count) = (expected.len() - there, expected.len());
    Err(Error::LeftOut { stream: stream.into(), left_out, count })
}

/// The seqs of messages after the trigger has decided on them, and, ascending, those that have to be there: without
/// those that others of the same call have replaced.
fn as_decided(mut seqs: Vec<Seq>, decisions: &[Decision]) -> (Vec<Seq>, Vec<Seq>) {
    if decisions.is_empty() {
        let expected = seqs.clone();
        return (seqs, expected);
    }
    let now: HashMap<Seq, Seq> = decisions.iter().map(|it| (it.given, it.seq)).collect();
    for seq in &mut seqs {
        *seq = now.get(seq).copied().unwrap_or(*seq);
    }
    let mut expected: BTreeSet<Seq> = seqs.iter().copied().collect();
    for replaced in decisions.iter().filter_map(|it| it.replaced) {
        expected.remove(&replaced);
    }
    (seqs, expected.into_iter().collect())
}

fn keep(form: Form, stream: &str, plan: Plan) -> Rc<Plan> {
    let plan = Rc::new(plan);
    INSERTS.with_borrow_mut(|map| {
        if map.len() >= MAX_PLANNED && !map.contains_key(stream) {
            map.clear();
        }
        map.entry(stream.into()).or_default()[form as usize] = Some(Rc::clone(&plan));
    });
    plan
}

/// Checks that the current role may publish to a stream.
pub fn may_publish(stream: &str, table: pg_sys::Oid) -> Result<()> {
    if !role::may_use_schema_of(role::current(), table) {
        return Err(Error::NoSchemaUsage);
    }
    if !role::may_insert_columns(table, &scan::PUBLISHED) {
        return Err(Error::NoInsert(stream.into()));
    }
    Ok(())
}

/// Locks a stream's table until the transaction ends. Checks the right to publish first, before anything that other
/// sessions could notice. Returns the table: during the wait, another may have got the stream's name.
fn lock(stream: &str, table: pg_sys::Oid) -> Result<pg_sys::Oid> {
    may_publish(stream, table)?;
    let missing = || Error::NoStream(stream.into());
    let now = catalog::lock_stream_for_writing(stream).ok_or_else(missing)?;
    if now != table {
        may_publish(stream, now)?;
    }
    Ok(now)
}

/// Takes `n` seqs of a stream, ascending. The table is locked before its sequence, as ALTER TABLE and DROP TABLE do:
/// otherwise there would be deadlocks with them.
pub(super) fn take_seqs(table: pg_sys::Oid, n: usize) -> Result<Vec<Seq>> {
    if n == 0 {
        return Ok(Vec::new());
    }
    publish::announce(table)?;
    Ok(sequence::take(sequence::of_stream(table)?, n))
}

/// Inserts one message and returns its seq; or the seq of the message that its dedup_id has published before.
pub fn insert(
    stream: &str,
    table: pg_sys::Oid,
    key: Text,
    data: Jsonb,
    headers: Option<Jsonb>,
    dedup_id: Option<String>,
) -> Result<Seq> {
    let table = lock(stream, table)?;
    if dedup_id.is_none() {
        let seq = take_seqs(table, 1)?[0];
        return insert_as(seq, stream, table, key, data, headers);
    }
    let mut taken = Taken::take(stream, table, vec![dedup_id])?;
    if let Some(seq) = taken.seqs[0] {
        let published = insert_as(seq, stream, table, key, data, headers)?;
        taken.published(&[published])?;
    }
    Ok(taken.all()[0])
}

/// Inserts a message with a seq and returns the seq that it has then. The seq is taken before the insert: RETURNING would
/// require the right to read the table.
fn insert_as(
    seq: Seq,
    stream: &str,
    table: pg_sys::Oid,
    key: Text,
    data: Jsonb,
    headers: Option<Jsonb>,
) -> Result<Seq> {
    if stream_rows::insert(table, || Ok(vec![New { seq, key, data, headers }]))? {
        return Ok(seq);
    }
    let args = [arg(seq), arg(key), arg(data), headers.and_then(arg)];
    Ok(insert_by(Form::One, stream, table, vec![seq], &args)?[0])
}

/// Replaces the message of a key by one that says that it is gone, and returns its seq; `None` if the key has no message.
pub fn delete_key(stream: &str, table: pg_sys::Oid, key: Text) -> Result<Option<Seq>> {
    may_publish(stream, table)?;
    if !stream_table::keeps_one_per_key(table) {
        return Err(Error::NotOnePerKey(stream.into()));
    }
    let data = Jsonb::parse(&mut "null".into());
    let headers = Some(Jsonb::parse(&mut TOMBSTONE.into()));
    superseding::lock(table, &[key.id()])?;
    match superseding::find(table, &Incoming { seq: 0, key, data, headers })? {
        Some(_) => insert(stream, table, key, data, headers, None).map(Some),
        None => Ok(None),
    }
}

/// Messages for one statement.
pub struct Batch {
    pub count: usize,
    pub keys: TextArray,
    pub data: JsonbArray,
    pub headers: Option<JsonbArray>,
}

/// Inserts messages in one statement and returns their seqs, in the order given; with `dedup_ids`, one for each of them,
/// the seqs of the messages that these have published before.
pub fn insert_many(
    stream: &str,
    table: pg_sys::Oid,
    batch: &Batch,
    dedup_ids: Option<Vec<Option<String>>>,
) -> Result<Vec<Seq>> {
    let table = lock(stream, table)?;
    match dedup_ids {
        None => {
            let seqs = take_seqs(table, batch.count)?;
            let all: Vec<Option<Seq>> = seqs.iter().copied().map(Some).collect();
            insert_batch(stream, table, batch, &all, seqs)
        }
        Some(ids) => {
            let mut taken = Taken::take(stream, table, ids)?;
            let new = taken.seqs.iter().copied().flatten().collect();
            let published = insert_batch(stream, table, batch, &taken.seqs, new)?;
            taken.published(&published)?;
            Ok(taken.all())
        }
    }
}

/// Inserts those messages of a batch that have a seq, and returns the seqs that these have then. `new` are these seqs.
fn insert_batch(
    stream: &str,
    table: pg_sys::Oid,
    batch: &Batch,
    seqs: &[Option<Seq>],
    new: Vec<Seq>,
) -> Result<Vec<Seq>> {
    let Batch { keys, data, headers, .. } = batch;
    if new.is_empty() {
        return Ok(new);
    }
    let messages = || {
        let headers = headers.map(|headers| headers.elements());
        let mut messages = Vec::with_capacity(new.len());
        for (n, (key, data)) in keys.elements().into_iter().zip(data.elements()).enumerate() {
            let Some(seq) = seqs[n] else { continue };
            let key = key.ok_or(Error::NullElement("keys"))?;
            let data = data.ok_or(Error::NullElement("data"))?;
            let headers = headers.as_ref().and_then(|headers| headers[n]);
            messages.push(New { seq, key, data, headers });
        }
        Ok(messages)
    };
    if stream_rows::insert(table, messages)? {
        return Ok(new);
    }
    if stream_table::keeps_one_per_key(table) {
        let ids: Vec<KeyId> = keys.elements().into_iter().flatten().map(Text::id).collect();
        superseding::lock(table, &ids)?;
    }
    let args = [arg(seqs.to_vec()), arg(*keys), arg(*data), headers.and_then(arg)];
    insert_by(Form::Many, stream, table, new, &args)
}

/// Inserts messages without headers, with data as JSON text, in the order given.
pub fn insert_texts(
    stream: &str,
    table: pg_sys::Oid,
    keys: Vec<String>,
    mut data: Vec<String>,
) -> Result<()> {
    let table = lock(stream, table)?;
    let seqs = take_seqs(table, keys.len())?;
    if seqs.is_empty() {
        return Ok(());
    }
    let messages = || {
        let texts = seqs.iter().zip(&keys).zip(&mut data);
        let message = |((&seq, key), data): ((&Seq, &String), &mut String)| New {
            seq,
            key: Text::from(key.as_str()),
            data: Jsonb::parse(data),
            headers: None,
        };
        Ok(texts.map(message).collect())
    };
    if stream_rows::insert(table, messages)? {
        return Ok(());
    }
    if stream_table::keeps_one_per_key(table) {
        let ids: Vec<KeyId> = keys.iter().map(|key| key::key_id(key)).collect();
        superseding::lock(table, &ids)?;
    }
    let args = [arg(seqs.clone()), arg(keys), arg(data)];
    insert_by(Form::Texts, stream, table, seqs, &args).map(drop)
}
