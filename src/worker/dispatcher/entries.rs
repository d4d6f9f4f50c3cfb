//! The sessions' entries in shared memory, as the rules see them.

use crate::pg::exec::catalog;
use crate::pg::process;
use crate::pg::shared::database::Database;
use crate::pg::shared::session_entry::{self, SessionEntry};
use crate::pg::shared::shmem::{Segment, segment};
use sequin_engine::changes::Changes;
use sequin_engine::dispatcher::{Answer, Asked, FastPathAck, Outcome, Publisher, Shared};
use sequin_engine::ids::{RequestId, SessionId, StreamId};
use std::time::{Duration, Instant};

/// The entries of one database.
pub(super) struct Entries(pub &'static Database);

impl Shared for Entries {
    fn take_changes(&mut self) -> Changes {
        self.0.take_changes()
    }

    fn publishers(&mut self, stream: StreamId) -> Vec<Publisher> {
        session_entry::publishers(self.0, super::table_of(stream)).all()
    }

    fn revoke(&mut self, session: SessionId, received_by: RequestId) -> Option<FastPathAck> {
        entries().get(session)?.revoke(received_by)
    }

    fn answer(
        &mut self,
        session: SessionId,
        request: RequestId,
        answer: &Answer,
        fast_path: bool,
    ) -> bool {
        entries().get(session).is_some_and(|entry| entry.answer(request, answer, fast_path))
    }

    fn ask_again(&mut self, session: SessionId, request: RequestId) {
        entries().get(session).iter().for_each(|entry| entry.ask_again(request));
        self.0.notify_request(session);
    }

    fn listen(&mut self, streams: &mut dyn Iterator<Item = StreamId>) {
        self.0.listen(streams.map(super::table_of));
    }

    fn set_waited_for(&mut self, waited_for: bool) -> bool {
        self.0.set_waited_for(waited_for)
    }
}

fn entries() -> &'static [SessionEntry] {
    segment().map_or(&[][..], Segment::sessions)
}

/// Collects what the flagged entries have for the dispatcher: the outcomes of transactions, and the requests. All
/// outcomes come before all requests: so a request made after a transaction's end gets what that has freed.
pub(super) fn collect(database: &Database, marked: &[usize]) -> (Vec<Outcome>, Vec<Asked>) {
    let (mut outcomes, mut all) = (Vec::new(), Vec::new());
    for &session in marked {
        let Some(entry) = entries().get(session) else { continue };
        let (outcome, asked) = entry.collect(session, database.oid());
        outcomes.push(outcome);
        all.extend(asked);
    }
    (outcomes, all)
}

/// Refuses all requests, since this dispatcher has found no extension. If the extension was created meanwhile, leaves
/// them to the next dispatcher.
pub(super) fn refuse_all(database: &Database) {
    let oid = database.oid();
    let mut all = Vec::new();
    for (session, entry) in entries().iter().enumerate() {
        entry.reset(oid);
        let (_, asked) = entry.collect(session, oid);
        all.extend(asked.map(|asked| (entry, asked)));
    }
    if all.is_empty() {
        return;
    }
    // Checked after the requests were collected: so if there is no extension, none of these sessions can have seen one
    // committed.
    let is_gone = process::transaction(|| Ok(catalog::extension().is_none()));
    for (entry, Asked { session, request_id, .. }) in all {
        if is_gone == Ok(true) {
            entry.answer(request_id, &Answer::NoConsumer, false);
        } else {
            entry.ask_again(request_id);
            database.notify_request(session);
            database.set_enabled(true);
        }
    }
}

/// Called when a dispatcher starts. Requests that its predecessor had taken are posted again. From here on,
/// transactions that rely on the predecessor can't begin to commit. Waits for those that are just committing, so that
/// their rows are read.
pub(super) fn take_over(database: &Database) {
    database.begin_reign();
    for (session, entry) in entries().iter().enumerate() {
        entry.reset(database.oid());
        database.notify_request(session);
    }
    await_commits(database, None);
}

/// Called when a dispatcher ends. From here on, no transaction with a nack that it has answered can begin to commit.
/// Waits for those that are just committing, but not for long: a commit may wait for a standby.
pub(super) fn hand_over(database: &Database) {
    const PATIENCE: Duration = Duration::from_secs(1);
    database.end_reign();
    await_commits(database, Some(Instant::now() + PATIENCE));
}

fn await_commits(database: &Database, until: Option<Instant>) {
    let oid = database.oid();
    let is_over = || match until {
        Some(until) => Instant::now() > until,
        None => process::must_end(),
    };
    while entries().iter().any(|entry| entry.is_committing(oid)) && !is_over() {
        process::wait(Some(Duration::from_millis(10)));
    }
}
