//! Hooks into users' commands. A command that needs a database to itself first ends the database's workers. One that
//! drops a stream's table, a publication or the extension is reported to them. REASSIGN OWNED and DROP OWNED include
//! consumers and sources.

use super::current;
use super::stream_commands;
use crate::error::Result;
use crate::pg::exec::catalog;
use crate::pg::exec::role;
use crate::pg::shared::capturers;
use crate::pg::shared::database::Database;
use pgrx::pg_sys;
use sequin_engine::changes::Changes;
use std::ffi::{CStr, c_char, c_int, c_void};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// How long a command waits for workers to detach. Mostly that takes milliseconds. Afterwards the command itself waits
/// for 5 s (CountOtherDBBackends).
const DETACHING: Duration = Duration::from_secs(10);

static mut NEXT_UTILITY: pg_sys::ProcessUtility_hook_type = None;
static mut NEXT_ACCESS: pg_sys::object_access_hook_type = None;

/// Installs the hooks: from `_PG_init`, while the server preloads its libraries.
pub fn register() {
    // SAFETY: the postmaster is single-threaded here, and hooks are chained as they must be.
    unsafe {
        NEXT_UTILITY = pg_sys::ProcessUtility_hook;
        pg_sys::ProcessUtility_hook = Some(utility);
        NEXT_ACCESS = pg_sys::object_access_hook;
        pg_sys::object_access_hook = Some(access);
    }
}

unsafe extern "C-unwind" {
    /// tcop/utility.h. Declared again because pgrx's wrapper would catch an ERROR of the command and raise it
    /// anew, without its position, its constraint's name, and any SQLSTATE that pgrx doesn't know.
    fn standard_ProcessUtility(
        statement: *mut pg_sys::PlannedStmt,
        text: *const c_char,
        read_only: bool,
        context: pg_sys::ProcessUtilityContext::Type,
        params: pg_sys::ParamListInfo,
        environment: *mut pg_sys::QueryEnvironment,
        dest: *mut pg_sys::DestReceiver,
        completion: *mut pg_sys::QueryCompletion,
    );
}

/// Every utility command of the server passes through here. It has no guard and no values to drop: an ERROR of the
/// command passes over this frame as over a C function's.
unsafe extern "C-unwind" fn utility(
    statement: *mut pg_sys::PlannedStmt,
    text: *const c_char,
    read_only: bool,
    context: pg_sys::ProcessUtilityContext::Type,
    params: pg_sys::ParamListInfo,
    environment: *mut pg_sys::QueryEnvironment,
    dest: *mut pg_sys::DestReceiver,
    completion: *mut pg_sys::QueryCompletion,
) {
    // SAFETY: PostgreSQL passes a planned statement whose utilityStmt is the parsed command; the arguments
    // are handed on as they came.
    unsafe {
        let command = (*statement).utilityStmt;
        let tag = (*command).type_;
        before_utility(command);
        let next = NEXT_UTILITY.unwrap_or(standard_ProcessUtility);
        next(statement, text, read_only, context, params, environment, dest, completion);
        // The tag was read before, since the parse tree of another command may be gone by now.
        if tag == pg_sys::NodeTag::T_ReassignOwnedStmt {
            after_reassign(command.cast());
        }
    }
}

#[pgrx::pg_guard]
unsafe extern "C-unwind" fn before_utility(command: *mut pg_sys::Node) {
    // SAFETY: a parsed command.
    unsafe {
        stream_commands::before(command);
        if let Some(name) = database_wanted_alone(command) {
            evict_workers(name);
        }
    }
    // SAFETY: of the type that its tag says.
    unsafe {
        if (*command).type_ == pg_sys::NodeTag::T_DropOwnedStmt {
            before_drop_owned(&*command.cast());
        }
    }
}

/// What REASSIGN OWNED and DROP OWNED do about consumers and sources.
pub struct OfOwners {
    pub reassign: fn(&[pg_sys::Oid], pg_sys::Oid) -> Result<()>,
    pub drop: fn(&[pg_sys::Oid]) -> Result<()>,
}

static OF_OWNERS: OnceLock<OfOwners> = OnceLock::new();

/// Installs these functions, when the library is loaded.
pub fn set_of_owners(functions: OfOwners) {
    let _ = OF_OWNERS.set(functions);
}

/// Runs after the command has succeeded: so its role has the rights that the command requires.
#[pgrx::pg_guard]
unsafe extern "C-unwind" fn after_reassign(command: *mut pg_sys::ReassignOwnedStmt) {
    let Some(of_owners) = of_owners() else { return };
    // SAFETY: a parsed command, whose roles the server has looked up.
    let (owners, new) =
        unsafe { (roles((*command).roles), pg_sys::get_rolespec_oid((*command).newrole, false)) };
    raise((of_owners.reassign)(&owners, new));
}

