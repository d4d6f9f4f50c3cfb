//! A user's SQL condition, which becomes part of a statement of sequin's.

use super::settings::in_pg_catalog;
use super::spi::{Plan, connected};
use crate::error::{Error, Result};
use pgrx::pg_sys;
use std::ffi::CString;
use std::panic::AssertUnwindSafe;

/// Checks that `condition` is one boolean expression over the columns of `table` (its name, quoted): then it can be put
/// into `WHERE (CONDITION\n) AND ..`. The line break is there because it may end in a comment. Raises PostgreSQL's own
/// ERRORs for mistakes inside it. Names in it are looked up in pg_catalog, wherever it is run.
///
/// The session that runs the condition must check it again: what lexes as one expression depends on settings.
pub fn check(table: &str, condition: &str) -> Result<()> {
    let sql = format!("SELECT FROM ONLY {table} WHERE ({condition}\n)");
    in_pg_catalog(|| connected(|| Plan::new(&sql, &[]).map(drop)))?;
    if is_one_expression(condition)? { Ok(()) } else { Err(Error::Condition(condition.into())) }
}

/// True if the text by itself is one expression. Planning accepts `true) OR (true` and `true); SELECT (1`, which are
/// none.
fn is_one_expression(text: &str) -> Result<bool> {
    let sql = CString::new(format!("SELECT {text}\n"))
        .map_err(|_| Error::Internal("a condition contains a zero byte".into()))?;
    // A raw parse holds nothing but memory of the current context, so that its ERROR needs no savepoint.
    let parse = AssertUnwindSafe(|| {
        // SAFETY: parses a zero-terminated string; looks nothing up.
        let list =
            unsafe { pg_sys::raw_parser(sql.as_ptr(), pg_sys::RawParseMode::RAW_PARSE_DEFAULT) };
        // SAFETY: a list of RawStmt, as raw_parser returns it.
        unsafe { is_select_of_one_expression(list) }
    });
    Ok(pgrx::PgTryBuilder::new(parse).catch_others(|_| false).execute())
}

/// True for `SELECT expression`, without any other clause and without an alias.
unsafe fn is_select_of_one_expression(list: *mut pg_sys::List) -> bool {
    // SAFETY: parse trees are of the types that their tags say; lists are null when empty.
    unsafe {
        let Some(raw) = only(list) else { return false };
        let statement = (*raw.cast::<pg_sys::RawStmt>()).stmt;
        if (*statement).type_ != pg_sys::NodeTag::T_SelectStmt {
            return false;
        }
        let select = &*statement.cast::<pg_sys::SelectStmt>();
        let lists = [
            select.distinctClause,
            select.fromClause,
            select.groupClause,
            select.windowClause,
            select.valuesLists,
            select.sortClause,
            select.lockingClause,
        ];
        let is_plain = select.op == pg_sys::SetOperation::SETOP_NONE
            && lists.iter().all(|list| list.is_null())
            && select.intoClause.is_null()
            && select.whereClause.is_null()
            && select.havingClause.is_null()
            && select.limitOffset.is_null()
            && select.limitCount.is_null()
            && select.withClause.is_null();
        let target = only(select.targetList).map(|target| target.cast::<pg_sys::ResTarget>());
        is_plain && target.is_some_and(|target| (*target).name.is_null())
    }
}

/// The only element of a list that has just one.
unsafe fn only(list: *mut pg_sys::List) -> Option<*mut std::ffi::c_void> {
    // SAFETY: the caller's list of pointers, or null.
    unsafe {
        if list.is_null() || (*list).length != 1 {
            return None;
        }
        Some((*(*list).elements).ptr_value)
    }
}
