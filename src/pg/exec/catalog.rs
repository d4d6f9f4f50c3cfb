//! Looking things up in the system catalogs.
//!
//! All of it needs an open transaction, which callers have: the caches are filled under its snapshots, and its resource
//! owner releases entries after an ERROR. Nothing here keeps a pointer into a cache beyond the call.

use super::{partitions, relcache};
use crate::error::{Error, Result};
use pgrx::pg_sys;
use std::cell::Cell;
use std::ffi::{CStr, CString};

/// Where streams' tables are.
const STREAM_SCHEMA: &CStr = c"sequin_stream";

/// The table of a stream, if there is one of that name.
pub fn stream_table(stream: &str) -> Option<pg_sys::Oid> {
    let name = CString::new(stream).ok()?;
    // SAFETY: looks the names up in the catalog cache.
    unsafe {
        let schema = pg_sys::get_namespace_oid(STREAM_SCHEMA.as_ptr(), true);
        let relation = pg_sys::get_relname_relid(name.as_ptr(), schema);
        // Indexes and sequences of streams are in that schema too.
        let kind = pg_sys::get_rel_relkind(relation).cast_unsigned();
        valid(relation).filter(|_| is_table(kind))
    }
}

/// Whether a relation of this kind is a table: a stream that has retention is a partitioned one.
fn is_table(kind: u8) -> bool {
    matches!(kind, pg_sys::RELKIND_RELATION | pg_sys::RELKIND_PARTITIONED_TABLE)
}

/// The relations that workers read and write on their own account.
const MEMBERS: [&CStr; 10] = [
    c"streams",
    c"consumers",
    c"epoch",
    c"outbox",
    c"acks",
    c"checkpoints",
    c"all_dead_letters",
    c"sources",
    c"source_progress",
    c"backfills",
];

thread_local! {
    /// The schema that was last found to be the extension's.
    static OWN_SCHEMA: Cell<pg_sys::Oid> = const { Cell::new(pg_sys::InvalidOid) };
    /// The relation that was last found to be a member.
    static KNOWN_MEMBER: Cell<pg_sys::Oid> = const { Cell::new(pg_sys::InvalidOid) };
}

/// Checks that the schema named sequin is the extension's. Sequin's own statements name objects in it, and run as
/// superuser: in another schema of that name, its owner could put objects whose code would run as superuser. After the
/// first time this costs a lookup in a cache.
pub fn check_own_schema() -> Result<()> {
    // SAFETY: looks the name up in the catalog cache.
    let schema = unsafe { pg_sys::get_namespace_oid(c"sequin".as_ptr(), true) };
    if schema != pg_sys::InvalidOid && schema == OWN_SCHEMA.get() {
        return Ok(());
    }
    // A member can't be moved to another schema, and only the extension's owner can make one.
    if !is_member(c"consumers") {
        return Err(Error::NotOurSchema);
    }
    OWN_SCHEMA.set(schema);
    Ok(())
}

/// The same, and that all relations in it that workers use are members of the extension.
pub fn check_members() -> Result<()> {
    check_own_schema()?;
    match MEMBERS.iter().find(|name| !is_member(name)) {
        Some(name) => Err(Error::NotAMember(name.to_string_lossy().into_owned())),
        None => Ok(()),
    }
}

/// Checks that a relation that older versions did not have is there, and a member of the extension.
pub fn check_member(name: &CStr) -> Result<()> {
    let table = own_table(name).ok_or(Error::Outdated)?;
    if table == KNOWN_MEMBER.get() {
        return Ok(());
    }
    if !is_member(name) {
        return Err(Error::NotAMember(name.to_string_lossy().into_owned()));
    }
    KNOWN_MEMBER.set(table);
    Ok(())
}

fn is_member(name: &CStr) -> bool {
    let (Some(table), Some(extension)) = (own_table(name), extension()) else { return false };
    // SAFETY: reads pg_depend.
    let owner = unsafe { pg_sys::getExtensionOfObject(pg_sys::RelationRelationId, table) };
    owner == extension
}

/// One of sequin's own tables.
pub fn own_table(name: &CStr) -> Option<pg_sys::Oid> {
    // SAFETY: looks the names up in the catalog cache.
    unsafe {
        let schema = pg_sys::get_namespace_oid(c"sequin".as_ptr(), true);
        valid(pg_sys::get_relname_relid(name.as_ptr(), schema))
    }
}

