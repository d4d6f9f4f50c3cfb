//! Roles that own rows of sequin's tables, noted in pg_shdepend. So DROP ROLE refuses to drop them, as it refuses for
//! the owner of a table, and names the table of sequin's that has the rows.
//!
//! They are noted as roles that have rights to that table (SHARED_DEPENDENCY_ACL). If they were noted as owners,
//! REASSIGN OWNED and DROP OWNED would take the table itself for theirs. As it is, REASSIGN OWNED does nothing about
//! these notes, and DROP OWNED would revoke rights that don't exist: the hooks in `pg/session/hooks.rs` do sequin's
//! part of both commands.

use super::catalog;
use super::role;
use super::spi::{Access, Statement};
use crate::error::Result;
use pgrx::pg_sys;

/// Three columns: the roles that are noted; those that are to be noted, which include those that really have rights to
/// the table; and the table's owner, which is never noted.
macro_rules! statement {
    ($table:literal) => {
        Statement::new(
            concat!(
                "SELECT ARRAY(SELECT DISTINCT d.refobjid FROM pg_shdepend d, pg_database b \
                    WHERE b.datname = current_database() AND d.dbid = b.oid \
                    AND d.classid = 'pg_class'::regclass AND d.objid = $1 AND d.objsubid = 0 \
                    AND d.refclassid = 'pg_authid'::regclass AND d.deptype = 'a' ORDER BY 1), \
                 ARRAY(SELECT r.oid FROM pg_roles r WHERE r.oid IN ( \
                    SELECT owner::oid FROM sequin.",
                $table,
                " UNION SELECT a.grantee FROM pg_class c, aclexplode(c.relacl) a WHERE c.oid = $1 \
                  UNION SELECT a.grantor FROM pg_class c, aclexplode(c.relacl) a WHERE c.oid = $1) ORDER BY 1), \
                 (SELECT relowner FROM pg_class WHERE oid = $1)"
            ),
            &[pg_sys::OIDOID],
        )
    };
}

thread_local! {
    static CONSUMERS: Statement = const { statement!("consumers") };
    static SOURCES: Statement = const { statement!("sources") };
}

/// One of the two tables whose rows have owners.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owned {
    Consumers,
    Sources,
}

impl Owned {
    pub const ALL: [Owned; 2] = [Owned::Consumers, Owned::Sources];

    fn table(self) -> Option<pg_sys::Oid> {
        catalog::own_table(match self {
            Owned::Consumers => c"consumers",
            Owned::Sources => c"sources",
        })
    }

    /// Which of the two a table is, if it is one.
    pub(in crate::pg) fn of(table: pg_sys::Oid) -> Option<Owned> {
        Owned::ALL.into_iter().find(|owned| owned.table() == Some(table))
    }
}

/// Notes a role, whether or not it is noted already: another transaction that deletes the role's last row deletes the
/// notes that it sees, and this one must stay. Waits for a transaction that drops the role, and fails if that commits.
pub fn note(owned: Owned, role: pg_sys::Oid) {
    let Some(table) = owned.table() else { return };
    let address =
        |class, object| pg_sys::ObjectAddress { classId: class, objectId: object, objectSubId: 0 };
    let mut depender = address(pg_sys::RelationRelationId, table);
    let mut referenced = address(pg_sys::AuthIdRelationId, role);
    // SAFETY: inserts a row into pg_shdepend, unless the role is the bootstrap superuser; an ERROR if the role is gone.
    unsafe {
        pg_sys::recordSharedDependencyOn(
            &mut depender,
            &mut referenced,
            pg_sys::SharedDependencyType::SHARED_DEPENDENCY_ACL,
        );
    }
}

/// Brings the notes into line with the rows: notes exactly those roles that own a row and exist.
pub fn sync(owned: Owned) -> Result<()> {
    let Some(table) = owned.table() else { return Ok(()) };
    let read = |statement: &Statement| {
        statement.run(Access::Latest, &[super::spi::arg(table)], |rows| {
            let row = rows.one()?;
            Ok((
                row.need::<Vec<pg_sys::Oid>>(1)?,
                row.need::<Vec<pg_sys::Oid>>(2)?,
                row.need::<pg_sys::Oid>(3)?,
            ))
        })
    };
    // SAFETY: in a transaction. The query below must see what the current command has done so far.
    unsafe { pg_sys::CommandCounterIncrement() };
    let (noted, mut wanted, owner) = role::as_owner_in_pg_catalog(|| match owned {
        Owned::Consumers => CONSUMERS.with(read),
        Owned::Sources => SOURCES.with(read),
    })?;
    // Never noted, as they can't be dropped.
    let bootstrap = pg_sys::Oid::from(pg_sys::BOOTSTRAP_SUPERUSERID);
    wanted.retain(|&role| role != owner && role != bootstrap);
    if noted == wanted {
        return Ok(());
    }
    let (before, after) = (array(&noted), array(&wanted));
    let count = |roles: &[pg_sys::Oid]| i32::try_from(roles.len()).unwrap_or(i32::MAX);
    // SAFETY: two ascending arrays without duplicates, which are freed in there.
    unsafe {
        pg_sys::updateAclDependencies(
            pg_sys::RelationRelationId,
            table,
            0,
            owner,
            count(&noted),
            before,
            count(&wanted),
            after,
        );
    }
    Ok(())
}

/// A copy in the current memory context.
fn array(roles: &[pg_sys::Oid]) -> *mut pg_sys::Oid {
    // SAFETY: room for all of them and one more, since palloc(0) is not to be relied on.
    unsafe {
        let copy = pg_sys::palloc((roles.len() + 1) * size_of::<pg_sys::Oid>()).cast();
        std::ptr::copy_nonoverlapping(roles.as_ptr(), copy, roles.len());
        copy
    }
}
