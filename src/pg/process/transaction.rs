//! Transactions of workers, which survive an error.

use crate::error::{Error, Result};
use pgrx::pg_sys;
use pgrx::pg_sys::panic::CaughtError;
use std::panic::AssertUnwindSafe;

/// Runs `f` in a transaction of its own. An error, PostgreSQL's or sequin's, rolls it back and is returned as text; the
/// worker goes on.
pub fn transaction<R>(f: impl FnOnce() -> Result<R>) -> Result<R, String> {
    try_transaction(f).map_err(|failure| failure.text)
}

/// Why a transaction failed.
pub struct TxError {
    pub text: String,
    /// It waited for a lock for longer than lock_timeout, or met a deadlock: a later attempt may succeed.
    pub is_lock: bool,
    /// So may one that failed for want of resources, was cancelled, or met a fault of the server's: the SQLSTATE is of class
    /// 40, 53, 57, 58 or XX.
    pub is_passing: bool,
}

/// As [`transaction`], for a caller that tries again where only a lock was in the way.
pub fn try_transaction<R>(f: impl FnOnce() -> Result<R>) -> Result<R, TxError> {
    // SAFETY: no transaction is open, which is how workers are between steps.
    unsafe {
        pg_sys::pgstat_report_activity(pg_sys::BackendState::STATE_RUNNING, std::ptr::null());
        pg_sys::SetCurrentStatementStartTimestamp();
        pg_sys::StartTransactionCommand();
        // SPI needs an active snapshot. Reads that must see the newest commits take a snapshot of their own.
        pg_sys::PushActiveSnapshot(pg_sys::GetTransactionSnapshot());
    }
    let result = pgrx::PgTryBuilder::new(AssertUnwindSafe(|| match f() {
        Ok(value) => {
            // SAFETY: the transaction begun above.
            unsafe {
                pg_sys::PopActiveSnapshot();
                pg_sys::CommitTransactionCommand();
            }
            Ok(value)
        }
        Err(error) => Err(error.into()),
    }))
    .catch_others(|caught| Err(failure(caught)))
    .catch_rust_panic(|caught| Err(failure(caught)))
    .execute();
    // SAFETY: ends the transaction if the commit above hasn't; statistics are reported between transactions.
    unsafe {
        if result.is_err() {
            pg_sys::AbortCurrentTransaction();
        }
        pg_sys::pgstat_report_stat(false);
        pg_sys::pgstat_report_activity(pg_sys::BackendState::STATE_IDLE, std::ptr::null());
    }
    result
}

/// Runs `f` outside of a transaction. An error, PostgreSQL's or sequin's, is returned as text. Nothing cleans up after
/// it but the end of the process.
pub fn attempt<R>(f: impl FnOnce() -> Result<R>) -> Result<R, String> {
    pgrx::PgTryBuilder::new(AssertUnwindSafe(|| f().map_err(|error| error.describe())))
        .catch_others(|caught| Err(describe(caught)))
        .catch_rust_panic(|caught| Err(describe(caught)))
        .execute()
}

impl From<Error> for TxError {
    fn from(error: Error) -> TxError {
        let is_lock = matches!(error, Error::PartitionLocked(_));
        TxError { text: error.describe(), is_lock, is_passing: is_lock }
    }
}

pub(in crate::pg) fn failure(caught: CaughtError) -> TxError {
    use pgrx::PgSqlErrorCode::{ERRCODE_LOCK_NOT_AVAILABLE, ERRCODE_T_R_DEADLOCK_DETECTED};
    let code = match &caught {
        CaughtError::PostgresError(report) => Some(report.sql_error_code()),
        _ => None,
    };
    let is_lock = matches!(code, Some(ERRCODE_LOCK_NOT_AVAILABLE | ERRCODE_T_R_DEADLOCK_DETECTED));
    let is_passing = is_lock || code.is_some_and(|code| is_of_passing_class(code as i32));
    TxError { text: describe(caught), is_lock, is_passing }
}

/// By the first two characters of the SQLSTATE, as ERRCODE_TO_CATEGORY has them.
fn is_of_passing_class(code: i32) -> bool {
    let character = |letter: u8| (i32::from(letter) - i32::from(b'0')) & 0x3f;
    let is_of = |class: &[u8; 2]| code & 0xfff == character(class[0]) + (character(class[1]) << 6);
    [b"40", b"53", b"57", b"58", b"XX"].into_iter().any(is_of)
}

fn describe(caught: CaughtError) -> String {
    match caught {
        CaughtError::PostgresError(report)
        | CaughtError::ErrorReport(report)
        | CaughtError::RustPanic { ereport: report, .. } => match report.detail() {
            Some(detail) => format!("{} ({detail})", report.message()),
            None => report.message().into(),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::is_of_passing_class;
    use pgrx::PgSqlErrorCode::*;

    #[test]
    fn what_may_pass_is_told_by_the_class() {
        for passing in [
            ERRCODE_T_R_SERIALIZATION_FAILURE,
            ERRCODE_DISK_FULL,
            ERRCODE_QUERY_CANCELED,
            ERRCODE_IO_ERROR,
            ERRCODE_INTERNAL_ERROR,
        ] {
            assert!(is_of_passing_class(passing as i32), "{passing:?}");
        }
        for lasting in [
            ERRCODE_UNDEFINED_TABLE,
            ERRCODE_INSUFFICIENT_PRIVILEGE,
            ERRCODE_RAISE_EXCEPTION,
            ERRCODE_CHECK_VIOLATION,
        ] {
            assert!(!is_of_passing_class(lasting as i32), "{lasting:?}");
        }
    }
}
