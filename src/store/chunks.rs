//! Reading a table's existing rows in chunks, in the order of its key. Columns and rows that the publication leaves out
//! are left out here too.
//!
//! For each chunk the table is locked first, then looked up in the catalogs, and the snapshot is taken last. To an
//! older snapshot, a table that was truncated or rewritten by ALTER TABLE since is empty: the chunk would be taken for
//! the table's end.

use super::statement;
use super::tables::{self, Facts, quoted};
use crate::error::{Error, Result};
use crate::pg::exec::spi::{Access, Plan, arg, connected};
use crate::pg::exec::{catalog, input, snapshot};
use pgrx::pg_sys::{self, INT4OID};
use sequin_capture::window::Snapshot;

statement!(SNAPSHOT, "SELECT pg_current_snapshot()::text", []);
statement!(
    HORIZON,
    "SELECT pg_snapshot_xmin(s)::text::bigint, pg_snapshot_xmax(s)::text::bigint FROM pg_current_snapshot() s",
    []
);
statement!(WATERMARK, "SELECT pg_logical_emit_message(false, $1, 'watermark')", [TEXTOID]);
// The whole row unless the publication has a column list; generated columns are never in one before PostgreSQL 18. Read
// through to_jsonb, since the view lacks these columns in PostgreSQL 14, which has neither column lists nor row
// filters.
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
// The table itself, and its partitions.
statement!(
    PARTITIONS,
    "WITH RECURSIVE t (oid) AS ( \
        SELECT $1 UNION SELECT i.inhrelid FROM t JOIN pg_class p ON p.oid = t.oid AND p.relkind = 'p' \
            JOIN pg_inherits i ON i.inhparent = p.oid) \
     SELECT oid FROM t",
    [OIDOID]
);
// Doesn't use pg_publication_tables, which examines all tables of the publication, and in some versions locks each.
statement!(
    VERSION,
    "SELECT md5(concat_ws('|', n.nspname, c.relname, c.relkind, c.relreplident, c.relowner, \
        (SELECT string_agg(concat_ws('/', a.attnum, a.attname, a.xmin), ' ' ORDER BY a.attnum) \
         FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0), \
        (SELECT string_agg(concat_ws('/', i.indexrelid, i.indkey, i.indisprimary, i.indisreplident), ' ' ORDER BY i.indexrelid) \
         FROM pg_index i WHERE i.indrelid = c.oid AND (i.indisprimary OR i.indisreplident)), \
        (SELECT string_agg(a.relid::oid::text, ' ') FROM pg_partition_ancestors(c.oid) a), \
        p.oid, p.xmin, \
        (SELECT string_agg(concat_ws('/', d.classid, d.objid), ' ' ORDER BY d.classid, d.objid) FROM pg_depend d \
         WHERE d.refclassid = 'pg_publication'::regclass AND d.refobjid = p.oid))) \
     FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
     LEFT JOIN pg_publication p ON p.pubname = $1 WHERE c.oid = $2",
    [TEXTOID, OIDOID]
);
// ALTER TABLE updates the pg_attribute row of a column that it alters. So xmin differs if a column of the key was
// altered, but not if the table was moved to another schema.
statement!(
    KEY_VERSION,
    "SELECT coalesce(string_agg(concat_ws('/', a.attnum, a.atttypid, a.attcollation, a.xmin), ' ' ORDER BY k.n), '') \
     FROM unnest($2) WITH ORDINALITY k (name, n) \
     JOIN pg_attribute a ON a.attrelid = $1 AND a.attname = k.name AND NOT a.attisdropped",
    [OIDOID, TEXTARRAYOID]
);
statement!(
    OPERATOR,
    "SELECT format('OPERATOR(%I.%s)', n.nspname, o.oprname), '::' || format_type($2, -1) \
     FROM pg_operator o JOIN pg_namespace n ON n.oid = o.oprnamespace WHERE o.oid = $1",
    [OIDOID, OIDOID]
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
    pub facts: Facts,
    /// See [`version`].
    pub version: String,
    /// Differs once a column of the key was altered, or other columns are the key: then the last key that was read
    /// doesn't tell which rows are left.
    pub key_version: String,
    /// How to compare each column of the key.
    order: Vec<Order>,
}

