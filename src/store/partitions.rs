//! `sequin_partition`, where the partitions of streams with retention are: making them, and making a stream's table that is
//! plain into one with partitions.

use super::{messages, statement, streams};
use crate::error::{Error, Result};
use crate::pg::exec::settings::in_pg_catalog;
use crate::pg::exec::spi::{Access, Arg, Row, Statement, arg, command};
use crate::pg::exec::{catalog, role, sequence};
use pgrx::pg_sys;
use sequin_engine::key::Seq;
use sequin_engine::retention::IDLE;

statement!(NEXT_ID, "SELECT pg_catalog.nextval('sequin.partition_id')", []);

/// The seqs of a partition, both included; or all that no other partition has.
#[derive(Clone, Copy)]
pub enum Seqs {
    Range(Seq, Seq),
    Rest,
}

/// The highest last seq of a stream that gets partitions: it must have enough of them left.
const HIGHEST: Seq = Seq::MAX / 2;

/// The name of a table in the schema of streams, and of one in that of partitions.
pub fn stream_name(stream: &str) -> String {
    format!("sequin_stream.\"{stream}\"")
}

pub fn partition_name(table: pg_sys::Oid) -> String {
    format!("sequin_partition.\"{}\"", catalog::relation_name(table).replace('"', "\"\""))
}

/// Makes the first partitions of a stream's table, which is empty and partitioned.
pub fn create_first(stream: &str) -> Result<()> {
    create(stream, Seqs::Range(Seq::MIN, IDLE))?;
    create(stream, Seqs::Range(IDLE + 1, 2 * IDLE))?;
    create(stream, Seqs::Range(2 * IDLE + 1, 3 * IDLE))?;
    create(stream, Seqs::Rest)
}

/// Makes a partition of a stream's table.
pub fn create(stream: &str, seqs: Seqs) -> Result<()> {
    make(stream)?.attach(seqs)
}

/// A table that is as a stream's table is, and is to become a partition of it.
pub struct Made {
    root: String,
    name: String,
    owner: pg_sys::Oid,
}

/// Makes such a table. What may run code of the stream's owner runs as the owner: that is where indexes are made.
pub fn make(stream: &str) -> Result<Made> {
    let table = streams::table(stream)?;
    let (root, owner) = (stream_name(stream), owner_of(stream, table)?);
    let name = format!("sequin_partition.\"{}\"", next_name(stream)?);
    role::as_owner(|| {
        in_pg_catalog(|| {
            command(&format!(
                "CREATE TABLE {name} (LIKE {root} INCLUDING DEFAULTS INCLUDING CONSTRAINTS \
                 INCLUDING STORAGE INCLUDING COMPRESSION)"
            ))?;
            give_to(&name, owner)
        })
    })?;
    role::as_role(owner, || in_pg_catalog(|| create_trigger(&name)))?;
    Ok(Made { root, name, owner })
}

impl Made {
    pub fn attach(&self, seqs: Seqs) -> Result<()> {
        role::as_role(self.owner, || in_pg_catalog(|| attach(&self.root, &self.name, seqs)))
    }
}

/// Makes a table a partition, as its owner.
pub fn attach(root: &str, partition: &str, seqs: Seqs) -> Result<()> {
    let seqs = match seqs {
        Seqs::Range(from, upto) => {
            let from = if from == Seq::MIN { "MINVALUE".into() } else { from.to_string() };
            let end = upto.checked_add(1).map_or("MAXVALUE".into(), |end| end.to_string());
            format!("FOR VALUES FROM ({from}) TO ({end})")
        }
        Seqs::Rest => "DEFAULT".into(),
    };
    command(&format!("ALTER TABLE {root} ATTACH PARTITION {partition} {seqs}"))
}

/// Gives a table to a role, as superuser.
pub fn give_to(table: &str, owner: pg_sys::Oid) -> Result<()> {
    let role = catalog::role_name(owner).replace('"', "\"\"");
    command(&format!("ALTER TABLE {table} OWNER TO \"{role}\""))
}

/// The owner of a stream's table.
pub fn owner_of(stream: &str, table: pg_sys::Oid) -> Result<pg_sys::Oid> {
    catalog::table_owner(table).ok_or_else(|| Error::NoStream(stream.into()))
}

/// A statement trigger of a partitioned table does not run for rows that are inserted into a partition itself.
fn create_trigger(partition: &str) -> Result<()> {
    command(&format!(
        "CREATE TRIGGER on_publish BEFORE INSERT OR UPDATE OF seq ON {partition} \
         FOR EACH STATEMENT EXECUTE FUNCTION sequin.on_publish()"
    ))?;
    command(&format!("ALTER TABLE {partition} ENABLE ALWAYS TRIGGER on_publish"))
}

