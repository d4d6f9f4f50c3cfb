//! Reading a chunk of a table's rows, as the table is now.

use crate::error::{Error, Result};
use crate::pg::exec::{condition, role};
use crate::store::backfills::{End, Job};
use crate::store::chunks::{self, Target, Wanted};
use crate::store::{tables, types};
use sequin_capture::json;
use sequin_capture::message::{self, Table};
use sequin_capture::pgoutput::{Identity, Relation, RelationColumn};
use sequin_capture::types::Types;
use sequin_capture::window::{Row, Snapshot};

/// Why a backfill ends early.
const NOT_PUBLISHED: &str = "the publication does not have the table";
const GONE: &str = "the table was dropped";

/// The result of an attempt to read a chunk.
pub enum Attempt {
    Read(Box<Table>, Snapshot, Vec<Row>),
    Ends(End, &'static str),
    Locked,
}

/// Reads up to `limit` rows after those that have been read, of the table as it is now. `target` is the table as it was
/// for the last chunk, and is set to the table as it was read.
pub fn read(
    publication: &str,
    source: &message::Source,
    (job, types, limit): (&Job, &mut Types, usize),
    target: &mut Option<Box<Target>>,
) -> Result<Attempt> {
    if !chunks::lock(job.tbl)? {
        return Ok(Attempt::Locked);
    }
    let Some(version) = chunks::version(publication, job.tbl)? else {
        return Ok(Attempt::Ends(End::Cancelled, GONE));
    };
    if target.as_ref().is_none_or(|target| target.version != version) {
        *target = chunks::target(publication, job.tbl, version)?;
    }
    let Some(target) = target else { return Ok(Attempt::Ends(End::Failed, NOT_PUBLISHED)) };
    let table = described(target, source);
    let key = match key_of(target, &table) {
        Ok(key) => key,
        Err(reason) => return Ok(Attempt::Ends(End::Failed, reason)),
    };
    // If the key was altered, reads from the beginning: the rows have another order, or other keys.
    let is_same = job.key_version.as_ref() == Some(&target.key_version);
    let wanted = Wanted {
        condition: job.condition.as_deref(),
        after: job.last_key.as_deref().filter(|_| is_same),
        limit,
    };
    role::as_role(job.owner, || {
        if let Some(text) = wanted.condition {
            condition::check(&target.facts.name, text)?;
        }
        let (snapshot, rows) = chunks::read(target, &wanted)?;
        types::load(types, &table.type_oids().collect::<Vec<_>>())?;
        let rows = rows.into_iter().map(|texts| row(&table, &key, &texts, types));
        let rows = rows.collect::<Result<Vec<Row>>>()?;
        Ok(Attempt::Read(Box::new(table), snapshot, rows))
    })
}

/// The positions of the key's columns, by which the table is read in order; or why that is not possible.
fn key_of(target: &Target, table: &Table) -> Result<Vec<usize>, &'static str> {
    let names: Vec<&str> = target.facts.key.iter().map(String::as_str).collect();
    if names.is_empty() {
        return Err("the table has no primary key to be read in the order of");
    }
    table.positions(&names).ok_or("the publication does not have all columns of the table's key")
}

/// Makes a chunk's row of a row that was read.
fn row(table: &Table, key: &[usize], texts: &[Option<String>], types: &Types) -> Result<Row> {
    let all = |columns: &[usize]| {
        columns.iter().map(|&column| texts.get(column)?.clone()).collect::<Option<Vec<String>>>()
    };
    let named = table.columns.iter().map(|column| (column.name.as_str(), column.type_oid));
    let cast = &mut |oid: u32, text: &str| tables::to_json(oid, text);
    Ok(Row {
        key: all(key).unwrap_or_default(),
        pk: all(&table.pk).filter(|pk| !pk.is_empty()),
        columns: table.key_values(texts),
        record: json::record::<Error>(types, named.zip(texts), cast)?,
    })
}

/// The table as messages describe it.
fn described(target: &Target, source: &message::Source) -> Table {
    let columns = target.columns.iter().map(|(name, type_oid)| RelationColumn {
        name,
        type_oid: *type_oid,
        is_key: target.facts.key.contains(name),
    });
    let relation = Relation {
        oid: target.oid.to_u32(),
        schema: &target.schema,
        name: &target.name,
        identity: Identity::Default,
        columns: columns.collect(),
    };
    let key: Vec<&str> = target.facts.key.iter().map(String::as_str).collect();
    Table::new(source, &relation, &key)
}