/// Waits for a lock on a table that allows reading it, as any SELECT would: lock_timeout counts, and a deadlock
/// is found. False if the table was dropped meanwhile.
pub fn lock_for_reading(table: pg_sys::Oid) -> bool {
    lock(table, pg_sys::AccessShareLock)
}

/// Waits in the same way until the table can be locked for reading, and keeps no lock on it.
pub fn await_lock_for_reading(table: pg_sys::Oid) {
    lock_for_reading(table);
    unlock_from_reading(table);
}

/// Releases a lock for reading before the transaction ends. If the transaction has locked the table in another way too,
/// that lock stays.
pub fn unlock_from_reading(table: pg_sys::Oid) {
    // SAFETY: the caller has taken the lock under the same resource owner.
    unsafe { pg_sys::UnlockRelationOid(table, pg_sys::AccessShareLock.cast_signed()) };
}

/// Waits for a lock that allows reading, on the table that has a stream's name when the lock is there: during the wait
/// another one may get it. `None` if there is none.
pub fn lock_stream_for_reading(stream: &str) -> Option<pg_sys::Oid> {
    lock_stream(stream, pg_sys::AccessShareLock.cast_signed())
}

/// The same for a lock that allows writing, as an INSERT would take it.
pub fn lock_stream_for_writing(stream: &str) -> Option<pg_sys::Oid> {
    lock_stream(stream, pg_sys::RowExclusiveLock.cast_signed())
}

fn lock_stream(stream: &str, mode: pg_sys::LOCKMODE) -> Option<pg_sys::Oid> {
    loop {
        let table = stream_table(stream)?;
        let generation = relcache::generation();
        // SAFETY: waits for a lock, and raises an ERROR if that is cut short; has processed invalidations by then.
        unsafe { pg_sys::LockRelationOid(table, mode) };
        if relcache::generation() == generation || stream_table(stream) == Some(table) {
            return Some(table);
        }
        // SAFETY: locked right before.
        unsafe { pg_sys::UnlockRelationOid(table, mode) };
    }
}

fn lock(table: pg_sys::Oid, mode: u32) -> bool {
    // SAFETY: waits for a lock, and raises an ERROR if that is cut short; then looks the table up in the catalog cache,
    // which has processed the invalidations of other sessions by then.
    unsafe {
        pg_sys::LockRelationOid(table, mode.cast_signed());
        pg_sys::get_rel_relkind(table) != 0
    }
}

/// The OID of a database, if there is one of that name.
pub fn database(name: &CStr) -> Option<pg_sys::Oid> {
    // SAFETY: reads pg_database; raises nothing for a name that isn't there.
    valid(unsafe { pg_sys::get_database_oid(name.as_ptr(), true) })
}

/// The extension, if it is installed in this database.
pub fn extension() -> Option<pg_sys::Oid> {
    // SAFETY: reads pg_extension; raises nothing for a name that isn't there.
    valid(unsafe { pg_sys::get_extension_oid(c"sequin".as_ptr(), true) })
}

/// True for a table in the schema of streams.
pub(in crate::pg) fn is_stream_table(table: pg_sys::Oid) -> bool {
    // SAFETY: looks both up in the catalog cache.
    unsafe {
        let schema = pg_sys::get_namespace_oid(STREAM_SCHEMA.as_ptr(), true);
        schema != pg_sys::InvalidOid && pg_sys::get_rel_namespace(table) == schema
    }
}

/// The table itself, or the one that an index or an identity sequence is of.
pub(in crate::pg) fn table_of(relation: pg_sys::Oid) -> Option<pg_sys::Oid> {
    // SAFETY: looks the relation up in the catalog cache, and what it depends on in pg_depend.
    unsafe {
        match pg_sys::get_rel_relkind(relation).cast_unsigned() {
            kind if is_table(kind) => Some(relation),
            pg_sys::RELKIND_INDEX | pg_sys::RELKIND_PARTITIONED_INDEX => {
                valid(pg_sys::IndexGetRelation(relation, true))
            }
            pg_sys::RELKIND_SEQUENCE => {
                let (mut table, mut column) = (pg_sys::InvalidOid, 0);
                let kind = b'i'.cast_signed(); // DEPENDENCY_INTERNAL
                let is_owned = pg_sys::sequenceIsOwned(relation, kind, &mut table, &mut column);
                valid(table).filter(|_| is_owned)
            }
            _ => None,
        }
    }
}

/// The size of a table with its partitions, indexes and TOAST, in bytes.
pub fn table_bytes(table: pg_sys::Oid) -> i64 {
    let Some(partitions) = partitions::of(table) else { return own_bytes(table) };
    partitions.tables().map(own_bytes).sum()
}

