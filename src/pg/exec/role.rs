//! Roles and their rights, and running code with the rights of another role.

use pgrx::pg_sys;

/// The role whose rights count now.
pub fn current() -> pg_sys::Oid {
    // SAFETY: a plain value of this process.
    unsafe { pg_sys::GetUserId() }
}

/// True if `member` has the rights of `role`.
pub fn has_rights_of(member: pg_sys::Oid, role: pg_sys::Oid) -> bool {
    // SAFETY: looks both up in the catalog cache.
    unsafe { pg_sys::has_privs_of_role(member, role) }
}

/// True if there is such a role.
pub fn exists(role: pg_sys::Oid) -> bool {
    // SAFETY: looks the role up in the catalog cache.
    let name = unsafe { pg_sys::GetUserNameFromId(role, true) };
    !name.is_null()
}

/// True if the current role may give what it owns to this role, by the rule of ALTER .. OWNER TO.
pub fn may_give_to(role: pg_sys::Oid) -> bool {
    // SAFETY: looks both up in the catalog cache.
    unsafe {
        #[cfg(any(feature = "pg14", feature = "pg15"))]
        return pg_sys::is_member_of_role(current(), role);
        #[cfg(any(feature = "pg16", feature = "pg17", feature = "pg18"))]
        return pg_sys::member_can_set_role(current(), role);
    }
}

/// True if the current role owns a database, or is a superuser.
pub fn owns_database(database: pg_sys::Oid) -> bool {
    // SAFETY: looks the database up in the catalog cache.
    unsafe {
        #[cfg(any(feature = "pg14", feature = "pg15"))]
        return pg_sys::pg_database_ownercheck(database, current());
        #[cfg(any(feature = "pg16", feature = "pg17", feature = "pg18"))]
        return pg_sys::object_ownercheck(pg_sys::DatabaseRelationId, database, current());
    }
}

/// True if the current role owns a table, or is a superuser.
pub fn owns_table(table: pg_sys::Oid) -> bool {
    // SAFETY: looks the table up in the catalog cache.
    unsafe {
        #[cfg(any(feature = "pg14", feature = "pg15"))]
        return pg_sys::pg_class_ownercheck(table, current());
        #[cfg(any(feature = "pg16", feature = "pg17", feature = "pg18"))]
        return pg_sys::object_ownercheck(pg_sys::RelationRelationId, table, current());
    }
}

/// True if the current role may see statistics of all: a member of pg_monitor.
pub fn is_monitor() -> bool {
    has_rights_of(current(), pg_sys::Oid::from(pg_sys::ROLE_PG_MONITOR))
}

/// True if the current role is a superuser.
pub fn is_superuser() -> bool {
    // SAFETY: looks the role up in the catalog cache.
    unsafe { pg_sys::superuser() }
}

/// True if policies of row-level security would hide rows of a table from the current role.
pub fn is_limited_by_policies(table: pg_sys::Oid) -> bool {
    // SAFETY: looks the table up in the catalog cache; with noError it raises nothing.
    let state = unsafe { pg_sys::check_enable_rls(table, pg_sys::InvalidOid, true) };
    state == pg_sys::CheckEnableRlsResult::RLS_ENABLED.cast_signed()
}

/// True if a role may SELECT from a table.
pub fn may_be_shown(role: pg_sys::Oid, table: pg_sys::Oid) -> bool {
    has_right_on(role, table, &super::scan::ALL, pg_sys::ACL_SELECT)
}

/// True if the current role may SELECT from a table.
pub fn may_select(table: pg_sys::Oid) -> bool {
    has_right(current(), table, pg_sys::ACL_SELECT)
}

/// True if the current role may SELECT these columns of a table, whatever the rows.
pub fn may_select_columns(table: pg_sys::Oid, columns: &[i16]) -> bool {
    has_right_on(current(), table, columns, pg_sys::ACL_SELECT)
}

/// True if the current role may INSERT values for these columns of a table.
pub fn may_insert_columns(table: pg_sys::Oid, columns: &[i16]) -> bool {
    has_right_on(current(), table, columns, pg_sys::ACL_INSERT)
}

/// True if a role may INSERT into a table.
pub fn may_insert(role: pg_sys::Oid, table: pg_sys::Oid) -> bool {
    has_right(role, table, pg_sys::ACL_INSERT)
}

