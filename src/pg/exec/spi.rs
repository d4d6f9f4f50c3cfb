//! Running SQL: statements that are planned once per session, and their rows.
//!
//! pgrx's own Spi assigns a transaction id to most statements and copies values through Rust types; this
//! layer does neither. An ERROR inside unwinds through it; the transaction's end cleans SPI up.

use super::datum::{Jsonb, Text, copy_varlena};
use super::memory::OuterContext;
use crate::error::{Error, Result};
use pgrx::datum::{FromDatum, IntoDatum};
use pgrx::pg_sys;
use std::cell::OnceCell;
use std::ffi::CString;
use std::marker::PhantomData;
use std::ptr::NonNull;

/// An argument: `None` is NULL.
pub type Arg = Option<pg_sys::Datum>;

/// Makes an argument of a value.
pub fn arg<T: IntoDatum>(value: T) -> Arg {
    value.into_datum()
}

/// A timestamptz argument.
pub fn timestamp(micros: i64) -> Arg {
    Some(pg_sys::Datum::from(micros))
}

/// A pg_lsn argument.
pub fn lsn(lsn: u64) -> Arg {
    Some(pg_sys::Datum::from(lsn))
}

/// A "char" argument.
pub fn letter(letter: u8) -> Arg {
    Some(pg_sys::Datum::from(letter))
}

/// What a statement may see and do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// All that is committed by now, also in REPEATABLE READ; changes nothing, takes no transaction id.
    Latest,
    /// What the calling statement sees; changes nothing.
    Snapshot,
    /// May change something.
    Write,
    /// May change what is committed by now. In REPEATABLE READ it is an ERROR (40001) to change what the transaction does
    /// not see.
    WriteLatest,
}

/// A statement that this session has planned.
pub struct Plan(NonNull<pg_sys::_SPI_plan>);

/// A statement of sequin's own, planned on first use. Keep it in a `thread_local`.
pub struct Statement {
    sql: &'static str,
    types: &'static [pg_sys::Oid],
    plan: OnceCell<Plan>,
}

impl Statement {
    pub const fn new(sql: &'static str, types: &'static [pg_sys::Oid]) -> Statement {
        Statement { sql, types, plan: OnceCell::new() }
    }

    /// The types of its arguments.
    pub fn types(&self) -> &'static [pg_sys::Oid] {
        self.types
    }

    /// Runs it and hands its rows to `f`.
    pub fn run<R>(
        &self,
        access: Access,
        args: &[Arg],
        f: impl FnOnce(&Rows) -> Result<R>,
    ) -> Result<R> {
        super::catalog::check_own_schema()?;
        connected(|| {
            if self.plan.get().is_none() {
                let _ = self.plan.set(Plan::new(self.sql, self.types)?);
            }
            let plan = self.plan.get().ok_or_else(|| internal("a plan is missing"))?;
            f(&plan.execute(access, args)?)
        })
    }

    /// Runs it and returns how many rows it changed.
    pub fn execute(&self, args: &[Arg]) -> Result<usize> {
        self.run(Access::Write, args, |rows| Ok(rows.processed))
    }
}

fn internal(facts: &str) -> Error {
    Error::Internal(facts.into())
}

/// Runs `f` between SPI_connect and SPI_finish. What `f` allocates in between is gone afterwards.
pub fn connected<R>(f: impl FnOnce() -> Result<R>) -> Result<R> {
    struct Finish;
    impl Drop for Finish {
        fn drop(&mut self) {
            if !std::thread::panicking() {
                // SAFETY: pairs with the SPI_connect below. While an ERROR unwinds, the end of the
                // transaction does this instead (AtEOXact_SPI).
                unsafe { pg_sys::SPI_finish() };
            }
        }
    }
    // SAFETY: inside a transaction, as every caller is.
    if unsafe { pg_sys::SPI_connect() } != pg_sys::SPI_OK_CONNECT.cast_signed() {
        return Err(internal("SPI_connect failed"));
    }
    let _finish = Finish;
    f()
}

