//! Reading the rows that a table has, in chunks by its key, as they would be captured: what the publication leaves
//! out stays out.

use super::statement;
use super::tables::{self, Facts, quoted};
use crate::capture::window::{Row, Snapshot};
use crate::error::{Error, Result};
use crate::pg::spi::{Access, Arg, Plan, arg, connected};
use pgrx::pg_sys::{self, INT4OID, TEXTOID};

statement!(SNAPSHOT, "SELECT pg_current_snapshot()::text", []);
statement!(WATERMARK, "SELECT pg_logical_emit_message(false, $1, 'watermark')", [TEXTOID]);
// The whole row unless the publication has a column list; generated columns are never in one before PostgreSQL 18.
// Through to_jsonb, since PostgreSQL 14 has neither column lists nor row filters.
statement!(
    PUBLISHED,
    "SELECT n.nspname::text, c.relname::text, c.relkind = 'p', to_jsonb(t) ->> 'rowfilter', \
        CASE WHEN EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0 \
            AND NOT a.attisdropped AND a.attgenerated = '' AND NOT to_jsonb(t) -> 'attnames' ? a.attname::text) \
        THEN ARRAY(SELECT jsonb_array_elements_text(to_jsonb(t) -> 'attnames')) END \
     FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
     JOIN pg_publication_tables t ON t.schemaname = n.nspname AND t.tablename = c.relname \
     WHERE t.pubname = $1 AND c.oid = $2",
    [TEXTOID, OIDOID]
);
statement!(
    COLUMNS,
    "SELECT a.attname::text, a.atttypid FROM pg_attribute a \
     WHERE a.attrelid = $1 AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum",
    [OIDOID]
);

/// A table whose rows are to be read.
pub struct Target {
    pub oid: pg_sys::Oid,
    pub schema: String,
    pub name: String,
    is_partitioned: bool,
    filter: Option<String>,
    /// The columns that are published, with their types.
    pub columns: Vec<(String, u32)>,
    has_all_columns: bool,
    pub facts: Facts,
}

/// What is read with the rows.
pub struct Wanted<'a> {
    /// Columns of the key format.
    pub columns: &'a [String],
    pub condition: Option<&'a str>,
    /// Only rows behind this key.
    pub after: Option<&'a [String]>,
    pub limit: usize,
}

/// The table as a publication has it; `None` if it has not, or the table is gone.
pub fn target(publication: &str, table: pg_sys::Oid) -> Result<Option<Target>> {
    let Some(facts) = tables::describe(table.to_u32())? else { return Ok(None) };
    let mut columns: Vec<(String, u32)> = COLUMNS.with(|s| {
        s.run(Access::Latest, &[arg(table)], |rows| {
            rows.iter()
                .map(|row| Ok((row.need(1)?, row.need::<pg_sys::Oid>(2)?.to_u32())))
                .collect()
        })
    })?;
    PUBLISHED.with(|s| {
        s.run(Access::Latest, &[arg(publication), arg(table)], |rows| {
            let Some(row) = rows.first() else { return Ok(None) };
            let listed: Option<Vec<String>> = row.get(5)?;
            let has_all_columns = listed.is_none();
            if let Some(listed) = listed {
                columns.retain(|(name, _)| listed.contains(name));
            }
            Ok(Some(Target {
                oid: table,
                schema: row.need(1)?,
                name: row.need(2)?,
                is_partitioned: row.need(3)?,
                filter: row.get(4)?,
                columns,
                has_all_columns,
                facts,
            }))
        })
    })
}