fn has_right(role: pg_sys::Oid, table: pg_sys::Oid, right: u32) -> bool {
    // SAFETY: looks the table up in the catalog cache.
    let result = unsafe { pg_sys::pg_class_aclcheck(table, role, right as pg_sys::AclMode) };
    result == pg_sys::AclResult::ACLCHECK_OK
}

/// The rule of SQL: the role has the right to the table, or to each of these columns.
fn has_right_on(role: pg_sys::Oid, table: pg_sys::Oid, columns: &[i16], right: u32) -> bool {
    has_right(role, table, right)
        || columns.iter().all(|&column| {
            let mut is_missing = false;
            // SAFETY: looks the column up in the catalog cache; with is_missing it raises nothing for one that isn't
            // there.
            let result = unsafe {
                pg_sys::pg_attribute_aclcheck_ext(
                    table,
                    column,
                    role,
                    right as pg_sys::AclMode,
                    &mut is_missing,
                )
            };
            result == pg_sys::AclResult::ACLCHECK_OK
        })
}

/// True if a role may look up what is in the schema of a table, which SQL asks for with every name in it.
pub fn may_use_schema_of(role: pg_sys::Oid, table: pg_sys::Oid) -> bool {
    // SAFETY: looks both up in the catalog cache.
    let result = unsafe {
        let schema = pg_sys::get_rel_namespace(table);
        let right = pg_sys::ACL_USAGE as pg_sys::AclMode;
        #[cfg(any(feature = "pg14", feature = "pg15"))]
        let result = pg_sys::pg_namespace_aclcheck(schema, role, right);
        #[cfg(any(feature = "pg16", feature = "pg17", feature = "pg18"))]
        let result = pg_sys::object_aclcheck(pg_sys::NamespaceRelationId, schema, role, right);
        result
    };
    result == pg_sys::AclResult::ACLCHECK_OK
}

/// Runs `f` with the rights of the bootstrap superuser. The statements in it must name every object and operator in
/// full: search_path is still the caller's, and could make others be found.
pub fn as_owner<R>(f: impl FnOnce() -> R) -> R {
    let _back = SwitchedRole::to(pg_sys::Oid::from(pg_sys::BOOTSTRAP_SUPERUSERID));
    f()
}

/// Runs `f` with the rights of a role, in whose name a worker acts: users' code that runs on the way, such as triggers,
/// doesn't get the worker's own rights. Settings that this code changes are set back: with another search_path the
/// worker's next statement could call users' functions as superuser.
pub fn as_role<R>(role: pg_sys::Oid, f: impl FnOnce() -> R) -> R {
    let _back = SwitchedRole::with(role, pg_sys::SECURITY_RESTRICTED_OPERATION);
    super::settings::with_settings_restored(f)
}

/// Runs `f`, in which code of `author` may run, with the rights of `author`; with the current rights if the author is a
/// superuser. So code gets neither more rights than its author has, nor more than its caller.
pub fn as_author<R>(author: pg_sys::Oid, f: impl FnOnce() -> R) -> R {
    // SAFETY: looks the role up in the catalog cache; false if it is gone.
    if unsafe { pg_sys::superuser_arg(author) } { f() } else { as_role(author, f) }
}

/// As [`as_owner`], and with the search_path pg_catalog: catalogs and operators need not be named with their schema.
pub fn as_owner_in_pg_catalog<R>(f: impl FnOnce() -> R) -> R {
    as_owner(|| super::settings::in_pg_catalog(f))
}

struct SwitchedRole {
    role: pg_sys::Oid,
    context: i32,
}

impl SwitchedRole {
    fn to(role: pg_sys::Oid) -> SwitchedRole {
        SwitchedRole::with(role, 0)
    }

    fn with(role: pg_sys::Oid, flags: u32) -> SwitchedRole {
        let mut old = SwitchedRole { role: pg_sys::InvalidOid, context: 0 };
        // SAFETY: plain values of this process. An error in between is undone by the end of the
        // (sub)transaction, which restores both (AbortTransaction, AbortSubTransaction).
        unsafe {
            pg_sys::GetUserIdAndSecContext(&mut old.role, &mut old.context);
            let local = (pg_sys::SECURITY_LOCAL_USERID_CHANGE | flags).cast_signed();
            pg_sys::SetUserIdAndSecContext(role, old.context | local);
        }
        old
    }
}

impl Drop for SwitchedRole {
    fn drop(&mut self) {
        // SAFETY: as above.
        unsafe { pg_sys::SetUserIdAndSecContext(self.role, self.context) };
    }
}