/// Runs a command that is used once.
pub fn command(sql: &str) -> Result<()> {
    connected(|| Plan::new(sql, &[])?.execute(Access::Write, &[]).map(drop))
}

impl Plan {
    /// Plans `sql`; the plan lives until it is dropped. Call it inside [`connected`].
    pub fn new(sql: &str, types: &[pg_sys::Oid]) -> Result<Plan> {
        let text = CString::new(sql).map_err(|_| internal("a statement contains a zero byte"))?;
        let count = i32::try_from(types.len()).unwrap_or(i32::MAX);
        // SAFETY: SPI_prepare copies the types and the text; a plan that is kept outlives SPI_finish.
        let plan = unsafe {
            let plan = pg_sys::SPI_prepare(text.as_ptr(), count, types.as_ptr().cast_mut());
            if plan.is_null() || pg_sys::SPI_keepplan(plan) != 0 {
                return Err(Error::Internal(format!("cannot plan: {sql}")));
            }
            plan
        };
        NonNull::new(plan).map(Plan).ok_or_else(|| internal("a plan is null"))
    }

    /// Runs it. Inside [`connected`].
    pub fn execute(&self, access: Access, args: &[Arg]) -> Result<Rows<'_>> {
        let mut values: Vec<pg_sys::Datum> =
            args.iter().map(|arg| arg.unwrap_or(pg_sys::Datum::null())).collect();
        let nulls: Vec<std::ffi::c_char> =
            args.iter().map(|arg| if arg.is_some() { b' ' } else { b'n' }.cast_signed()).collect();
        // SAFETY: as many values and nulls as the plan has parameters (callers keep the two side by side),
        // of the types it was planned with. The snapshot is pushed, and so copied, by SPI.
        unsafe {
            let status = match access {
                Access::Latest => pg_sys::SPI_execute_snapshot(
                    self.0.as_ptr(),
                    values.as_mut_ptr(),
                    nulls.as_ptr(),
                    pg_sys::GetLatestSnapshot(),
                    std::ptr::null_mut(),
                    true,
                    false,
                    0,
                ),
                // As the triggers of foreign keys do (ri_PerformCheck in ri_triggers.c).
                Access::WriteLatest => pg_sys::SPI_execute_snapshot(
                    self.0.as_ptr(),
                    values.as_mut_ptr(),
                    nulls.as_ptr(),
                    pg_sys::GetLatestSnapshot(),
                    if pg_sys::XactIsoLevel >= pg_sys::XACT_REPEATABLE_READ.cast_signed() {
                        pg_sys::GetTransactionSnapshot()
                    } else {
                        std::ptr::null_mut()
                    },
                    false,
                    true,
                    0,
                ),
                Access::Snapshot | Access::Write => pg_sys::SPI_execute_plan(
                    self.0.as_ptr(),
                    values.as_mut_ptr(),
                    nulls.as_ptr(),
                    access == Access::Snapshot,
                    0,
                ),
            };
            if status < 0 {
                return Err(Error::Internal(format!("SPI_execute_plan returned {status}")));
            }
            Ok(Rows {
                table: pg_sys::SPI_tuptable,
                processed: usize::try_from(pg_sys::SPI_processed).unwrap_or(0),
                lives: PhantomData,
            })
        }
    }
}

impl Drop for Plan {
    fn drop(&mut self) {
        // SAFETY: a kept plan, freed once. If an ERROR has cut an execution short, its resource owner still holds a
        // reference to the generic plan, and releases that later (ReleaseCachedPlan). SPI_freeplan raises nothing, so
        // it may run while an ERROR unwinds, and when the process exits.
        unsafe { pg_sys::SPI_freeplan(self.0.as_ptr()) };
    }
}

/// The result of a statement, valid until SPI_finish.
pub struct Rows<'a> {
    table: *mut pg_sys::SPITupleTable,
    pub processed: usize,
    lives: PhantomData<&'a ()>,
}

