//! Streams whose messages could not all be found: what was seen of each when it was opened or looked at, and who is told.

use super::Dispatcher;
use super::loading::NotLoaded;
use crate::engine::key::Seq;
use crate::engine::snapshot::Snapshot;
use crate::engine::stream::ConsumerId;
use crate::pg::mailbox::Answer;
use crate::pg::process;
use crate::pg::stream_table::{Fault, Known};
use crate::store::streams::{self, Tail};

impl Dispatcher {
    /// Remembers what is wrong with a stream, logged once, or that nothing is any more. Its consumers say so.
    pub(super) fn note_fault(&mut self, name: &str, fault: Option<Fault>) {
        let Some(state) = self.world.streams.get_mut(name) else { return };
        if state.fault == fault {
            return;
        }
        let (before, what) = (state.fault, format!("stream \"{name}\" is damaged"));
        state.fault = fault;
        let text = fault.map(|fault| format!("{what}: {fault}"));
        let consumers = self.world.consumers.values_mut();
        for consumer in consumers.filter(|consumer| consumer.config.stream == name) {
            if before.is_some() || text.is_some() {
                consumer.last_error.clone_from(&text);
            }
        }
        if let Some(fault) = fault {
            self.fail(&what, &fault.to_string());
        }
    }

    /// What is wrong with a consumer's stream.
    pub(super) fn fault_of(&self, id: ConsumerId) -> Option<Fault> {
        self.world.streams.get(&self.world.consumers.get(&id)?.config.stream)?.fault
    }

    /// Tells those who wait for a consumer's messages, if its stream is damaged.
    pub(super) fn refuse_if_damaged(&mut self, id: ConsumerId) {
        if let Some(fault) = self.fault_of(id) {
            self.refuse_waiting(id, &Answer::Damaged(fault.to_string()));
        }
    }

    /// Fails if a consumer knows of higher seqs than its stream's sequence has handed out.
    pub(super) fn check_reach(&mut self, name: &str, reach: Seq) -> Result<(), NotLoaded> {
        let Some(state) = self.world.streams.get_mut(name) else { return Ok(()) };
        let known = state.known;
        if reach <= known.last {
            return Ok(());
        }
        match process::transaction(|| Ok(streams::tail(name, known))) {
            Ok(Tail::Locked(_, known)) if reach <= known.last => {
                state.known = known;
                Ok(())
            }
            Ok(Tail::Locked(_, Known { last, .. })) => {
                // It is found again at each look, until the sequence has reached that.
                state.known.last = reach;
                let fault = Fault::WentBack { last, known: reach };
                self.note_fault(name, Some(fault));
                Err(NotLoaded::Damaged(fault))
            }
            Ok(Tail::Broken(fault)) => {
                self.note_fault(name, Some(fault));
                Err(NotLoaded::Damaged(fault))
            }
            Ok(Tail::Missing) => Err(NotLoaded::Unknown),
            Ok(Tail::Busy) | Err(_) => Err(NotLoaded::NotNow),
        }
    }
}

/// The highest seq that a consumer's state shows to have been used. Where it starts shows nothing: that may lie beyond
/// the last.
pub(super) fn reach(snapshot: &Snapshot, start_after: Seq, start_last: Seq) -> Seq {
    let floor = Some(snapshot.floor).filter(|&floor| floor > start_after);
    let active = snapshot.active.keys().next_back().copied();
    floor.into_iter().chain(snapshot.done.last()).chain(active).fold(start_last, Seq::max)
}