fn own_bytes(table: pg_sys::Oid) -> i64 {
    // SAFETY: the argument is that of pg_total_relation_size(regclass).
    let bytes = unsafe {
        pgrx::direct_function_call_as_datum(
            pg_sys::pg_total_relation_size,
            &[Some(pg_sys::Datum::from(table))],
        )
    };
    bytes.map_or(0, |datum| datum.value() as i64)
}

/// The options of a source's own publication. The values of generated columns are taken from elsewhere, but from
/// PostgreSQL 18 on, updates of a table with stored ones and REPLICA IDENTITY FULL are refused where they are not published.
pub const PUBLICATION_OPTIONS: &str = if cfg!(feature = "pg18") {
    "publish_via_partition_root = true, publish_generated_columns = stored"
} else {
    "publish_via_partition_root = true"
};

/// The name of a table.
pub fn relation_name(table: pg_sys::Oid) -> String {
    // SAFETY: returns a copy of the name, or null for an OID that is no relation.
    let name = unsafe { pg_sys::get_rel_name(table) };
    if name.is_null() {
        return table.to_u32().to_string();
    }
    // SAFETY: a zero-terminated string in the current memory context.
    unsafe { CStr::from_ptr(name) }.to_string_lossy().into_owned()
}

/// The owner of a table; `None` if it is not there.
pub fn table_owner(table: pg_sys::Oid) -> Option<pg_sys::Oid> {
    let cache = pg_sys::SysCacheIdentifier::RELOID.cast_signed();
    // SAFETY: looks the table up in the catalog cache; its entry is a row of pg_class, and is released when it was read.
    unsafe {
        let tuple = pg_sys::SearchSysCache1(cache, pg_sys::Datum::from(table));
        if tuple.is_null() {
            return None;
        }
        let owner = (*pg_sys::GETSTRUCT(tuple).cast::<pg_sys::FormData_pg_class>()).relowner;
        pg_sys::ReleaseSysCache(tuple);
        Some(owner)
    }
}

/// The name of a role.
pub fn role_name(role: pg_sys::Oid) -> String {
    // SAFETY: returns a copy of the name, or null for an OID that is no role.
    let name = unsafe { pg_sys::GetUserNameFromId(role, true) };
    if name.is_null() {
        return role.to_u32().to_string();
    }
    // SAFETY: a zero-terminated string in the current memory context.
    unsafe { CStr::from_ptr(name) }.to_string_lossy().into_owned()
}

/// The name of a database.
pub fn database_name(database: pg_sys::Oid) -> Option<String> {
    // SAFETY: returns a copy of the name, or null for an OID that is no database.
    let name = unsafe { pg_sys::get_database_name(database) };
    // SAFETY: a zero-terminated string in the current memory context.
    (!name.is_null()).then(|| unsafe { CStr::from_ptr(name) }.to_string_lossy().into_owned())
}

/// Whether a database accepts connections; `None` if there is none of that OID.
pub fn accepts_connections(database: pg_sys::Oid) -> Option<bool> {
    /// DROP DATABASE has failed halfway (DATCONNLIMIT_INVALID_DB in catalog/pg_database.h).
    const INVALID: i32 = -2;
    let cache = pg_sys::SysCacheIdentifier::DATABASEOID.cast_signed();
    // SAFETY: a cache by OID; its entry, a row of pg_database, is released when it has been read.
    unsafe {
        let tuple = pg_sys::SearchSysCache1(cache, pg_sys::Datum::from(database));
        if tuple.is_null() {
            return None;
        }
        let form = &*pg_sys::GETSTRUCT(tuple).cast::<pg_sys::FormData_pg_database>();
        let accepts = form.datallowconn && form.datconnlimit != INVALID;
        pg_sys::ReleaseSysCache(tuple);
        Some(accepts)
    }
}

/// Locks a table for reading, unless another session has locked it exclusively. The transaction's end unlocks it.
pub fn try_lock_for_reading(table: pg_sys::Oid) -> bool {
    // SAFETY: takes a lock without waiting.
    unsafe { pg_sys::ConditionalLockRelationOid(table, pg_sys::AccessShareLock.cast_signed()) }
}

