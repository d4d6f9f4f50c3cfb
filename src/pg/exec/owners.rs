//! Roles that own rows of sequin's tables, noted in pg_shdepend. So DROP ROLE refuses them as it does the owner of a table,
//! and names the table of sequin's that they are in.
//!
//! They are noted as if they had rights to that table. REASSIGN OWNED leaves such notes alone, and DROP OWNED would take
//! away rights that there are none of: `hooks` has sequin do its part in both. Noted as owners, the table itself would be
//! taken for theirs.

use super::catalog;
use super::role;
use super::spi::{Access, Statement};
use crate::error::Result;
use pgrx::pg_sys;

/// Who is noted, who is to be (those who have rights to the table in truth, too), and the table's owner, who isn't.
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

/// A table whose rows have owners.
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

    /// The one that this table is.
    pub(in crate::pg) fn of(table: pg_sys::Oid) -> Option<Owned> {
        Owned::ALL.into_iter().find(|owned| owned.table() == Some(table))
    }
}

/// Notes a role, whether or not it is noted already: another transaction that deletes its last row takes back the notes
/// that it sees, but not this one. Waits for who is dropping the role, and fails if that commits.
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

/// Has just those roles noted that own a row, and are there.
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
    // SAFETY: in a transaction; what its command has done so far is seen by what follows.
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
    // SAFETY: room for as many; one more, as palloc(0) is nothing to rely on.
    unsafe {
        let copy = pg_sys::palloc((roles.len() + 1) * size_of::<pg_sys::Oid>()).cast();
        std::ptr::copy_nonoverlapping(roles.as_ptr(), copy, roles.len());
        copy
    }
}