/// Runs before the command: if the notes of `owners` were still there, the command would warn for each column of
/// sequin's tables that there are no privileges to revoke.
unsafe fn before_drop_owned(command: &pg_sys::DropOwnedStmt) {
    let Some(of_owners) = of_owners() else { return };
    // SAFETY: a parsed command; an ERROR for a role that isn't there is what the command would raise.
    let owners = unsafe { roles(command.roles) };
    // Where the role has no right to the command, the command itself raises the error.
    if owners.iter().all(|&owner| role::has_rights_of(role::current(), owner)) {
        raise((of_owners.drop)(&owners));
    }
}

fn raise(result: Result<()>) {
    if let Err(error) = result {
        error.raise();
    }
}

/// The functions to call; `None` in a database without the extension.
fn of_owners() -> Option<&'static OfOwners> {
    OF_OWNERS.get().filter(|_| catalog::extension().is_some())
}

unsafe fn roles(specs: *mut pg_sys::List) -> Vec<pg_sys::Oid> {
    // SAFETY: a list of RoleSpec; the result is a list of OIDs.
    unsafe {
        let ids = pg_sys::roleSpecsToIds(specs);
        let len = if ids.is_null() { 0 } else { usize::try_from((*ids).length).unwrap_or(0) };
        (0..len).map(|n| (*(*ids).elements.add(n)).oid_value).collect()
    }
}

/// The database that a command needs to itself, if it is such a command.
unsafe fn database_wanted_alone<'a>(command: *mut pg_sys::Node) -> Option<&'a CStr> {
    use pg_sys::NodeTag::*;
    // SAFETY: a node's tag says its type; names in parse trees are zero-terminated or null.
    unsafe {
        let name = match (*command).type_ {
            T_DropdbStmt => (*command.cast::<pg_sys::DropdbStmt>()).dbname,
            T_RenameStmt => {
                let rename = command.cast::<pg_sys::RenameStmt>();
                if (*rename).renameType != pg_sys::ObjectType::OBJECT_DATABASE {
                    return None;
                }
                (*rename).subname
            }
            T_AlterDatabaseStmt => {
                let alter = command.cast::<pg_sys::AlterDatabaseStmt>();
                option((*alter).options, c"tablespace")?;
                (*alter).dbname
            }
            T_CreatedbStmt => {
                let create = command.cast::<pg_sys::CreatedbStmt>();
                match option((*create).options, c"template") {
                    Some(option) if !(*option).arg.is_null() => pg_sys::defGetString(option),
                    _ => c"template1".as_ptr().cast_mut(),
                }
            }
            _ => return None,
        };
        (!name.is_null()).then(|| CStr::from_ptr(name))
    }
}

unsafe fn option(options: *mut pg_sys::List, name: &CStr) -> Option<*mut pg_sys::DefElem> {
    if options.is_null() {
        return None;
    }
    // SAFETY: the options of these commands are lists of DefElem.
    unsafe {
        let len = usize::try_from((*options).length).unwrap_or(0);
        (0..len)
            .map(|n| (*(*options).elements.add(n)).ptr_value.cast::<pg_sys::DefElem>())
            .find(|&option| CStr::from_ptr((*option).defname) == name)
    }
}

/// Ends the workers of a database, and keeps new ones from starting until this transaction ends.
fn evict_workers(name: &CStr) {
    let Some(oid) = catalog::database(name) else { return };
    let Some(database) = Database::find(oid) else { return };
    // Where the role has no right to the command, the workers go on, and the command raises the error.
    if !role::owns_database(oid) || current::suspend(oid).is_err() {
        return;
    }
    let until = Instant::now() + DETACHING;
    capturers::terminate(oid);
    for (_, helper) in database.helpers() {
        crate::pg::process::terminate(helper.status.pid());
    }
    while database.oid() == oid && database.has_workers() && Instant::now() < until {
        database.dispatcher.wake();
        crate::pg::process::sleep(Duration::from_millis(10));
        pgrx::check_for_interrupts!();
    }
}

/// Unguarded, like `utility`.
unsafe extern "C-unwind" fn access(
    access: pg_sys::ObjectAccessType::Type,
    class: pg_sys::Oid,
    object: pg_sys::Oid,
    sub: c_int,
    arg: *mut c_void,
) {
    // SAFETY: chains to the hook that was there before.
    unsafe {
        if let Some(next) = NEXT_ACCESS {
            next(access, class, object, sub, arg);
        }
        if access == pg_sys::ObjectAccessType::OAT_DROP && sub == 0 {
            before_drop(class, object);
        }
    }
}

#[pgrx::pg_guard]
unsafe extern "C-unwind" fn before_drop(class: pg_sys::Oid, object: pg_sys::Oid) {
    // Noting a change fails only in a server where this database can have no dispatcher: then there is none to inform.
    let _ = match class {
        pg_sys::RelationRelationId if catalog::is_stream_table(object) => {
            stream_commands::note_change(object);
            Ok(())
        }
        // A source may use this publication.
        pg_sys::PublicationRelationId if Database::here().is_some() => {
            current::note_changes(&Changes::default())
        }
        pg_sys::ExtensionRelationId if catalog::extension() == Some(object) => {
            current::note_changes(&Changes::everything())
        }
        _ => Ok(()),
    };
}