/// A name that no partition has had yet. It leaves room for the names of indexes.
fn next_name(stream: &str) -> Result<String> {
    let read = |s: &Statement| s.run(Access::Write, &[], |rows| rows.one()?.need::<i64>(1));
    let id = role::as_owner(|| NEXT_ID.with(read))?;
    let stream: String = stream.chars().take(38).collect();
    Ok(format!("{stream}_{id}"))
}

// ---- a plain table ----

// What would be lost, or would go on to refer to the table that becomes the first partition.
statement!(
    IN_THE_WAY,
    "SELECT pg_catalog.format('constraint %s', c.conname) FROM pg_catalog.pg_constraint c \
     WHERE c.conrelid OPERATOR(pg_catalog.=) $1 AND c.contype OPERATOR(pg_catalog.<>) ALL ('{c,n,p}') \
     UNION ALL SELECT pg_catalog.format('foreign key %s of table %s', c.conname, c.conrelid::pg_catalog.regclass) \
     FROM pg_catalog.pg_constraint c \
     WHERE c.confrelid OPERATOR(pg_catalog.=) $1 AND c.conparentid OPERATOR(pg_catalog.=) 0 \
     UNION ALL SELECT pg_catalog.format('index %s', i.relname) \
     FROM pg_catalog.pg_index x JOIN pg_catalog.pg_class i ON i.oid OPERATOR(pg_catalog.=) x.indexrelid \
     WHERE x.indrelid OPERATOR(pg_catalog.=) $1 AND NOT x.indisprimary \
        AND i.relname::text OPERATOR(pg_catalog.<>) pg_catalog.concat($2, '_key_idx') \
        AND NOT EXISTS (SELECT FROM pg_catalog.pg_constraint c WHERE c.conindid OPERATOR(pg_catalog.=) i.oid) \
     UNION ALL SELECT pg_catalog.format('trigger %s', t.tgname) FROM pg_catalog.pg_trigger t \
     WHERE t.tgrelid OPERATOR(pg_catalog.=) $1 AND NOT t.tgisinternal \
        AND t.tgname::text OPERATOR(pg_catalog.<>) 'on_publish' \
     UNION ALL SELECT pg_catalog.format('policy %s', p.polname) FROM pg_catalog.pg_policy p \
     WHERE p.polrelid OPERATOR(pg_catalog.=) $1 \
     UNION ALL SELECT 'row-level security' FROM pg_catalog.pg_class c \
     WHERE c.oid OPERATOR(pg_catalog.=) $1 AND c.relrowsecurity \
     UNION ALL SELECT DISTINCT CASE WHEN r.ev_class OPERATOR(pg_catalog.=) $1 \
            THEN pg_catalog.format('rule %s', r.rulename) \
            ELSE pg_catalog.format('view %s', r.ev_class::pg_catalog.regclass) END \
     FROM pg_catalog.pg_depend d JOIN pg_catalog.pg_rewrite r ON r.oid OPERATOR(pg_catalog.=) d.objid \
     WHERE d.classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_rewrite'::pg_catalog.regclass \
        AND d.refclassid OPERATOR(pg_catalog.=) 'pg_catalog.pg_class'::pg_catalog.regclass \
        AND d.refobjid OPERATOR(pg_catalog.=) $1 \
     UNION ALL SELECT pg_catalog.format('publication %s', p.pubname) FROM pg_catalog.pg_publication_rel r \
     JOIN pg_catalog.pg_publication p ON p.oid OPERATOR(pg_catalog.=) r.prpubid \
     WHERE r.prrelid OPERATOR(pg_catalog.=) $1 \
     UNION ALL SELECT pg_catalog.format('statistics %s', s.stxname) FROM pg_catalog.pg_statistic_ext s \
     WHERE s.stxrelid OPERATOR(pg_catalog.=) $1",
    [OIDOID, TEXTOID]
);
// The rights to the table, as commands that give or take them. $1 is the table, $2 its new name, $3 GRANT or REVOKE.
statement!(
    RIGHTS,
    "SELECT pg_catalog.format('%s %s%s ON TABLE %s %s %s%s', $3, a.privilege_type, a.columns, $2, \
        CASE $3 WHEN 'GRANT' THEN 'TO' ELSE 'FROM' END, \
        CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE a.grantee::pg_catalog.regrole::text END, \
        CASE WHEN a.is_grantable AND $3 OPERATOR(pg_catalog.=) 'GRANT' THEN ' WITH GRANT OPTION' END) \
     FROM (SELECT x.privilege_type, '' AS columns, x.grantee, x.is_grantable \
           FROM pg_catalog.pg_class c, pg_catalog.aclexplode(c.relacl) x \
           WHERE c.oid OPERATOR(pg_catalog.=) $1 AND x.grantee OPERATOR(pg_catalog.<>) c.relowner \
           UNION ALL \
           SELECT x.privilege_type, pg_catalog.format(' (%I)', t.attname), x.grantee, x.is_grantable \
           FROM pg_catalog.pg_attribute t, pg_catalog.aclexplode(t.attacl) x \
           WHERE t.attrelid OPERATOR(pg_catalog.=) $1) a",
    [OIDOID, TEXTOID, TEXTOID]
);
statement!(
    COMMENT,
    "SELECT pg_catalog.format('COMMENT ON TABLE %s IS %L', $2, pg_catalog.obj_description($1, 'pg_class')) \
     WHERE pg_catalog.obj_description($1, 'pg_class') IS NOT NULL",
    [OIDOID, TEXTOID]
);
statement!(
    INDEXES,
    "SELECT pg_catalog.quote_ident(i.relname), x.indisprimary \
     FROM pg_catalog.pg_index x JOIN pg_catalog.pg_class i ON i.oid OPERATOR(pg_catalog.=) x.indexrelid \
     WHERE x.indrelid OPERATOR(pg_catalog.=) $1",
    [OIDOID]
);