/// The operators of a type's default order, which ORDER BY uses. For a type of an extension, such as citext, the
/// search_path would find others.
struct Order {
    greater: String,
    equal: String,
    /// The cast of a domain's value to its base type; empty for other types.
    cast: String,
}

/// Which rows are wanted.
pub struct Wanted<'a> {
    pub condition: Option<&'a str>,
    /// Only rows behind this key.
    pub after: Option<&'a [String]>,
    pub limit: usize,
}

/// A row: the text of each column, as its type's output function writes it.
pub type Texts = Vec<Option<String>>;

/// Locks a table for reading, until the end of the transaction. False if another session has locked it, or a partition,
/// for ALTER TABLE or VACUUM FULL. This doesn't wait: a lock request in the queue would block all sessions behind it.
pub fn lock(table: pg_sys::Oid) -> Result<bool> {
    let all: Vec<pg_sys::Oid> = PARTITIONS.with(|s| {
        s.run(Access::Latest, &[arg(table)], |rows| rows.iter().map(|row| row.need(1)).collect())
    })?;
    Ok(all.into_iter().all(catalog::try_lock_for_reading))
}

/// A digest of all that a target is made of: it differs if anything of that has changed. `None` if there is no such
/// table.
pub fn version(publication: &str, table: pg_sys::Oid) -> Result<Option<String>> {
    VERSION.with(|s| {
        s.run(Access::Latest, &[arg(publication), arg(table)], |rows| {
            rows.first().map(|row| row.need(1)).transpose()
        })
    })
}

/// The table as the publication has it now. `version` is its [`version`]. `None` if the publication doesn't have it.
pub fn target(
    publication: &str,
    table: pg_sys::Oid,
    version: String,
) -> Result<Option<Box<Target>>> {
    let Some(facts) = tables::describe(table.to_u32())? else { return Ok(None) };
    let mut columns: Vec<(String, u32)> = COLUMNS.with(|s| {
        s.run(Access::Latest, &[arg(table)], |rows| {
            rows.iter()
                .map(|row| Ok((row.need(1)?, row.need::<pg_sys::Oid>(2)?.to_u32())))
                .collect()
        })
    })?;
    let order = facts.key_types().map(order).collect::<Result<Vec<_>>>()?;
    let args = [arg(table), arg(facts.key.clone())];
    let key_version =
        KEY_VERSION.with(|s| s.run(Access::Latest, &args, |rows| rows.one()?.need(1)))?;
    PUBLISHED.with(|s| {
        s.run(Access::Latest, &[arg(publication), arg(table)], |rows| {
            let Some(row) = rows.first() else { return Ok(None) };
            let listed: Option<Vec<String>> = row.get(5)?;
            if let Some(listed) = listed {
                columns.retain(|(name, _)| listed.contains(name));
            }
            Ok(Some(Box::new(Target {
                oid: table,
                schema: row.need(1)?,
                name: row.need(2)?,
                is_partitioned: row.need(3)?,
                filter: row.get(4)?,
                columns,
                facts,
                version,
                key_version,
                order,
            })))
        })
    })
}

fn order((type_oid, is_domain): (pg_sys::Oid, bool)) -> Result<Order> {
    let missing = || Error::Internal("a column of the key has a type without an order".into());
    let look_up = |operator: pg_sys::Oid| {
        OPERATOR.with(|s| {
            s.run(Access::Latest, &[arg(operator), arg(type_oid)], |rows| {
                let row = rows.first().ok_or_else(missing)?;
                Ok((row.need::<String>(1)?, row.need::<String>(2)?))
            })
        })
    };
    let (greater, equal) = input::order(type_oid);
    let (equal, cast) = look_up(equal)?;
    let cast = if is_domain { cast } else { String::new() };
    Ok(Order { greater: look_up(greater)?.0, equal, cast })
}