/// Reads up to `limit` rows in the order of the key, under a snapshot of its own, which it returns.
pub fn read(target: &Target, wanted: &Wanted) -> Result<(Snapshot, Vec<Row>)> {
    let sql = query(target, wanted)?;
    let mut args: Vec<Arg> =
        wanted.after.unwrap_or_default().iter().map(|v| arg(v.as_str())).collect();
    let limit = i32::try_from(wanted.limit).unwrap_or(i32::MAX);
    let mut types = vec![TEXTOID; args.len()];
    args.push(arg(limit));
    types.push(INT4OID);
    let read = |row: crate::pg::spi::Row| {
        let columns: Vec<Option<String>> = row.need(3)?;
        let pk: Vec<String> = row.need(2)?;
        let pk = (!pk.is_empty()).then_some(pk);
        Ok(Row { key: row.need(1)?, pk, columns, record: row.need(4)? })
    };
    connected(|| {
        let plan = Plan::new(&sql, &types)?;
        // Both by the one snapshot of this statement's transaction, which is newer than all that was decoded.
        let rows = plan.execute(Access::Snapshot, &args)?;
        let rows = rows.iter().map(read).collect::<Result<Vec<Row>>>()?;
        let text: String = SNAPSHOT.with(|s| {
            s.run(Access::Snapshot, &[], |rows| {
                rows.first().ok_or_else(|| Error::Internal("no snapshot".into()))?.need(1)
            })
        })?;
        let snapshot = Snapshot::parse(&text).ok_or(Error::Internal(text))?;
        Ok((snapshot, rows))
    })
}

fn query(target: &Target, wanted: &Wanted) -> Result<String> {
    let table = quoted(&target.name);
    let column = |name: &String| format!("{table}.{}", quoted(name));
    let text = |name: &String| format!("format('%s', {})", column(name));
    let array = |items: Vec<String>| format!("ARRAY[{}]::text[]", items.join(", "));
    let is_published = |name: &String| target.columns.iter().any(|(column, _)| column == name);
    let facts = &target.facts;
    let pk = match facts.pk.iter().all(is_published) {
        true => facts.pk.iter().map(text).collect(),
        false => Vec::new(),
    };
    let of_format = |name: &String| match is_published(name) {
        true => format!("CASE WHEN {0} IS NOT NULL THEN format('%s', {0}) END", column(name)),
        false => "NULL".into(),
    };
    let (record, from) = if target.has_all_columns {
        (format!("{table}.*"), String::new())
    } else {
        let columns: Vec<String> = target.columns.iter().map(|(name, _)| column(name)).collect();
        (
            "sequin_record.*".into(),
            format!(", LATERAL (SELECT {}) AS sequin_record", columns.join(", ")),
        )
    };
    let mut conditions: Vec<String> = Vec::new();
    if let Some(after) = wanted.after {
        let values: Option<Vec<String>> = (facts.key.iter().zip(1..=after.len()))
            .map(|(name, n)| Some(format!("${n}::text::{}", facts.types.get(name)?)))
            .collect();
        let values = values.ok_or_else(|| Error::Internal("a column of the key is gone".into()))?;
        let key: Vec<String> = facts.key.iter().map(column).collect();
        conditions.push(format!("({}) > ({})", key.join(", "), values.join(", ")));
    }
    // A line break after each: it may end in a comment.
    conditions.extend(target.filter.iter().map(|filter| format!("({filter}\n)")));
    conditions.extend(wanted.condition.map(|condition| format!("({condition}\n)")));
    let filter = match conditions.is_empty() {
        true => String::new(),
        false => format!(" WHERE {}", conditions.join(" AND ")),
    };
    Ok(format!(
        "SELECT {}, {}, {}, to_jsonb({record})::text FROM {}{}{from}{filter} ORDER BY {} LIMIT ${}",
        array(facts.key.iter().map(text).collect()),
        array(pk),
        array(wanted.columns.iter().map(of_format).collect()),
        if target.is_partitioned { "" } else { "ONLY " },
        facts.name,
        facts.key.iter().map(column).collect::<Vec<_>>().join(", "),
        wanted.after.map_or(0, <[String]>::len) + 1,
    ))
}

/// Puts a watermark into the WAL and returns where it ends: a position that nothing else has.
pub fn watermark() -> Result<u64> {
    let missing = || Error::Internal("no watermark".into());
    WATERMARK.with(|s| {
        s.run(Access::Write, &[arg(crate::pg::decode::PREFIX)], |rows| {
            rows.first().and_then(|row| row.lsn(1)).ok_or_else(missing)
        })
    })
}
