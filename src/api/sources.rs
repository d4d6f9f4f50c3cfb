//! Table sources.

use super::capturable::{check_publication, chosen, may_read};
use super::check::{name, required};
use super::rights;
use crate::error::{Error, Result};
use crate::pg::exec::datum::{RegClass, RegClassArray, RegRole};
use crate::pg::exec::{catalog, condition, role};
use crate::store::publications::{self, Candidate, Published};
use crate::store::slots::{self, Server};
use crate::store::sources::{self, Source};
use crate::store::{backfills, streams};
use pgrx::pg_sys;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;
use sequin_capture::key_format::KeyFormat;

#[pg_extern]
fn create_source(
    name: Option<&str>,
    stream: Option<&str>,
    tables: default!(Option<RegClassArray>, "NULL"),
    publication: default!(Option<&str>, "NULL"),
    key_format: default!(Option<&str>, "'{schema}.{table}.{pk}'"),
    backfill: default!(Option<bool>, "true"),
) -> Result<(), ErrorReport> {
    let name = self::name(name, "source", "name")?;
    let stream = self::name(stream, "stream", "stream")?;
    let key_format = checked(required(key_format, "key_format")?)?;
    let backfill = required(backfill, "backfill")?;
    if tables.is_some() && publication.is_some() {
        return Err(Error::TwoPublications.into());
    }
    may_feed(&stream, role::current())?;
    if sources::exists(&name)? {
        return Err(Error::SourceExists(name).into());
    }
    let tables = match publication {
        Some(publication) => {
            check_publication(publication, backfill)?;
            None
        }
        None => {
            let own = publications::own_name(&name);
            if publications::find(&own)?.is_some() {
                return Err(Error::PublicationExists(own).into());
            }
            chosen(tables, backfill)?
        }
    };
    let server = ready_server()?;
    let source = Source {
        id: server.new_id,
        stream,
        owner: role::current(),
        publication: publication.map_or_else(|| publications::own_name(&name), Into::into),
        owns_publication: publication.is_none(),
        key_format: key_format.into(),
        backfill,
        paused: false,
        generation: 1,
        is_here: true,
        name,
    };
    let slot = sources::slot_name(server.database, source.id, source.generation);
    // PostgreSQL makes no slot in a transaction that has written: so nothing is written before this.
    slots::lock_sources(false)?;
    let made = slots::create(&slot)?;
    if source.owns_publication {
        publications::create(&source.name, tables.as_deref())?;
    }
    streams::keep(&source.stream)?;
    sources::insert(&source, server.system, server.database)?;
    sources::remember_tables(&source.name)?;
    if backfill {
        read_all(&source, publications::tables(&source.publication)?)?;
    }
    if made {
        slots::mark(&slot)?;
    }
    Ok(())
}

#[pg_extern]
fn alter_source(
    name: Option<&str>,
    stream: default!(Option<&str>, "NULL"),
    tables: default!(Option<RegClassArray>, "NULL"),
    key_format: default!(Option<&str>, "NULL"),
    owner: default!(Option<RegRole>, "NULL"),
) -> Result<(), ErrorReport> {
    let source = mine(name, "name")?;
    let stream = stream.map(|stream| self::name(Some(stream), "stream", "stream")).transpose()?;
    let owner = owner.map(rights::new_owner).transpose()?;
    if stream.is_some() || owner.is_some() {
        let stream = stream.as_deref().unwrap_or(&source.stream);
        may_feed(stream, owner.unwrap_or(source.owner))?;
    }
    let key_format = key_format.map(checked).transpose()?;
    if tables.is_some() {
        set_tables(&source, chosen(tables, source.backfill)?.unwrap_or_default())?;
        sources::remember_tables(&source.name)?;
    }
    stream.as_deref().map_or(Ok(()), streams::keep)?;
    sources::alter(&source.name, stream.as_deref(), key_format)?;
    Ok(owner.map_or(Ok(()), |owner| sources::give(&source.name, owner))?)
}

#[pg_extern]
fn pause_source(name: Option<&str>) -> Result<(), ErrorReport> {
    Ok(sources::pause(&mine(name, "name")?.name, true)?)
}

#[pg_extern]
fn resume_source(name: Option<&str>) -> Result<(), ErrorReport> {
    let name = mine(name, "name")?.name;
    let server = ready_server()?;
    slots::lock_sources(true)?;
    let source = sources::find(&name)?;
    if may_go_on(&source, &server)? {
        sources::remember_tables(&name)?;
        return Ok(sources::pause(&name, false)?);
    }
    if publications::find(&source.publication)?.is_none() {
        return Err(
            Error::PublicationGone { source_name: name, publication: source.publication }.into()
        );
    }
    let tables = publications::tables(&source.publication)?;
    for table in tables.iter().filter(|_| source.backfill) {
        may_read(table.oid, &table.name)?;
    }
    let generation = source.generation + 1;
    let slot = sources::slot_name(server.database, source.id, generation);
    let made = slots::create(&slot)?;
    if source.owns_publication {
        publications::keep_with_extension(&source.publication)?;
    }
    sources::restart(&name, generation, server.system, server.database)?;
    sources::remember_tables(&name)?;
    if source.backfill {
        backfills::cancel_all(&name)?;
        read_all(&source, tables)?;
    }
    if made {
        slots::mark(&slot)?;
    }
    Ok(())
}

