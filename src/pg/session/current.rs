//! What this process's open transaction has published, asked for and changed, and the callbacks that report its end.
//! They are registered once per process, on first use.
//!
//! A callback that raises after the commit record is written takes the server down, so those for commit and
//! abort only store, lock and wake.

use crate::error::{Error, Result};
use crate::pg::process;
use crate::pg::shared::capturers;
use crate::pg::shared::database::Database;
use crate::pg::shared::session_entry::SessionEntry;
use crate::pg::shared::shmem::segment;
use pgrx::pg_sys;
use sequin_engine::changes::Changes;
use sequin_engine::dispatcher::{Answer, Request};
use sequin_engine::ids::RequestId;
use sequin_engine::key::Seq;
use sequin_engine::settings::Micros;
use std::cell::RefCell;
use std::time::{Duration, Instant};

/// What the open transaction has done.
#[derive(Default)]
struct Transaction {
    /// The first request to the dispatcher of each nest level: (level, request), ascending.
    asked: Vec<(i32, RequestId)>,
    published: Vec<pg_sys::Oid>,
    /// The streams and consumers that it has changed; `None` if it has changed nothing of the configuration.
    changed: Option<Changes>,
    /// It has made a replication slot, which a rollback doesn't remove.
    made_slot: bool,
    suspends: bool,
    /// When it claimed its first dedup_id.
    claimed: Option<Micros>,
    /// The earliest time that it has scheduled a message for.
    scheduled: Option<Micros>,
}

thread_local! {
    static TRANSACTION: RefCell<Transaction> = RefCell::default();
    static REGISTERED: std::cell::Cell<bool> = const { std::cell::Cell::new(false) };
}

fn with<R>(f: impl FnOnce(&mut Transaction) -> R) -> R {
    TRANSACTION.with_borrow_mut(f)
}

/// This process's entry, ready for use.
fn entry() -> Result<(usize, &'static SessionEntry)> {
    let (index, entry) = SessionEntry::mine().ok_or(Error::NotPreloaded)?;
    if !REGISTERED.get() {
        entry.own()?;
        // SAFETY: the callbacks are functions of this library, which is never unloaded. `at_exit` comes after the end
        // of an open transaction (ShutdownPostgres is a before_shmem_exit callback), and before ProcKill takes the
        // PGPROC away that lightweight locks need.
        unsafe {
            pg_sys::RegisterXactCallback(Some(at_end), std::ptr::null_mut());
            pg_sys::RegisterSubXactCallback(Some(at_savepoint), std::ptr::null_mut());
            pg_sys::on_shmem_exit(Some(at_exit), pg_sys::Datum::null());
        }
        REGISTERED.set(true);
    }
    Ok((index, entry))
}

/// The entry of this session's database. If there is none, makes one, so that the launcher starts a dispatcher.
pub fn database() -> Result<&'static Database> {
    let is_enabled = |database: &&Database| database.is_enabled();
    if let Some(database) = Database::here().filter(is_enabled) {
        return Ok(database);
    }
    wanted(Database::find_or_add)
}

