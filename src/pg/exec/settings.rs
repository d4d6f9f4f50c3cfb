//! Settings that hold while a function runs.

use crate::pg::process::BY_INDEX;
use pgrx::pg_sys;
use std::ffi::CString;

/// A nest level of settings. It ends when the value is dropped.
struct Settings {
    level: i32,
    /// The end of the level also undoes SET without LOCAL.
    takes_all_back: bool,
}

impl Settings {
    fn new(takes_all_back: bool) -> Settings {
        // SAFETY: begins a level, as PostgreSQL does before it runs an index's functions as the table's owner.
        Settings { level: unsafe { pg_sys::NewGUCNestLevel() }, takes_all_back }
    }
}

impl Drop for Settings {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            // SAFETY: ends the level that was begun. While an ERROR unwinds, the end of the (sub)transaction does
            // this instead.
            unsafe { pg_sys::AtEOXact_GUC(!self.takes_all_back, self.level) };
        }
    }
}

/// Runs `f` and undoes all settings that it has changed, also without LOCAL.
pub fn with_settings_restored<R>(f: impl FnOnce() -> R) -> R {
    let _settings = Settings::new(true);
    f()
}

/// Runs `f` with the search_path pg_catalog, in which only superusers can create objects.
pub fn in_pg_catalog<R>(f: impl FnOnce() -> R) -> R {
    let _settings = Settings::new(false);
    set_for_level("search_path", "pg_catalog, pg_temp");
    f()
}

/// Runs `f` with sequential and bitmap scans disabled, so that its statements use an index wherever there is one. The
/// planner doesn't know how many dead rows a table has, and might scan through all of them.
pub fn by_index<R>(f: impl FnOnce() -> R) -> R {
    let _settings = Settings::new(false);
    BY_INDEX.into_iter().for_each(|(name, value)| set_for_level(name, value));
    f()
}

/// Sets a setting that every role may set, for the level of [`Settings`] that was just begun.
fn set_for_level(name: &str, value: &str) {
    let (Ok(name), Ok(value)) = (CString::new(name), CString::new(value)) else { return };
    // SAFETY: as fmgr_security_definer does it.
    unsafe {
        pg_sys::set_config_option(
            name.as_ptr(),
            value.as_ptr(),
            pg_sys::GucContext::PGC_USERSET,
            pg_sys::GucSource::PGC_S_SESSION,
            pg_sys::GucAction::GUC_ACTION_SAVE,
            true,
            0,
            false,
        );
    }
}