/// Makes a stream's plain table the first partition of a new one that has its name, owner, rights and comments. Keeps
/// everybody out meanwhile, and reads the whole table. Seqs go on where they were.
pub fn convert(stream: &str, table: pg_sys::Oid) -> Result<()> {
    let root = stream_name(stream);
    command(&format!("LOCK TABLE {root} IN ACCESS EXCLUSIVE MODE"))?;
    let mut reasons = texts(&IN_THE_WAY, &[arg(table), arg(stream)])?;
    let last = sequence::last_value(sequence::of_stream(table)?);
    let highest = messages::last(table)?;
    if highest > last {
        reasons.push(format!("a message with seq {highest}, which its sequence has not given"));
    }
    if last > HIGHEST {
        reasons.push("its seqs, which are nearly used up".into());
    }
    if !reasons.is_empty() {
        return Err(Error::NotPartitionable { stream: stream.into(), reasons });
    }
    let owner = owner_of(stream, table)?;
    let name = next_name(stream)?;
    let partition = format!("sequin_partition.\"{name}\"");
    let grants = texts(&RIGHTS, &[arg(table), arg(root.as_str()), arg("GRANT")])?;
    let revokes = texts(&RIGHTS, &[arg(table), arg(partition.as_str()), arg("REVOKE")])?;
    let comment = texts(&COMMENT, &[arg(table), arg(root.as_str())])?;
    let index = |row: Row| Ok((row.need::<String>(1)?, row.need::<bool>(2)?));
    let read = |s: &Statement| {
        s.run(Access::Write, &[arg(table)], |rows| rows.iter().map(index).collect())
    };
    let indexes: Vec<(String, bool)> = INDEXES.with(read)?;
    role::as_owner(|| {
        in_pg_catalog(|| {
            command(&format!("ALTER TABLE {root} ALTER seq DROP IDENTITY"))?;
            for (index, is_primary) in &indexes {
                let new = if *is_primary { "pkey" } else { "key_idx" };
                command(&format!("ALTER INDEX sequin_stream.{index} RENAME TO \"{name}_{new}\""))?;
            }
            command(&format!("ALTER TABLE {root} RENAME TO \"{name}\""))?;
            command(&format!("ALTER TABLE sequin_stream.\"{name}\" SET SCHEMA sequin_partition"))?;
            command(&format!(
                "CREATE TABLE {root} (LIKE {partition} INCLUDING DEFAULTS INCLUDING CONSTRAINTS \
                 INCLUDING STORAGE INCLUDING COMPRESSION INCLUDING COMMENTS) PARTITION BY RANGE (seq)"
            ))?;
            command(&format!("ALTER TABLE {root} ALTER seq ADD GENERATED ALWAYS AS IDENTITY"))?;
            command(&format!(
                "ALTER TABLE {root} ADD CONSTRAINT \"{stream}_pkey\" PRIMARY KEY (seq)"
            ))?;
            if indexes.iter().any(|(_, is_primary)| !is_primary) {
                command(&format!("CREATE INDEX \"{stream}_key_idx\" ON {root} (key)"))?;
            }
            streams::create_trigger(stream)?;
            give_to(&root, owner)
        })
    })?;
    let new = streams::table(stream)?;
    if last > 0 {
        let sequence = sequence::of_stream(new)?;
        role::as_owner(|| streams::set_last(sequence, last))?;
    }
    role::as_role(owner, || {
        in_pg_catalog(|| {
            grants.iter().chain(&revokes).chain(&comment).try_for_each(|it| command(it))?;
            attach(&root, &partition, Seqs::Range(Seq::MIN, last + IDLE))
        })
    })?;
    create(stream, Seqs::Range(last + IDLE + 1, last + 2 * IDLE))?;
    create(stream, Seqs::Rest)?;
    super::dedup::move_ids(table, new)
}

fn texts(
    statement: &'static std::thread::LocalKey<Statement>,
    args: &[Arg],
) -> Result<Vec<String>> {
    let read = |s: &Statement| {
        s.run(Access::Write, args, |rows| rows.iter().map(|row| row.need(1)).collect())
    };
    in_pg_catalog(|| statement.with(read))
}
