//! Keys and filters.

use super::check::required;
use crate::error::Error;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;
use sequin_engine::{filter, key};

#[pg_extern(immutable, parallel_safe)]
fn key_matches(key: Option<&str>, filter: Option<&str>) -> Result<bool, ErrorReport> {
    let key = required(key, "key")?;
    key::check_key(key).map_err(Error::from)?;
    Ok(filter::key_matches(key, required(filter, "filter")?).map_err(Error::from)?)
}

/// For the CHECK constraint of streams' tables: true, or the error that says what is wrong with the key.
#[pg_extern(immutable, parallel_safe)]
fn check_key(key: Option<&str>) -> Result<bool, ErrorReport> {
    let checked = key.map_or(Ok(()), key::check_key);
    Ok(checked.map(|()| true).map_err(Error::from)?)
}
