//! `sequin.all_dead_letters`: messages that a consumer has given up on, with a copy of their payload.

use super::{messages, statement};
use crate::error::Result;
use crate::pg::exec::role;
use crate::pg::exec::spi::{Access, Statement, arg};
use crate::pg::shared::bounds::Xid;
use sequin_engine::event::Item;
use sequin_engine::key::Seq;
use std::thread::LocalKey;

statement!(
    INSERT,
    "INSERT INTO sequin.all_dead_letters (consumer, seq, key, data, headers, deliver_count, reason) \
     SELECT $1, $2, $3, $4, $5, $6, $7 FROM sequin.consumers \
     WHERE name OPERATOR(pg_catalog.=) $1 FOR KEY SHARE \
     ON CONFLICT (consumer, seq) DO UPDATE SET deliver_count = excluded.deliver_count, \
        reason = excluded.reason, dead_at = excluded.dead_at",
    [TEXTOID, INT8OID, TEXTOID, JSONBOID, JSONBOID, INT4OID, TEXTOID]
);
statement!(
    KEEP,
    "SELECT name FROM sequin.consumers WHERE name OPERATOR(pg_catalog.=) $1 FOR KEY SHARE SKIP LOCKED",
    [TEXTOID]
);
statement!(
    IS_THERE,
    "SELECT name FROM sequin.consumers WHERE name OPERATOR(pg_catalog.=) $1",
    [TEXTOID]
);
statement!(
    KEEP_OLD,
    "SELECT seq FROM sequin.dead_letters WHERE consumer OPERATOR(pg_catalog.=) $1 \
     AND seq OPERATOR(pg_catalog.=) ANY ($2) FOR UPDATE SKIP LOCKED",
    [TEXTOID, INT8ARRAYOID]
);
statement!(
    OLD,
    "SELECT seq FROM sequin.dead_letters WHERE consumer OPERATOR(pg_catalog.=) $1 \
     AND seq OPERATOR(pg_catalog.=) ANY ($2)",
    [TEXTOID, INT8ARRAYOID]
);
statement!(
    LOCK,
    "SELECT seq FROM sequin.all_dead_letters WHERE consumer OPERATOR(pg_catalog.=) $1 \
     AND ($2 IS NULL OR seq OPERATOR(pg_catalog.=) ANY ($2)) ORDER BY seq FOR UPDATE",
    [TEXTOID, INT8ARRAYOID]
);
statement!(
    DELETE,
    "DELETE FROM sequin.all_dead_letters WHERE consumer OPERATOR(pg_catalog.=) $1 \
     AND seq OPERATOR(pg_catalog.=) ANY ($2)",
    [TEXTOID, INT8ARRAYOID]
);
statement!(
    DELETE_ALL,
    "DELETE FROM sequin.all_dead_letters WHERE consumer OPERATOR(pg_catalog.=) $1",
    [TEXTOID]
);

/// Copies messages into the dead letters, as far as they are still in the stream and the consumer exists.
pub fn insert(consumer: &str, stream: &str, items: &[Item], reason: Option<&str>) -> Result<()> {
    let mut items = items.to_vec();
    items.sort_unstable_by_key(|item| item.seq);
    let seqs: Vec<Seq> = items.iter().map(|item| item.seq).collect();
    let payloads = |table| messages::payloads(table, &seqs, None::<fn(Xid)>);
    for message in messages::with_table(stream, payloads)? {
        let item = items.binary_search_by_key(&message.seq, |item| item.seq).ok();
        let deliveries = item.and_then(|n| items.get(n)).map_or(0, |item| item.deliveries);
        let args = [
            arg(consumer),
            arg(message.seq),
            message.key.and_then(arg),
            message.data.and_then(arg),
            message.headers.and_then(arg),
            arg(deliveries.cast_signed()),
            reason.and_then(arg),
        ];
        role::as_owner(|| INSERT.with(|s| s.execute(&args)))?;
    }
    Ok(())
}

/// Locks all existing rows that [`insert`] will lock, without waiting. False if another transaction has locked one of
/// them: the consumer's, which it is dropping, or dead letters of these messages, which it is redriving.
pub fn try_lock(consumer: &str, items: &[Item]) -> Result<bool> {
    let seqs: Vec<Seq> = items.iter().map(|item| item.seq).collect();
    let of_consumer = |statement: &'static LocalKey<Statement>, access| {
        statement.with(|s| s.run(access, &[arg(consumer)], |rows| Ok(rows.len())))
    };
    let of_letters = |statement: &'static LocalKey<Statement>, access| {
        let args = [arg(consumer), arg(seqs.clone())];
        statement.with(|s| s.run(access, &args, |rows| Ok(rows.len())))
    };
    role::as_owner(|| {
        // The rows that could be locked are counted first, then those that exist. A row that appears in between looks
        // locked, and the caller tries again.
        let is_kept = of_consumer(&KEEP, Access::Write)? == of_consumer(&IS_THERE, Access::Latest)?;
        Ok(is_kept && of_letters(&KEEP_OLD, Access::Write)? == of_letters(&OLD, Access::Latest)?)
    })
}

/// Locks a consumer's dead letters, these or all, and returns their seqs: no other transaction can redrive them
/// meanwhile.
pub fn lock(consumer: &str, seqs: Option<Vec<Seq>>) -> Result<Vec<Seq>> {
    role::as_owner(|| {
        LOCK.with(|s| {
            s.run(Access::Write, &[arg(consumer), seqs.and_then(arg)], |rows| {
                rows.iter().map(|row| row.need::<Seq>(1)).collect()
            })
        })
    })
}

/// Deletes all that a consumer has.
pub fn delete_all(consumer: &str) -> Result<()> {
    role::as_owner(|| DELETE_ALL.with(|s| s.execute(&[arg(consumer)]))).map(drop)
}

pub fn delete(consumer: &str, seqs: Vec<Seq>) -> Result<()> {
    role::as_owner(|| DELETE.with(|s| s.execute(&[arg(consumer), arg(seqs)]))).map(drop)
}
