//! Users' tables, as a source needs them: what identifies a row, and values that WAL doesn't have.

use super::statement;
use crate::error::Result;
use crate::pg::spi::{Access, Plan, Row, arg, connected};
use pgrx::pg_sys;
use pgrx::pg_sys::{OIDOID, TEXTOID};
use std::collections::HashMap;

statement!(
    DESCRIBE,
    "SELECT format('%I.%I', n.nspname, c.relname), c.relreplident::text \
     FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = $1",
    [OIDOID]
);
statement!(
    COLUMNS,
    "SELECT a.attname::text, format_type(a.atttypid, a.atttypmod), \
        CASE WHEN a.attgenerated = 's' THEN pg_get_expr(d.adbin, d.adrelid) END, \
        array_position(p.indkey::int[], a.attnum::int), array_position(r.indkey::int[], a.attnum::int) \
     FROM pg_attribute a \
     LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum \
     LEFT JOIN pg_index p ON p.indrelid = a.attrelid AND p.indisprimary \
     LEFT JOIN pg_index r ON r.indrelid = a.attrelid AND r.indisreplident \
     WHERE a.attrelid = $1 AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum",
    [OIDOID]
);

/// A table as it is now.
pub struct Facts {
    /// Its name as SQL has it.
    pub name: String,
    /// The columns of its primary key, in the order of the key.
    pub pk: Vec<String>,
    /// The columns by which the old version of a row is known: the replica identity's index, or the primary key.
    pub key: Vec<String>,
    /// Generated columns that are stored, with their expressions.
    pub generated: Vec<(String, String)>,
    /// The type of each column, as SQL has it.
    pub types: HashMap<String, String>,
}

/// What a table is like now; `None` if there is none any more.
pub fn describe(table: u32) -> Result<Option<Facts>> {
    let table = pg_sys::Oid::from(table);
    let found = DESCRIBE.with(|s| {
        s.run(Access::Latest, &[arg(table)], |rows| {
            rows.first().map(|row| Ok((row.need::<String>(1)?, row.need::<String>(2)?))).transpose()
        })
    })?;
    let Some((name, identity)) = found else { return Ok(None) };
    let (mut pk, mut index) = (Vec::new(), Vec::new());
    let (mut generated, mut types) = (Vec::new(), HashMap::new());
    let mut read = |row: Row| -> Result<()> {
        let column: String = row.need(1)?;
        types.insert(column.clone(), row.need(2)?);
        if let Some(expression) = row.get::<String>(3)? {
            generated.push((column.clone(), expression));
        }
        if let Some(at) = row.get::<i32>(4)? {
            pk.push((at, column.clone()));
        }
        if let Some(at) = row.get::<i32>(5)? {
            index.push((at, column));
        }
        Ok(())
    };
    COLUMNS.with(|s| {
        s.run(Access::Latest, &[arg(table)], |rows| rows.iter().try_for_each(&mut read))
    })?;
    let pk = in_order(pk);
    let key = if identity == "i" { in_order(index) } else { pk.clone() };
    Ok(Some(Facts { name, pk, key, generated, types }))
}

fn in_order(mut columns: Vec<(i32, String)>) -> Vec<String> {
    columns.sort_unstable();
    columns.into_iter().map(|(_, column)| column).collect()
}

/// A name as SQL has it.
pub fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// "a" = $1::text::integer AND ..: the row with these values in its columns.
fn is_row(facts: &Facts, columns: &[String], first: usize) -> Option<String> {
    let equals = columns.iter().enumerate().map(|(n, column)| {
        Some(format!("t.{} = ${}::text::{}", quoted(column), n + first, facts.types.get(column)?))
    });
    equals.collect::<Option<Vec<_>>>().map(|equals| equals.join(" AND "))
}

/// Values of a row, each as JSON text, if the row is still as transaction `xid` made it.
pub fn current_values(
    facts: &Facts,
    pk: &[&str],
    xid: u32,
    columns: &[&str],
) -> Result<Option<Vec<String>>> {
    let Some(is_row) = is_row(facts, &facts.pk, 1) else { return Ok(None) };
    let values =
        columns.iter().map(|c| format!("coalesce(to_jsonb(t.{})::text, 'null')", quoted(c)));
    let sql = format!(
        "SELECT ARRAY[{}] FROM {} t WHERE {is_row} AND t.xmin::text = ${}",
        values.collect::<Vec<_>>().join(", "),
        facts.name,
        pk.len() + 1
    );
    let mut args: Vec<_> = pk.iter().map(|&value| arg(value)).collect();
    args.push(arg(xid.to_string()));
    connected(|| {
        let plan = Plan::new(&sql, &vec![TEXTOID; args.len()])?;
        let rows = plan.execute(Access::Latest, &args)?;
        rows.first().map(|row| row.need::<Vec<String>>(1)).transpose()
    })
}

/// The values of stored generated columns, each as JSON text, from the others of a message's record.
pub fn generated_values(facts: &Facts, data: &str) -> Result<Vec<(String, String)>> {
    let values =
        facts.generated.iter().map(|(_, e)| format!("coalesce(to_jsonb({e})::text, 'null')"));
    let (_, relation) = facts.name.rsplit_once('.').unwrap_or(("", &facts.name));
    let sql = format!(
        "SELECT ARRAY[{}] FROM jsonb_populate_record(NULL::{}, $1::text::jsonb -> 'record') AS {relation}",
        values.collect::<Vec<_>>().join(", "),
        facts.name
    );
    connected(|| {
        let plan = Plan::new(&sql, &[TEXTOID])?;
        let rows = plan.execute(Access::Latest, &[arg(data)])?;
        let values: Vec<String> =
            rows.first().map(|row| row.need(1)).transpose()?.unwrap_or_default();
        Ok(facts.generated.iter().map(|(name, _)| name.clone()).zip(values).collect())
    })
}

/// A value, given as its type's output function writes it, as to_jsonb() has it.
pub fn to_json(type_oid: u32, text: &str) -> Result<String> {
    thread_local! {
        static TYPE: crate::pg::spi::Statement = const {
            crate::pg::spi::Statement::new("SELECT format_type($1, NULL)", &[OIDOID])
        };
    }
    let name = TYPE.with(|s| {
        s.run(Access::Latest, &[arg(pg_sys::Oid::from(type_oid))], |rows| {
            rows.first().map(|row| row.need::<String>(1)).transpose()
        })
    })?;
    connected(|| {
        let sql =
            format!("SELECT to_jsonb($1::text::{})::text", name.unwrap_or_else(|| "text".into()));
        let plan = Plan::new(&sql, &[TEXTOID])?;
        let rows = plan.execute(Access::Latest, &[arg(text)])?;
        Ok(rows
            .first()
            .map(|row| row.get::<String>(1))
            .transpose()?
            .flatten()
            .unwrap_or_else(|| "null".into()))
    })
}
