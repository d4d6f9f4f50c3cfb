//! `sequin.dead_letters`: messages that a consumer has given up on, with a copy of their payload.

use super::statement;
use crate::engine::event::Item;
use crate::engine::key::Seq;
use crate::error::Result;
use crate::pg::role;
use crate::pg::spi::{Access, Plan, arg, connected};

/// `%stream%` is the stream's name: the payload comes from its table.
const BURY: &str = "INSERT INTO sequin.dead_letters \
        (consumer, seq, key, data, headers, deliver_count, reason) \
     SELECT $1, m.seq, m.key, m.data, m.headers, d.n, $4 \
     FROM pg_catalog.unnest($2) WITH ORDINALITY s(seq, i) \
     JOIN pg_catalog.unnest($3) WITH ORDINALITY d(n, i) ON d.i OPERATOR(pg_catalog.=) s.i \
     JOIN sequin_stream.\"%stream%\" m ON m.seq OPERATOR(pg_catalog.=) s.seq \
     ON CONFLICT (consumer, seq) DO UPDATE SET \
        deliver_count = excluded.deliver_count, reason = excluded.reason, dead_at = excluded.dead_at";

statement!(
    LOCK,
    "SELECT seq FROM sequin.dead_letters WHERE consumer OPERATOR(pg_catalog.=) $1 \
     AND ($2 IS NULL OR seq OPERATOR(pg_catalog.=) ANY ($2)) ORDER BY seq FOR UPDATE",
    [TEXTOID, INT8ARRAYOID]
);
statement!(
    DELETE,
    "DELETE FROM sequin.dead_letters WHERE consumer OPERATOR(pg_catalog.=) $1 \
     AND seq OPERATOR(pg_catalog.=) ANY ($2)",
    [TEXTOID, INT8ARRAYOID]
);

/// Copies messages into the dead letters. Rare, so it is planned each time.
pub fn bury(consumer: &str, stream: &str, items: &[Item], reason: Option<&str>) -> Result<()> {
    use pgrx::pg_sys::{INT4ARRAYOID, INT8ARRAYOID, TEXTOID};
    let sql = BURY.replace("%stream%", stream);
    let args = [
        arg(consumer),
        arg(items.iter().map(|item| item.seq).collect::<Vec<Seq>>()),
        arg(items.iter().map(|item| item.deliveries.cast_signed()).collect::<Vec<i32>>()),
        reason.and_then(arg),
    ];
    role::as_owner(|| {
        connected(|| {
            let plan = Plan::new(&sql, &[TEXTOID, INT8ARRAYOID, INT4ARRAYOID, TEXTOID])?;
            plan.execute(Access::Write, &args).map(drop)
        })
    })
}

/// The seqs of a consumer's dead letters, of these or of all; nobody else can redrive them meanwhile.
pub fn lock(consumer: &str, seqs: Option<Vec<Seq>>) -> Result<Vec<Seq>> {
    role::as_owner(|| {
        LOCK.with(|s| {
            s.run(Access::Write, &[arg(consumer), seqs.and_then(arg)], |rows| {
                rows.iter().map(|row| row.need::<Seq>(1)).collect()
            })
        })
    })
}

pub fn delete(consumer: &str, seqs: Vec<Seq>) -> Result<()> {
    role::as_owner(|| DELETE.with(|s| s.execute(&[arg(consumer), arg(seqs)]))).map(drop)
}