impl Rows<'_> {
    pub fn len(&self) -> usize {
        if self.table.is_null() { 0 } else { self.processed }
    }

    /// True if the columns are of these types.
    pub fn have_types(&self, types: &[pg_sys::Oid]) -> bool {
        types.iter().zip(1..).all(|(&oid, column)| self.type_of(column) == oid)
    }

    fn type_of(&self, column: i32) -> pg_sys::Oid {
        if self.table.is_null() {
            return pg_sys::InvalidOid;
        }
        // SAFETY: looks the column's type up in the rows' descriptor; none for a column that doesn't exist.
        unsafe { pg_sys::SPI_gettypeid((*self.table).tupdesc, column) }
    }

    /// The rows, in order.
    pub fn iter(&self) -> impl Iterator<Item = Row<'_>> {
        (0..self.len()).map(|n| Row { rows: self, n })
    }

    /// The row of a query that always has one.
    pub fn one(&self) -> Result<Row<'_>> {
        self.first().ok_or_else(|| internal("a query returned no row"))
    }

    /// The first row, if there is one.
    pub fn first(&self) -> Option<Row<'_>> {
        self.iter().next()
    }
}

/// One row. Columns count from 1.
#[derive(Clone, Copy)]
pub struct Row<'a> {
    rows: &'a Rows<'a>,
    n: usize,
}

impl Row<'_> {
    fn datum(&self, column: i32) -> Arg {
        let mut is_null = false;
        // SAFETY: n is below the number of rows; a column that doesn't exist gives NULL.
        let datum = unsafe {
            let table = self.rows.table;
            let tuple = *(*table).vals.add(self.n);
            pg_sys::SPI_getbinval(tuple, (*table).tupdesc, column, &mut is_null)
        };
        (!is_null).then_some(datum)
    }

    /// A column's value; `None` if it is NULL.
    pub fn get<T: FromDatum + IntoDatum>(&self, column: i32) -> Result<Option<T>> {
        let is = self.rows.type_of(column);
        if !T::is_compatible_with(is) {
            return Err(Error::Internal(format!("column {column} has type {}", is.to_u32())));
        }
        // SAFETY: the type was just checked.
        Ok(self.datum(column).and_then(|datum| unsafe { T::from_datum(datum, false) }))
    }

    /// A column that can't be NULL.
    pub fn need<T: FromDatum + IntoDatum>(&self, column: i32) -> Result<T> {
        self.get(column)?.ok_or_else(|| Error::Internal(format!("column {column} is NULL")))
    }

    /// A text as it is, copied into `context`.
    pub fn text(&self, column: i32, context: OuterContext) -> Result<Option<Text>> {
        self.copy(column, context)
    }

    /// A jsonb as it is, copied into `context`.
    pub fn jsonb(&self, column: i32, context: OuterContext) -> Result<Option<Jsonb>> {
        self.copy(column, context)
    }

    fn copy<T: FromDatum + IntoDatum>(
        &self,
        column: i32,
        context: OuterContext,
    ) -> Result<Option<T>> {
        let is = self.rows.type_of(column);
        if is != T::type_oid() {
            return Err(Error::Internal(format!("column {column} has type {}", is.to_u32())));
        }
        // SAFETY: of the type that was just checked, which is a varlena, as both callers' are.
        let copied = |datum| context.run(|| unsafe { T::from_datum(copy_varlena(datum), false) });
        Ok(self.datum(column).and_then(copied))
    }

    /// A timestamptz as microseconds.
    pub fn micros(&self, column: i32) -> Option<i64> {
        self.datum(column).map(|datum| datum.value() as i64)
    }

    /// A pg_lsn that can't be NULL.
    pub fn lsn(&self, column: i32) -> Result<u64> {
        let lsn = self.datum(column).map(|datum| datum.value() as u64);
        lsn.ok_or_else(|| Error::Internal(format!("column {column} is NULL")))
    }
}