#[pg_extern]
fn drop_source(name: Option<&str>) -> Result<(), ErrorReport> {
    Ok(forget(&mine(name, "name")?)?)
}

#[pg_extern]
fn backfill(
    source: Option<&str>,
    tbl: Option<RegClass>,
    condition: default!(Option<&str>, "NULL"),
) -> Result<i64, ErrorReport> {
    let source = mine(source, "source")?;
    let tbl = pg_sys::Oid::from(required(tbl, "tbl")?);
    let published = publications::tables(&source.publication)?;
    let Some(table) = published.into_iter().find(|table| table.oid == tbl) else {
        let table = catalog::relation_name(tbl);
        return Err(Error::NotPublished { source_name: source.name, table }.into());
    };
    may_read(table.oid, &table.name)?;
    if !table.has_key {
        return Err(Error::NoBackfillKey(table.name).into());
    }
    if let Some(condition) = condition {
        condition::check(&table.name, condition)?;
    }
    Ok(backfills::insert(&source.name, table.oid, condition)?)
}

#[pg_extern]
fn cancel_backfill(id: Option<i64>) -> Result<bool, ErrorReport> {
    let id = required(id, "id")?;
    mine(Some(&backfills::source(id)?), "source")?;
    Ok(backfills::cancel(id)?)
}

/// Drops a source, and its publication if sequin has made that. The dispatcher drops its slot.
pub fn forget(source: &Source) -> Result<()> {
    sources::delete(&source.name)?;
    if source.owns_publication { publications::drop(&source.name) } else { Ok(()) }
}

/// A source that the caller may change: the caller has the rights of its owner.
fn mine(name: Option<&str>, argument: &'static str) -> Result<Source> {
    let source = sources::find(required(name, argument)?)?;
    if role::has_rights_of(role::current(), source.owner) {
        return Ok(source);
    }
    if !role::exists(source.owner) {
        return Err(Error::OwnerGone { what: "source", name: source.name });
    }
    let owner = catalog::role_name(source.owner);
    Err(Error::NotSourceOwner { source_name: source.name, owner })
}

/// Checks that a role may publish to a stream.
fn may_feed(stream: &str, owner: pg_sys::Oid) -> Result<()> {
    let table = streams::table(stream)?;
    if !role::may_insert(owner, table) {
        return Err(Error::NoInsert(stream.into()));
    }
    if streams::exists(stream)? { Ok(()) } else { Err(Error::NoStream(stream.into())) }
}

/// Checks that the server can run sources.
fn ready_server() -> Result<Server> {
    let server = slots::server()?;
    if server.is_read_only {
        return Err(Error::ReadOnly);
    }
    if server.is_logical { Ok(server) } else { Err(Error::WalLevel) }
}

fn checked(key_format: &str) -> Result<&str> {
    KeyFormat::parse(key_format)?;
    Ok(key_format)
}

/// True if the source needs no new slot: it has one that is usable, or its capturer is still to make the first.
fn may_go_on(source: &Source, server: &Server) -> Result<bool> {
    if !source.is_here {
        return Ok(false);
    }
    let slot = sources::slot_name(server.database, source.id, source.generation);
    let state = slots::state(&slot, source.id, source.generation)?;
    Ok(!state.is_lost && (state.exists || !state.has_progress))
}

/// Sets the tables of the source's own publication, and starts backfills of those that are new in it.
fn set_tables(source: &Source, tables: Vec<Candidate>) -> Result<()> {
    if !source.owns_publication {
        return Err(Error::NotOwnPublication {
            source_name: source.name.clone(),
            publication: source.publication.clone(),
        });
    }
    let before = publications::tables(&source.publication)?;
    match publications::find(&source.publication)? {
        Some(publication) if !publication.all_tables => {
            publications::set_tables(&source.name, &tables)?;
        }
        // A publication FOR ALL TABLES can't be narrowed, so it is dropped and made again; one that was dropped by hand
        // is made again.
        _ => {
            publications::drop(&source.name)?;
            publications::create(&source.name, Some(&tables))?;
        }
    }
    let after = publications::tables(&source.publication)?;
    backfills::cancel_others(&source.name, after.iter().map(|table| table.oid).collect())?;
    if !source.backfill {
        return Ok(());
    }
    let is_new = |table: &Published| before.iter().all(|old| old.oid != table.oid);
    read_all(source, after.into_iter().filter(is_new).collect())
}

/// Starts a backfill of each of these tables, which reads as the current role. The caller has checked that it may.
fn read_all(source: &Source, tables: Vec<Published>) -> Result<()> {
    for table in tables {
        if table.has_key {
            backfills::insert(&source.name, table.oid, None)?;
        } else {
            warn_of_no_key(&table.name);
        }
    }
    Ok(())
}

fn warn_of_no_key(table: &str) {
    let message = format!("the rows that table {table} has by now are not captured");
    ErrorReport::new(PgSqlErrorCode::ERRCODE_WARNING, message, "sequin")
        .set_detail("It has no primary key to read it by.")
        .set_hint(
            "Add a primary key, then call sequin.backfill(). Changes of the table are captured.",
        )
        .report(PgLogLevel::WARNING);
}