/// The entry of this session's database, which `find` finds or makes. When all are taken, some may be free soon: when the
/// server starts, those of databases that turn out not to have the extension.
fn wanted(find: impl Fn(pg_sys::Oid) -> Option<&'static Database>) -> Result<&'static Database> {
    const PATIENCE: Duration = Duration::from_secs(20);
    let segment = segment().ok_or(Error::NotPreloaded)?;
    let until = Instant::now() + PATIENCE;
    loop {
        // SAFETY: a plain value of this process.
        if let Some(database) = find(unsafe { pg_sys::MyDatabaseId }) {
            segment.launcher.wake();
            return Ok(database);
        }
        if !segment.databases().iter().any(Database::is_asking) || Instant::now() > until {
            return Err(Error::TooManyDatabases);
        }
        process::sleep(Duration::from_millis(10));
        pgrx::check_for_interrupts!();
    }
}

/// True if the open transaction has published to the stream before.
pub(in crate::pg) fn has_published(stream: pg_sys::Oid) -> bool {
    with(|t| t.published.contains(&stream))
}

/// Notes in shared memory that this transaction takes no seq of the stream below `bound`.
pub(in crate::pg) fn note_published(stream: pg_sys::Oid, bound: Seq) -> Result<()> {
    let (index, entry) = entry()?;
    let database = database()?;
    // The transaction would get an id in any case, unless it inserts no row. SAFETY: in a transaction. On a standby,
    // where none may have an id, the first call raises an ERROR.
    let xid = unsafe {
        pg_sys::PreventCommandIfReadOnly(c"INSERT".as_ptr());
        pg_sys::GetTopTransactionId()
    };
    entry.publish(stream, bound, xid.into_inner())?;
    database.set_publishing(index, true);
    with(|t| t.published.push(stream));
    Ok(())
}

/// Notes changes of the configuration: at commit the dispatcher, the capturers and the launcher learn of them. `these`
/// names the streams and consumers; sources are read again in any case.
pub fn note_changes(these: &Changes) -> Result<()> {
    entry()?;
    if with(|t| t.changed.is_none()) {
        wanted(Database::find_or_add_for_change)?;
    }
    with(|t| t.changed.get_or_insert_default().add(these));
    Ok(())
}

/// Like [`note_changes`], but a rollback reports it too: a replication slot was made, which a rollback does not undo.
pub fn note_slot_made() -> Result<()> {
    note_changes(&Changes::default())?;
    with(|t| t.made_slot = true);
    Ok(())
}

/// Notes that this transaction claims dedup_ids, of which the janitor must get rid some time.
pub fn note_claim(now: Micros) -> Result<()> {
    database()?.janitor.want();
    with(|t| {
        t.claimed.get_or_insert(now);
    });
    Ok(())
}

/// Notes that this transaction schedules a message for this time.
pub(in crate::pg) fn note_scheduled(at: Micros) -> Result<()> {
    entry()?;
    database()?;
    with(|t| t.scheduled = Some(t.scheduled.map_or(at, |first| first.min(at))));
    Ok(())
}

/// True if the open transaction has a transaction id, which it takes when it first writes.
pub fn has_written() -> bool {
    // SAFETY: reads the current transaction's state.
    unsafe { pg_sys::GetTopTransactionIdIfAny() != pg_sys::InvalidTransactionId }
}

/// Keeps the workers of a database away until this transaction ends.
pub(in crate::pg) fn suspend(database: pg_sys::Oid) -> Result<()> {
    entry()?.1.suspend(Some(database));
    with(|t| t.suspends = true);
    Ok(())
}

/// Posts a request to this database's dispatcher; false if it is too long.
pub(in crate::pg) fn post(request: &Request) -> Result<bool> {
    let (index, entry) = entry()?;
    let database = database()?;
    let Some(request_id) = entry.post(request) else { return Ok(false) };
    note_asked(request_id);
    database.notify_request(index);
    Ok(true)
}

/// Finishes deliveries of the answer to `request` without asking; false if the dispatcher has to be asked.
pub(in crate::pg) fn finish(request: RequestId, positions: &[usize]) -> Result<bool> {
    let (index, entry) = entry()?;
    let database = database()?;
    let Some(request_id) = entry.finish(request, positions, database) else { return Ok(false) };
    note_asked(request_id);
    database.mark(index);
    Ok(true)
}

/// The id of this session's last request; none if it has made no request.
pub(in crate::pg) fn last_request() -> RequestId {
    SessionEntry::mine().map_or(RequestId::NONE, |(_, entry)| entry.last_request())
}

/// Notes that the current nest level has made a request: from the level's first one on, a rollback of the savepoint
/// voids requests.
fn note_asked(request_id: RequestId) {
    // SAFETY: reads the current transaction's state.
    let level = unsafe { pg_sys::GetCurrentTransactionNestLevel() };
    with(|t| {
        if t.asked.last().is_none_or(|&(deepest, _)| deepest < level) {
            t.asked.push((level, request_id));
        }
    });
}

/// The answer, once it is there.
pub(in crate::pg) fn take_answer() -> Option<Answer> {
    SessionEntry::mine()?.1.take_answer()
}

/// Flags the posted request once more, for a new dispatcher that may not have seen it.
pub(in crate::pg) fn remind() {
    if let (Ok((index, _)), Ok(database)) = (entry(), database()) {
        database.notify_request(index);
    }
}

#[pgrx::pg_guard]
unsafe extern "C-unwind" fn at_end(event: pg_sys::XactEvent::Type, _arg: *mut std::ffi::c_void) {
    use pg_sys::XactEvent::*;
    match event {
        XACT_EVENT_PRE_COMMIT | XACT_EVENT_PARALLEL_PRE_COMMIT => before_commit(),
        XACT_EVENT_PRE_PREPARE => refuse_prepare(),
        XACT_EVENT_COMMIT | XACT_EVENT_PARALLEL_COMMIT => end(true),
        XACT_EVENT_ABORT | XACT_EVENT_PARALLEL_ABORT => end(false),
        _ => {}
    }
}

fn before_commit() {
    let asked = with(|t| !t.asked.is_empty());
    if asked && SessionEntry::mine().is_some_and(|(_, entry)| !entry.may_commit()) {
        Error::DispatcherRestarted.raise();
    }
}

fn refuse_prepare() {
    // COMMIT PREPARED may run in another process, which could not report the end.
    let is_involved = with(|t| {
        !t.asked.is_empty()
            || !t.published.is_empty()
            || t.changed.is_some()
            || t.suspends
            || t.scheduled.is_some()
    });
    if is_involved {
        Error::CannotPrepare.raise();
    }
}

/// The transaction is over, and a commit is visible to others (CallXactCallbacks comes after ProcArrayEndTransaction).
/// Only now may the entry's bounds be cleared.
fn end(committed: bool) {
    let Transaction { asked, published, changed, made_slot, suspends, claimed, scheduled } =
        with(std::mem::take);
    if let Some((first, database)) = scheduled.filter(|_| committed).zip(Database::here()) {
        database.note_scheduled(first);
    }
    if asked.is_empty() && published.is_empty() && changed.is_none() && !suspends {
        return;
    }
    let Some((index, entry)) = SessionEntry::mine() else { return };
    if suspends {
        entry.suspend(None);
        if let Some(segment) = segment() {
            segment.launcher.wake();
        }
    }
    if let Some((claimed, database)) = claimed.filter(|_| committed).zip(Database::here()) {
        database.note_claims(claimed);
    }
    if !published.is_empty() {
        entry.end_publishing();
    }
    let must_tell = asked.first().is_some_and(|&(_, first)| {
        let must_tell = committed || entry.abort(first);
        if committed {
            entry.commit();
        }
        entry.end() || must_tell
    });
    let Some(database) = Database::here() else { return };
    if !published.is_empty() {
        database.set_publishing(index, false);
        published.iter().for_each(|&stream| database.notify_published(stream));
    }
    if let Some(changes) = &changed {
        let must_tell = committed || made_slot;
        database.tell_change(must_tell.then_some(changes));
        if must_tell {
            capturers::notify_config(database.oid());
            if let Some(segment) = segment() {
                segment.launcher.wake();
            }
        }
    }
    if must_tell {
        database.notify_end(index);
    }
}

#[pgrx::pg_guard]
unsafe extern "C-unwind" fn at_savepoint(
    event: pg_sys::SubXactEvent::Type,
    _sub: pg_sys::SubTransactionId,
    _parent: pg_sys::SubTransactionId,
    _arg: *mut std::ffi::c_void,
) {
    use pg_sys::SubXactEvent::*;
    // SAFETY: reads the current transaction's state; the level is still that of the ending savepoint.
    let level = unsafe { pg_sys::GetCurrentTransactionNestLevel() };
    match event {
        SUBXACT_EVENT_COMMIT_SUB => with(|t| hand_up(&mut t.asked, level)),
        SUBXACT_EVENT_ABORT_SUB => {
            let Some(from) = with(|t| take_level(&mut t.asked, level)) else { return };
            let (Some((index, entry)), Some(database)) = (SessionEntry::mine(), Database::here())
            else {
                return;
            };
            if entry.abort(from) {
                database.notify_end(index);
            }
        }
        _ => {}
    }
}

/// A savepoint was released: what it asked for belongs to the level above.
fn hand_up(asked: &mut Vec<(i32, RequestId)>, level: i32) {
    let Some((_, request_id)) = asked.pop_if(|&mut (l, _)| l >= level) else { return };
    if asked.last().is_none_or(|&(above, _)| above < level - 1) {
        asked.push((level - 1, request_id));
    }
}

/// A savepoint was rolled back: returns its first request, from which on all are void; `None` if it made none.
fn take_level(asked: &mut Vec<(i32, RequestId)>, level: i32) -> Option<RequestId> {
    asked.pop_if(|&mut (l, _)| l >= level).map(|(_, request_id)| request_id)
}

#[pgrx::pg_guard]
unsafe extern "C-unwind" fn at_exit(_code: i32, _arg: pg_sys::Datum) {
    end(false);
    if let Some((_, entry)) = SessionEntry::mine() {
        entry.disown();
    }
}

#[cfg(test)]
mod tests {
    use super::{RequestId, hand_up, take_level};

    #[test]
    fn a_released_savepoint_hands_its_requests_up() {
        let mut asked = vec![(1, RequestId(10)), (3, RequestId(12))];
        hand_up(&mut asked, 3);
        assert_eq!(asked, [(1, RequestId(10)), (2, RequestId(12))]);
        hand_up(&mut asked, 2);
        assert_eq!(asked, [(1, RequestId(10))]);
        hand_up(&mut asked, 2);
        assert_eq!(asked, [(1, RequestId(10))]);
    }

    #[test]
    fn a_rolled_back_savepoint_voids_what_it_asked_for_and_no_more() {
        let mut asked = vec![(1, RequestId(10)), (2, RequestId(12))];
        assert_eq!(take_level(&mut asked, 3), None);
        assert_eq!(take_level(&mut asked, 2), Some(RequestId(12)));
        assert_eq!(take_level(&mut asked, 2), None);
        assert_eq!(asked, [(1, RequestId(10))]);
    }
}