/// The size of a table's main fork, in bytes.
pub fn main_bytes(table: pg_sys::Oid) -> i64 {
    // SAFETY: the arguments are those of pg_relation_size(regclass, text).
    let bytes = unsafe {
        let fork = pgrx::datum::IntoDatum::into_datum("main");
        let args = [Some(pg_sys::Datum::from(table)), fork];
        pgrx::direct_function_call_as_datum(pg_sys::pg_relation_size, &args)
    };
    bytes.map_or(0, |datum| datum.value() as i64)
}

/// Locks a table against everybody else, unless somebody uses it. The transaction's end unlocks it.
pub fn try_lock_exclusively(table: pg_sys::Oid) -> bool {
    // SAFETY: takes a lock without waiting.
    unsafe { pg_sys::ConditionalLockRelationOid(table, pg_sys::AccessExclusiveLock.cast_signed()) }
}

/// Whether nobody uses a table at this moment.
pub fn is_unused(table: pg_sys::Oid) -> bool {
    let is_unused = try_lock_exclusively(table);
    if is_unused {
        // SAFETY: locked right before.
        unsafe { pg_sys::UnlockRelationOid(table, pg_sys::AccessExclusiveLock.cast_signed()) };
    }
    is_unused
}

/// Releases a lock in SHARE mode before the transaction ends.
pub fn unlock_from_publishers(table: pg_sys::Oid) {
    // SAFETY: the caller has taken the lock under the same resource owner.
    unsafe { pg_sys::UnlockRelationOid(table, pg_sys::ShareLock.cast_signed()) };
}

/// Takes the lock on a sequence that pg_sequence_last_value() takes, unless that conflicts with another session's lock.
/// The transaction's end unlocks it.
pub fn try_lock_for_writing(sequence: pg_sys::Oid) -> bool {
    // SAFETY: takes a lock without waiting.
    unsafe { pg_sys::ConditionalLockRelationOid(sequence, pg_sys::RowExclusiveLock.cast_signed()) }
}

/// Locks one of sequin's own tables against writers, unless a transaction has written it and is still open. The end of
/// the caller's transaction unlocks it.
pub fn try_lock_against_writers(table: &CStr) -> bool {
    own_table(table).is_some_and(|table| {
        // SAFETY: takes a lock without waiting.
        unsafe { pg_sys::ConditionalLockRelationOid(table, pg_sys::ShareLock.cast_signed()) }
    })
}

/// Makes DROP EXTENSION drop a publication too, without CASCADE.
pub fn drop_publication_with_extension(publication: pg_sys::Oid) {
    let Some(extension) = extension() else { return };
    let address =
        |class, object| pg_sys::ObjectAddress { classId: class, objectId: object, objectSubId: 0 };
    let depender = address(pg_sys::PublicationRelationId, publication);
    let referenced = address(pg_sys::ExtensionRelationId, extension);
    // SAFETY: both are there: the caller has just looked the publication up. The dependency is deleted first if there
    // is one, since recording it twice would leave two rows.
    unsafe {
        pg_sys::deleteDependencyRecordsForClass(
            depender.classId,
            depender.objectId,
            referenced.classId,
            pg_sys::DependencyType::DEPENDENCY_AUTO as std::ffi::c_char,
        );
        pg_sys::recordDependencyOn(&depender, &referenced, pg_sys::DependencyType::DEPENDENCY_AUTO);
    }
}

/// The databases that accept connections and are no templates. For a worker that has no database, in a transaction:
/// without a database there is no SQL, so this scans pg_database by hand, as autovacuum's get_database_list does.
pub fn databases() -> Vec<pg_sys::Oid> {
    let mut found = Vec::new();
    // SAFETY: scans a shared catalog under the catalog snapshot that the scan takes itself; the tuples are
    // pinned while they are looked at.
    unsafe {
        let lock = pg_sys::AccessShareLock.cast_signed();
        let relation = pg_sys::table_open(pg_sys::DatabaseRelationId, lock);
        let scan = pg_sys::table_beginscan_catalog(relation, 0, std::ptr::null_mut());
        loop {
            let tuple = pg_sys::heap_getnext(scan, pg_sys::ScanDirection::ForwardScanDirection);
            if tuple.is_null() {
                break;
            }
            let database = pg_sys::GETSTRUCT(tuple).cast::<pg_sys::FormData_pg_database>();
            if (*database).datallowconn && !(*database).datistemplate {
                found.push((*database).oid);
            }
        }
        pg_sys::table_endscan(scan);
        pg_sys::table_close(relation, lock);
    }
    found
}

fn valid(oid: pg_sys::Oid) -> Option<pg_sys::Oid> {
    (oid != pg_sys::InvalidOid).then_some(oid)
}
