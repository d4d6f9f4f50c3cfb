//! Users' tables, as a source needs them: the columns that identify a row, and values that WAL doesn't have.

use super::statement;
use crate::error::Result;
use crate::pg::exec::savepoint::in_savepoint;
use crate::pg::exec::spi::{Access, Arg, Plan, Row, arg, connected};
use crate::pg::exec::{input, role};
use pgrx::pg_sys;
use pgrx::pg_sys::TEXTOID;
use sequin_capture::json;
use std::collections::HashMap;

statement!(
    DESCRIBE,
    "SELECT format('%I.%I', n.nspname, c.relname), c.relreplident::text, c.relowner \
     FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = $1",
    [OIDOID]
);
statement!(
    COLUMNS,
    "SELECT a.attname::text, a.atttypid, a.attnum, \
        array_position((p.indkey::int[])[:p.indnkeyatts - 1], a.attnum::int), \
        array_position((r.indkey::int[])[:r.indnkeyatts - 1], a.attnum::int) \
     FROM pg_attribute a \
     LEFT JOIN pg_index p ON p.indrelid = a.attrelid AND p.indisprimary \
     LEFT JOIN pg_index r ON r.indrelid = a.attrelid AND r.indisreplident \
     WHERE a.attrelid = $1 AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum",
    [OIDOID]
);
statement!(TYPE, "SELECT format_type(oid, NULL), typowner FROM pg_type WHERE oid = $1", [OIDOID]);

/// A table as it is now.
pub struct Facts {
    /// Its name with its schema, quoted as SQL needs it.
    pub name: String,
    /// The columns that identify a row, in their order: those of the replica identity's index, or of the primary key.
    pub key: Vec<String>,
    /// The number and the type of each column.
    columns: HashMap<String, (i16, pg_sys::Oid)>,
    /// The type of each column; the base type for a domain.
    types: HashMap<String, pg_sys::Oid>,
    /// The columns whose type is a domain.
    domains: Vec<String>,
    /// The table's owner: input functions run with this role's rights.
    owner: pg_sys::Oid,
}

/// Describes a table as it is now; `None` if it doesn't exist any more.
pub fn describe(table: u32) -> Result<Option<Facts>> {
    let table = pg_sys::Oid::from(table);
    let found = DESCRIBE.with(|s| {
        s.run(Access::Latest, &[arg(table)], |rows| {
            let read = |row: Row| Ok((row.need(1)?, row.need::<String>(2)?, row.need(3)?));
            rows.first().map(read).transpose()
        })
    })?;
    let Some((name, identity, owner)) = found else { return Ok(None) };
    let (mut pk, mut index) = (Vec::new(), Vec::new());
    let (mut columns, mut types, mut domains) = (HashMap::new(), HashMap::new(), Vec::new());
    let mut read = |row: Row| -> Result<()> {
        let column: String = row.need(1)?;
        let declared = row.need(2)?;
        let base = input::base_type(declared);
        if base != declared {
            domains.push(column.clone());
        }
        types.insert(column.clone(), base);
        columns.insert(column.clone(), (row.need(3)?, declared));
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
    // If the replica identity's index was dropped, the primary key is used.
    let key = if identity == "i" && !index.is_empty() { index } else { pk };
    Ok(Some(Facts { name, key: in_order(key), columns, types, domains, owner }))
}

fn in_order(mut columns: Vec<(i32, String)>) -> Vec<String> {
    columns.sort_unstable();
    columns.into_iter().map(|(_, column)| column).collect()
}

/// A name, quoted.
pub fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

impl Facts {
    /// The types of the key's columns, and whether a column is of a domain made of it.
    pub fn key_types(&self) -> impl Iterator<Item = (pg_sys::Oid, bool)> {
        let found = |c: &String| self.types.get(c).map(|&oid| (oid, self.domains.contains(c)));
        self.key.iter().filter_map(found)
    }

    /// Whether a column of this name is this one, of this type.
    pub fn has(&self, name: &str, number: i16, type_oid: u32) -> bool {
        self.columns.get(name) == Some(&(number, pg_sys::Oid::from(type_oid)))
    }

    /// The types of columns, and their values from texts: arguments for a statement. `None` if a column is gone. This
    /// uses the types' input functions, not casts in the statement: the code that they call must not run with the
    /// rights of the statement's caller.
    pub fn args<T: AsRef<str>>(
        &self,
        columns: &[String],
        texts: &[T],
    ) -> Result<Option<(Vec<pg_sys::Oid>, Vec<Arg>)>> {
        let types: Option<Vec<pg_sys::Oid>> =
            columns.iter().map(|column| self.types.get(column).copied()).collect();
        let Some(types) = types.filter(|types| types.len() == texts.len()) else { return Ok(None) };
        role::as_author(self.owner, || {
            let values =
                types.iter().zip(texts).map(|(oid, text)| input::value(*oid, text.as_ref()));
            values.collect::<Result<Vec<Arg>>>()
        })
        .map(|values| Some((types, values)))
    }
}

/// Values of a row, each as JSON text, if the row is still as transaction `xid` made it. `key` and `values` identify
/// the row.
pub fn current_values(
    facts: &Facts,
    key: &[String],
    values: &[&str],
    xid: u32,
    columns: &[&str],
) -> Result<Option<Vec<String>>> {
    let Some((mut types, mut args)) = facts.args(key, values)? else { return Ok(None) };
    let equals = key.iter().zip(1..).map(|(c, n)| format!("t.{} = ${n}", quoted(c)));
    let is_row = equals.collect::<Vec<_>>().join(" AND ");
    let wanted =
        columns.iter().map(|c| format!("coalesce(to_jsonb(t.{})::text, 'null')", quoted(c)));
    let sql = format!(
        "SELECT ARRAY[{}] FROM {} t WHERE {is_row} AND t.xmin::text = ${}",
        wanted.collect::<Vec<_>>().join(", "),
        facts.name,
        key.len() + 1
    );
    types.push(TEXTOID);
    args.push(arg(xid.to_string()));
    connected(|| {
        let plan = Plan::new(&sql, &types)?;
        let rows = plan.execute(Access::Latest, &args)?;
        rows.first().map(|row| row.need::<Vec<String>>(1)).transpose()
    })
}

/// A value as to_jsonb() converts it, given as its type's output function writes it. The conversion calls the type's
/// cast to json, a function of the type's owner. The result is a string if that raises an ERROR.
pub fn to_json(type_oid: u32, text: &str) -> Result<String> {
    let oid = pg_sys::Oid::from(type_oid);
    let read = |row: Row| Ok((row.need::<String>(1)?, row.need(2)?));
    let found = TYPE
        .with(|s| s.run(Access::Latest, &[arg(oid)], |rows| rows.first().map(read).transpose()))?;
    let cast = |sql: &str| {
        connected(|| {
            let plan = Plan::new(sql, &[TEXTOID])?;
            let rows = plan.execute(Access::Latest, &[arg(text)])?;
            rows.first().map(|row| row.get::<String>(1)).transpose().map(Option::flatten)
        })
    };
    let cast = found.map(|(name, owner): (String, pg_sys::Oid)| {
        let sql = format!("SELECT to_jsonb($1::text::{name})::text");
        role::as_author(owner, || in_savepoint(|| cast(&sql)))
    });
    Ok(match cast {
        Some(Ok(json)) => json.unwrap_or_else(|| "null".into()),
        Some(Err(_)) | None => {
            let mut string = String::new();
            json::write_string(&mut string, text);
            string
        }
    })
}