/// Reads up to `limit` rows of a locked table in the order of the key, under a snapshot of its own, which it returns.
pub fn read(target: &Target, wanted: &Wanted) -> Result<(Snapshot, Vec<Texts>)> {
    let sql = query(target, wanted);
    let after = wanted.after.unwrap_or_default();
    let columns = &target.facts.key[..after.len().min(target.facts.key.len())];
    let missing = || Error::Internal("a column of the key is gone".into());
    let (mut types, mut args) = target.facts.args(columns, after)?.ok_or_else(missing)?;
    args.push(arg(i32::try_from(wanted.limit).unwrap_or(i32::MAX)));
    types.push(INT4OID);
    snapshot::with_newest(|| {
        connected(|| {
            let plan = Plan::new(&sql, &types)?;
            let rows = plan.execute(Access::Snapshot, &args)?;
            let rows = rows.iter().map(|row| row.need(1)).collect::<Result<Vec<Texts>>>()?;
            // The snapshot that the rows were read under: it is still the active one.
            let text: String =
                SNAPSHOT.with(|s| s.run(Access::Snapshot, &[], |rows| rows.one()?.need(1)))?;
            let snapshot = Snapshot::parse(&text).ok_or(Error::Internal(text))?;
            Ok((snapshot, rows))
        })
    })
}

fn query(target: &Target, wanted: &Wanted) -> String {
    let table = quoted(&target.name);
    let column = |name: &String| format!("{table}.{}", quoted(name));
    let columns = |names: &[String]| names.iter().map(column).collect::<Vec<_>>().join(", ");
    let text = |(name, _): &(String, u32)| {
        format!("CASE WHEN num_nulls({0}) = 0 THEN format('%s', {0}) END", column(name))
    };
    let facts = &target.facts;
    let mut conditions: Vec<String> = Vec::new();
    if let Some(after) = wanted.after {
        conditions.push(behind(target, &column, after.len()));
    }
    // A line break follows each condition, since it may end in a comment.
    conditions.extend(target.filter.iter().map(|filter| format!("({filter}\n)")));
    conditions.extend(wanted.condition.map(|condition| format!("({condition}\n)")));
    let filter = match conditions.is_empty() {
        true => String::new(),
        false => format!(" WHERE {}", conditions.join(" AND ")),
    };
    format!(
        "SELECT ARRAY[{}]::text[] FROM {}{}{filter} ORDER BY {} LIMIT ${}",
        target.columns.iter().map(text).collect::<Vec<_>>().join(", "),
        if target.is_partitioned { "" } else { "ONLY " },
        facts.name,
        columns(&facts.key),
        wanted.after.map_or(0, <[String]>::len) + 1,
    )
}

/// The SQL condition that a row's key is behind the key in the first arguments.
fn behind(target: &Target, column: &impl Fn(&String) -> String, args: usize) -> String {
    let cast = |(name, order): (&String, &Order)| format!("{}{}", column(name), order.cast);
    let key: Vec<String> = target.facts.key.iter().zip(&target.order).map(cast).collect();
    if target.order.iter().all(|order| order.greater == "OPERATOR(pg_catalog.>)") {
        let values: Vec<String> = (1..=args).map(|n| format!("${n}")).collect();
        return format!("({}) > ({})", key.join(", "), values.join(", "));
    }
    // A row comparison needs operators of one name in one schema. Otherwise the columns are compared one by one.
    let (mut before, mut ways) = (String::new(), Vec::new());
    for ((column, order), n) in key.iter().zip(&target.order).zip(1..) {
        ways.push(format!("{before}{column} {} ${n}", order.greater));
        before.push_str(&format!("{column} {} ${n} AND ", order.equal));
    }
    format!("({})", ways.join(" OR "))
}

/// Two transaction ids: all transactions before the first have ended, all from the second on have not begun.
pub fn horizon() -> Result<(i64, i64)> {
    HORIZON.with(|s| {
        s.run(Access::Latest, &[], |rows| {
            let row = rows.one()?;
            Ok((row.need(1)?, row.need(2)?))
        })
    })
}

/// Puts a watermark into the WAL and returns where it ends: a position that nothing else has.
pub fn watermark() -> Result<u64> {
    let args = [arg(crate::pg::wal::output::PREFIX)];
    WATERMARK.with(|s| s.run(Access::Write, &args, |rows| rows.one()?.lsn(1)))
}
