//! Repairing a stream's table, its trigger and its sequence by SQL, as the current role, which owns the table.

use super::{messages, statement, streams};
use crate::error::{Error, Result};
use crate::pg::exec::spi::{Access, Row, arg, command};
use crate::pg::exec::stream_table::{self, Found};
use crate::pg::exec::{role, sequence};
use pgrx::pg_sys;
use sequin_engine::fault::{Fault, Known};
use sequin_engine::key::Seq;

// The highest seq that is known, by consumers, to have been used. The seq at which one starts doesn't count: it need
// not have been used.
statement!(
    USED,
    "SELECT pg_catalog.max(seq) FROM sequin.consumers c \
     LEFT JOIN sequin.checkpoints k ON k.consumer_id OPERATOR(pg_catalog.=) c.id \
        AND k.generation OPERATOR(pg_catalog.=) c.generation \
     CROSS JOIN LATERAL ( \
        SELECT c.start_last \
        UNION ALL SELECT CASE WHEN k.floor OPERATOR(pg_catalog.>) c.start_after THEN k.floor END \
        UNION ALL SELECT pg_catalog.unnest(k.done) UNION ALL SELECT pg_catalog.unnest(k.seqs) \
        UNION ALL SELECT pg_catalog.unnest(o.seqs) FROM sequin.outbox o \
            WHERE o.consumer_id OPERATOR(pg_catalog.=) c.id \
        UNION ALL SELECT pg_catalog.unnest(a.seqs) FROM sequin.acks a \
            WHERE a.consumer_id OPERATOR(pg_catalog.=) c.id) u(seq) \
     WHERE c.stream OPERATOR(pg_catalog.=) $1",
    [TEXTOID]
);
statement!(
    TRIGGERS,
    "SELECT pg_catalog.quote_ident(tgname) FROM pg_catalog.pg_trigger \
     WHERE tgrelid OPERATOR(pg_catalog.=) $1 AND NOT tgisinternal AND (tgname OPERATOR(pg_catalog.=) 'on_publish' \
        OR tgfoid OPERATOR(pg_catalog.=) 'sequin.on_publish'::pg_catalog.regproc)",
    [OIDOID]
);
statement!(SET, "SELECT pg_catalog.setval($1::pg_catalog.regclass, $2)", [OIDOID, INT8OID]);
statement!(
    NOTE,
    "INSERT INTO sequin.streams AS s (name, repairs) VALUES ($1, 1) \
     ON CONFLICT (name) DO UPDATE SET repairs = s.repairs OPERATOR(pg_catalog.+) 1",
    [TEXTOID]
);

/// The highest seq to which a sequence is set: it must have enough of them left. Who may publish may choose a higher one.
const HIGHEST: Seq = Seq::MAX / 2;

/// Repairs a stream, of which the dispatcher has seen seqs up to `seen`. Returns what was found.
pub fn repair(stream: &str, table: pg_sys::Oid, seen: Seq) -> Result<Vec<String>> {
    let name = format!("sequin_stream.\"{stream}\"");
    command(&format!("LOCK TABLE {name} IN ACCESS EXCLUSIVE MODE"))?;
    let mut found = Vec::new();
    // Each fault is repaired by the first attempt, or can't be repaired.
    while let Some(fault) = stream_table::fault(table) {
        if found.last() == Some(&fault.to_string()) {
            return Err(Error::BeyondRepair(stream.into(), fault.to_string()));
        }
        mend(&name, stream, table, fault)?;
        found.push(fault.to_string());
    }
    if sequence::of_stream(table).is_err() {
        command(&format!("ALTER TABLE {name} ALTER seq DROP DEFAULT"))?;
        command(&format!("ALTER TABLE {name} ALTER seq ADD GENERATED ALWAYS AS IDENTITY"))?;
        found.push(Fault::NoSequence.to_string());
    }
    let sequence = sequence::of_stream(table)?;
    if let Found::Broken(fault @ Fault::Steps) = stream_table::examine(table, Known::default()) {
        let options = "SET INCREMENT BY 1 SET CACHE 1 SET NO CYCLE";
        command(&format!("ALTER TABLE {name} ALTER seq {options}"))?;
        found.push(fault.to_string());
    }
    let last = sequence::last_value(sequence);
    let known = used(stream, table)?.max(seen);
    if last < known {
        let fault = Fault::WentBack { last, known };
        if known > HIGHEST {
            return Err(Error::BeyondRepair(stream.into(), fault.to_string()));
        }
        SET.with(|s| s.run(Access::Write, &[arg(sequence), arg(known)], |_| Ok(())))?;
        found.push(format!("{fault}: a message with a seq up to {known} that is newer than that counts as delivered, where sequin.redeliver() can change that"));
    }
    role::as_owner(|| NOTE.with(|s| s.execute(&[arg(stream)])))?;
    Ok(found)
}

fn mend(name: &str, stream: &str, table: pg_sys::Oid, fault: Fault) -> Result<()> {
    match fault {
        Fault::PrimaryKey => command(&format!("ALTER TABLE {name} ADD PRIMARY KEY (seq)")),
        Fault::Unlogged => command(&format!("ALTER TABLE {name} SET LOGGED")),
        Fault::Trigger => {
            let names = |row: Row| row.need::<String>(1);
            let triggers: Vec<String> = TRIGGERS.with(|s| {
                s.run(Access::Write, &[arg(table)], |rows| rows.iter().map(names).collect())
            })?;
            for trigger in triggers {
                command(&format!("DROP TRIGGER {trigger} ON {name}"))?;
            }
            streams::create_trigger(stream)
        }
        _ => Err(Error::BeyondRepair(stream.into(), fault.to_string())),
    }
}

/// The highest seq that is known to have been used.
fn used(stream: &str, table: pg_sys::Oid) -> Result<Seq> {
    let highest = messages::last(table)?;
    let known = role::as_owner(|| {
        USED.with(|s| s.run(Access::Latest, &[arg(stream)], |rows| rows.one()?.get::<Seq>(1)))
    })?;
    Ok(known.unwrap_or(0).max(highest))
}
