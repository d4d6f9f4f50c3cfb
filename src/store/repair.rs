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
     WHERE tgrelid OPERATOR(pg_catalog.=) $1 AND NOT tgisinternal AND (tgname::text OPERATOR(pg_catalog.=) $2 \
        OR tgfoid OPERATOR(pg_catalog.=) pg_catalog.concat('sequin.', $2)::pg_catalog.regproc)",
    [OIDOID, TEXTOID]
);
statement!(
    IS_UNIQUE,
    "SELECT true FROM pg_catalog.pg_index WHERE indrelid OPERATOR(pg_catalog.=) $1 AND indisunique AND indisvalid \
        AND indimmediate AND indpred IS NULL AND indkey::text OPERATOR(pg_catalog.=) '2'",
    [OIDOID]
);
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
    if streams::has_one_per_key(stream)? {
        make_one_per_key(&name, stream, table, &mut found)?;
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
        streams::set_last(sequence, known)?;
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
            drop_triggers(name, table, "on_publish")?;
            streams::create_trigger(stream)
        }
        _ => Err(Error::BeyondRepair(stream.into(), fault.to_string())),
    }
}

/// Drops triggers with the name or the function of one of sequin's.
fn drop_triggers(name: &str, table: pg_sys::Oid, function: &str) -> Result<()> {
    let names = |row: Row| row.need::<String>(1);
    let triggers: Vec<String> = TRIGGERS.with(|s| {
        let args = [arg(table), arg(function)];
        s.run(Access::Write, &args, |rows| rows.iter().map(names).collect())
    })?;
    triggers.iter().try_for_each(|trigger| command(&format!("DROP TRIGGER {trigger} ON {name}")))
}

/// Makes what keeps one message of each key, as far as it is missing. Of several of a key the last one stays.
fn make_one_per_key(
    name: &str,
    stream: &str,
    table: pg_sys::Oid,
    found: &mut Vec<String>,
) -> Result<()> {
    let is_unique = IS_UNIQUE
        .with(|s| s.run(Access::Write, &[arg(table)], |rows| Ok(rows.first().is_some())))?;
    if !is_unique {
        command(&format!(
            "DELETE FROM {name} older USING {name} newer WHERE older.key OPERATOR(pg_catalog.=) newer.key \
             AND older.seq OPERATOR(pg_catalog.<) newer.seq"
        ))?;
        command(&format!("ALTER TABLE {name} DROP CONSTRAINT IF EXISTS \"{stream}_key_key\""))?;
        streams::create_unique_key(stream)?;
        found.push(
            "its keys are not unique: of several messages of a key, the last one is left".into(),
        );
    }
    if !stream_table::keeps_one_per_key(table) {
        drop_triggers(name, table, "on_upsert")?;
        streams::create_upsert_trigger(stream)?;
        found.push(
            "its trigger on_upsert is missing, or not enabled always: new messages do not replace those of their keys"
                .into(),
        );
    }
    Ok(())
}

/// The highest seq that is known to have been used.
fn used(stream: &str, table: pg_sys::Oid) -> Result<Seq> {
    let highest = messages::last(table)?;
    let known = role::as_owner(|| {
        USED.with(|s| s.run(Access::Latest, &[arg(stream)], |rows| rows.one()?.get::<Seq>(1)))
    })?;
    Ok(known.unwrap_or(0).max(highest))
}
