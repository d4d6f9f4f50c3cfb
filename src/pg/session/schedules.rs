//! The trigger function of sequin.schedules: notes for when a message is scheduled, whoever inserts it.

use super::current;
use super::publish::{column, finfo, foreign, raise, table_of, trigger};
use crate::error::Result;
use crate::pg::exec::catalog;
use pgrx::pg_sys;
use sequin_engine::settings::Micros;

/// `sequin.on_schedule()`, AFTER INSERT OR UPDATE FOR EACH ROW.
#[pgrx::pg_guard]
#[unsafe(no_mangle)]
unsafe extern "C-unwind" fn sequin_on_schedule(fcinfo: pg_sys::FunctionCallInfo) -> pg_sys::Datum {
    raise(trigger(fcinfo).map_or(Ok(()), on_schedule));
    pg_sys::Datum::null()
}

fn on_schedule(trigger: &pg_sys::TriggerData) -> Result<()> {
    let table = table_of(trigger);
    if catalog::own_table(c"schedules") != Some(table) {
        return Err(foreign(table, "on_schedule"));
    }
    let row = match trigger.tg_event & pg_sys::TRIGGER_EVENT_OPMASK {
        pg_sys::TRIGGER_EVENT_UPDATE => trigger.tg_newtuple,
        _ => trigger.tg_trigtuple,
    };
    // A timestamptz, in microseconds.
    let at: Option<Micros> =
        column::<pgrx::datum::TimestampWithTimeZone>(trigger, row, c"deliver_at")
            .map(pgrx::datum::TimestampWithTimeZone::into_inner);
    at.map_or(Ok(()), current::note_scheduled)
}

finfo!(pg_finfo_sequin_on_schedule);
