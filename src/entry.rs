//! What PostgreSQL looks up by name: the library's start, and where the processes of its workers begin and end.
#![allow(unsafe_code)] // the names are exported, and the server calls these functions

use crate::pg::process::{self, AT_ONCE, AT_THE_STEPS_END};
use crate::pg::session::hooks::{self, OfOwners};
use crate::pg::session::upsert;
use crate::pg::shared::capturers;
use crate::pg::shared::database::Database;
use crate::pg::shared::helper::Helper;
use crate::pg::shared::shmem::segment;
use crate::{pg, store, worker};
use pgrx::pg_sys;

/// Called by the server when it loads the library.
#[pgrx::pg_guard]
extern "C-unwind" fn _PG_init() {
    pg::load();
    hooks::set_of_owners(OfOwners { reassign: store::owners::reassign, drop: store::owners::drop });
    upsert::set_supersede(store::messages::superseding::supersede);
}

/// The launcher's process begins here.
#[pgrx::pg_guard]
#[unsafe(no_mangle)]
extern "C-unwind" fn sequin_launcher(_arg: pg_sys::Datum) {
    process::attach_signals(AT_THE_STEPS_END);
    process::connect_to_no_database();
    if let Some(segment) = segment()
        && segment.launcher.attach()
    {
        process::at_exit(detach_launcher, pg_sys::Datum::null());
        worker::launcher::run(segment);
    }
    process::exit_to_be_restarted();
}

/// A dispatcher's process begins here.
#[pgrx::pg_guard]
#[unsafe(no_mangle)]
extern "C-unwind" fn sequin_dispatcher(arg: pg_sys::Datum) {
    process::attach_signals(AT_THE_STEPS_END);
    let oid = pg_sys::Oid::from(arg.value() as u32);
    let Some(database) = Database::find(oid) else { return };
    if !database.dispatcher.attach() {
        return;
    }
    process::at_exit(detach_dispatcher, arg);
    process::connect(oid);
    worker::dispatcher::run(database);
}

/// A janitor's process begins here.
#[pgrx::pg_guard]
#[unsafe(no_mangle)]
extern "C-unwind" fn sequin_janitor(arg: pg_sys::Datum) {
    run_helper(arg, |database| &database.janitor, detach_janitor, worker::janitor::run);
}

/// A scheduler's process begins here.
#[pgrx::pg_guard]
#[unsafe(no_mangle)]
extern "C-unwind" fn sequin_scheduler(arg: pg_sys::Datum) {
    run_helper(arg, |database| &database.scheduler, detach_scheduler, worker::scheduler::run);
}

fn run_helper(
    arg: pg_sys::Datum,
    of: fn(&'static Database) -> &'static Helper,
    detach: unsafe extern "C-unwind" fn(i32, pg_sys::Datum),
    run: fn(&'static Database),
) {
    process::attach_signals(AT_ONCE);
    let oid = pg_sys::Oid::from(arg.value() as u32);
    let Some(database) = Database::find(oid) else { return };
    if of(database).status.attach() {
        process::at_exit(detach, arg);
        process::connect(oid);
        run(database);
    }
}

/// A capturer's process begins here.
#[pgrx::pg_guard]
#[unsafe(no_mangle)]
extern "C-unwind" fn sequin_capturer(arg: pg_sys::Datum) {
    process::attach_signals(AT_ONCE);
    let Some(entry) = capturers::get(arg.value()) else { return };
    if !entry.status.attach() {
        return;
    }
    process::at_exit(detach_capturer, arg);
    // The launcher may have released the entry before this process attached to it. It can't from here on.
    let database = entry.database();
    if database == pg_sys::InvalidOid || !entry.is_enabled() {
        return;
    }
    process::connect(database);
    worker::capturer::run(entry);
}

#[pgrx::pg_guard]
unsafe extern "C-unwind" fn detach_launcher(_code: i32, _arg: pg_sys::Datum) {
    if let Some(segment) = segment() {
        segment.launcher.detach();
    }
}

#[pgrx::pg_guard]
unsafe extern "C-unwind" fn detach_dispatcher(_code: i32, arg: pg_sys::Datum) {
    if let Some(database) = Database::find(pg_sys::Oid::from(arg.value() as u32)) {
        database.end_reign();
        database.dispatcher.detach();
    }
    wake_launcher();
}

#[pgrx::pg_guard]
unsafe extern "C-unwind" fn detach_janitor(_code: i32, arg: pg_sys::Datum) {
    detach_helper(arg, |database| &database.janitor);
}

#[pgrx::pg_guard]
unsafe extern "C-unwind" fn detach_scheduler(_code: i32, arg: pg_sys::Datum) {
    detach_helper(arg, |database| &database.scheduler);
}

fn detach_helper(arg: pg_sys::Datum, of: fn(&'static Database) -> &'static Helper) {
    if let Some(database) = Database::find(pg_sys::Oid::from(arg.value() as u32)) {
        of(database).status.detach();
    }
    wake_launcher();
}

#[pgrx::pg_guard]
unsafe extern "C-unwind" fn detach_capturer(_code: i32, arg: pg_sys::Datum) {
    if let Some(entry) = capturers::get(arg.value()) {
        entry.stop_sleeping();
        entry.status.detach();
    }
    wake_launcher();
}

fn wake_launcher() {
    if let Some(segment) = segment() {
        segment.launcher.wake();
    }
}
