//! What CREATE EXTENSION checks before it makes anything.

use crate::error::{Error, Result};
use crate::pg::exec::partitions;
use crate::pg::exec::settings::in_pg_catalog;
use crate::pg::exec::spi::{Access, Plan, arg, connected};
use pgrx::pg_sys;

/// Why a schema can't be the extension's; no row if there is no such schema. The owner of a schema can rename it or
/// drop what is in it, and put another one in its place. A role that may create objects in it can add ones that
/// sequin's names and operators would resolve to. Members of the extension that is being created don't count: they have
/// just been made.
const FAULT: &str = "
    SELECT CASE
        WHEN o.rolname <> current_user AND NOT o.rolsuper
            THEN format('It belongs to role \"%s\".', o.rolname)
        WHEN EXISTS (
            SELECT FROM pg_depend d
            WHERE d.refclassid = 'pg_namespace'::regclass AND d.refobjid = n.oid
            AND NOT (d.classid = 'pg_extension'::regclass AND d.objid = e.oid)
            AND NOT EXISTS (
                SELECT FROM pg_depend m
                WHERE m.classid = d.classid AND m.objid = d.objid AND m.deptype = 'e'
                AND m.refclassid = 'pg_extension'::regclass AND m.refobjid = e.oid))
            THEN 'There is something in it already.'
        WHEN EXISTS (
            SELECT FROM aclexplode(n.nspacl) a LEFT JOIN pg_roles r ON r.oid = a.grantee
            WHERE a.privilege_type = 'CREATE' AND a.grantee <> n.nspowner AND NOT coalesce(r.rolsuper, false))
            THEN 'Others than its owner may create in it.'
        END
    FROM pg_namespace n
    JOIN pg_roles o ON o.oid = n.nspowner
    LEFT JOIN pg_extension e ON e.extname = 'sequin'
    WHERE n.nspname = $1";

/// `sequin._check_installation()`, called by CREATE EXTENSION after it has made the schema sequin, or found one.
#[pgrx::pg_guard]
#[unsafe(no_mangle)]
extern "C-unwind" fn sequin_check_installation(_fcinfo: pg_sys::FunctionCallInfo) -> pg_sys::Datum {
    if let Err(error) = check() {
        error.raise();
    }
    pg_sys::Datum::null()
}

fn check() -> Result<()> {
    // Rust's strings are in UTF-8, and nothing converts names, keys, filters, reasons and error texts between
    // PostgreSQL and Rust. SAFETY: a plain value of this process.
    if unsafe { pg_sys::GetDatabaseEncoding() } != pg_sys::pg_enc::PG_UTF8.cast_signed() {
        return Err(Error::NotUtf8);
    }
    if let Some(fault) = fault("sequin")? {
        return Err(Error::SchemaTaken { schema: "sequin", fault });
    }
    // The install script creates these schemas, so there must be none yet.
    for (schema, name) in
        [("sequin_stream", c"sequin_stream"), ("sequin_partition", partitions::SCHEMA)]
    {
        // SAFETY: looks the name up in the catalog cache.
        let other = unsafe { pg_sys::get_namespace_oid(name.as_ptr(), true) };
        if other != pg_sys::InvalidOid {
            return Err(Error::SchemaTaken { schema, fault: "It exists already.".into() });
        }
    }
    Ok(())
}

fn fault(schema: &str) -> Result<Option<String>> {
    in_pg_catalog(|| {
        connected(|| {
            let plan = Plan::new(FAULT, &[pg_sys::TEXTOID])?;
            let rows = plan.execute(Access::Latest, &[arg(schema)])?;
            rows.first().map_or(Ok(None), |row| row.get(1))
        })
    })
}

super::publish::finfo!(pg_finfo_sequin_check_installation);
