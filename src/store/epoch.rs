//! `sequin.epoch`: each dispatcher takes the next value, so that no ack_id is ever given twice.

use super::statement;
use crate::error::{Error, Result};
use crate::pg::exec::spi::Access;

statement!(TAKE, "SELECT pg_catalog.nextval('sequin.epoch')", []);

/// The next epoch. It is durable when the caller's transaction has committed.
pub fn take() -> Result<i64> {
    let missing = || Error::Internal("sequin.epoch gave nothing".into());
    TAKE.with(|s| s.run(Access::Write, &[], |rows| rows.first().ok_or_else(missing)?.need(1)))
}
