//! Why a source captures nothing although its capturer runs. For `sequin.source_stats`, which itself reports an owner
//! that is gone.

use super::statement;
use crate::error::Result;
use crate::pg::exec::role;
use crate::pg::exec::spi::{Access, Row, Statement};

// A publication of all tables, or of schemas, may have no tables for now. Those of schemas are found through pg_depend,
// since PostgreSQL 14 doesn't have their catalog.
statement!(
    FAULTS,
    "SELECT s.id, s.name, s.stream, s.publication, s.owns_publication, \
        t.oid IS NOT NULL, coalesce(has_table_privilege(o.oid, t.oid, 'INSERT'), true), \
        p.oid IS NOT NULL, p.pubinsert OR p.pubupdate OR p.pubdelete OR p.pubtruncate, \
        p.puballtables OR cardinality(published.tables) > 0 OR EXISTS ( \
            SELECT FROM pg_depend d WHERE d.classid = to_regclass('pg_catalog.pg_publication_namespace') \
                AND d.refclassid = 'pg_publication'::regclass AND d.refobjid = p.oid), \
        (SELECT min(known.name) FROM unnest(s.table_oids, s.table_names) known (oid, name) \
            JOIN pg_class c ON c.oid = to_regclass(known.name) AND c.relkind IN ('r', 'p') \
            WHERE NOT p.puballtables AND c.oid <> known.oid AND c.oid <> ALL (published.tables) \
                AND NOT EXISTS (SELECT FROM pg_class old WHERE old.oid = known.oid) \
                AND NOT EXISTS (SELECT FROM pg_publication_tables v JOIN pg_namespace n ON n.nspname = v.schemaname \
                    WHERE v.pubname = s.publication AND n.oid = c.relnamespace AND v.tablename = c.relname)) \
     FROM sequin.sources s \
     LEFT JOIN pg_authid o ON o.oid = s.owner::oid \
     LEFT JOIN pg_class t ON t.relname = s.stream AND t.relkind IN ('r', 'p') \
        AND t.relnamespace = (SELECT oid FROM pg_namespace WHERE nspname = 'sequin_stream') \
     LEFT JOIN pg_publication p ON p.pubname = s.publication \
     CROSS JOIN LATERAL (SELECT ARRAY( \
        SELECT c.oid FROM pg_publication_rel r JOIN pg_class c ON c.oid = r.prrelid \
        JOIN pg_namespace n ON n.oid = c.relnamespace \
        WHERE r.prpubid = p.oid AND n.nspname NOT IN ('sequin', 'sequin_stream', 'sequin_partition')) AS tables) published",
    []
);

/// The ids of sources with a fault, and texts that say what is wrong and what to do about it.
pub fn list() -> Result<Vec<(i32, String)>> {
    let run = |s: &Statement| {
        s.run(Access::Latest, &[], |rows| {
            let found = rows.iter().map(|row| Ok((row.need(1)?, fault(row)?)));
            let mut found = found.collect::<Result<Vec<(i32, Option<String>)>>>()?;
            Ok(found.drain(..).filter_map(|(id, fault)| Some((id, fault?))).collect())
        })
    };
    role::as_owner_in_pg_catalog(|| FAULTS.with(run))
}

/// The first fault that keeps a source from capturing, if there is one.
fn fault(row: Row) -> Result<Option<String>> {
    let name: String = row.need(2)?;
    let stream: String = row.need(3)?;
    let publication: String = row.need(4)?;
    let owns_publication: bool = row.need(5)?;
    let add = |tables: &str| match owns_publication {
        true => format!("call sequin.alter_source('{name}', tables => ..)"),
        false => format!("ALTER PUBLICATION \"{publication}\" ADD TABLE {tables}"),
    };
    Ok(if !row.need::<bool>(6)? {
        Some(format!(
            "stream \"{stream}\" has no table any more: restore it, or drop source \"{name}\""
        ))
    } else if !row.need::<bool>(7)? {
        Some(format!(
            "the owner of source \"{name}\" may not publish to stream \"{stream}\": GRANT INSERT ON \
             sequin_stream.\"{stream}\""
        ))
    } else if !row.need::<bool>(8)? {
        Some(gone(&publication, &name))
    } else if !row.need::<bool>(9)? {
        Some(format!(
            "publication \"{publication}\" publishes nothing: ALTER PUBLICATION \"{publication}\" SET (publish = ..)"
        ))
    } else if !row.need::<bool>(10)? {
        Some(format!("publication \"{publication}\" has no tables: {}", add("..")))
    } else if let Some(table) = row.get::<String>(11)? {
        let other = match owns_publication {
            true => String::new(),
            false => format!(", or sequin.resume_source('{name}') if it isn't to be captured"),
        };
        Some(format!(
            "table {table} was dropped, and the one that has its name now is not captured: {}{other}",
            add(&table)
        ))
    } else {
        None
    })
}

/// The text for a source whose publication was dropped.
pub fn gone(publication: &str, source: &str) -> String {
    format!(
        "publication \"{publication}\" does not exist any more: drop source \"{source}\" and create it again"
    )
}

/// The text for one whose publication was dropped, and made again.
pub fn was_gone(publication: &str, source: &str) -> String {
    format!(
        "publication \"{publication}\" did not exist for a while, and changes that were made meanwhile are lost: \
         drop source \"{source}\" and create it again"
    )
}
