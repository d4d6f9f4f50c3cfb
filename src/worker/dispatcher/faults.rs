//! Streams whose messages could not all be found: what was seen of each when it was opened or looked at, and who is told.

use super::Dispatcher;
use super::loading::NotLoaded;
use crate::pg::exec::stream_table::{Fault, Known};
use crate::pg::process;
use crate::pg::shared::mailbox::Answer;
use crate::store::streams::{self, Tail};
use sequin_engine::consumer_state::ConsumerState;
use sequin_engine::key::Seq;
use sequin_engine::stream::ConsumerId;

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
    pub(super) fn check_max_delivered(
        &mut self,
        name: &str,
        max_delivered: Seq,
    ) -> Result<(), NotLoaded> {
        let Some(state) = self.world.streams.get_mut(name) else { return Ok(()) };
        let known = state.known;
        if max_delivered <= known.last {
            return Ok(());
        }
        match process::transaction(|| Ok(streams::tail(name, known))) {
            Ok(Tail::Locked(_, known)) if max_delivered <= known.last => {
                state.known = known;
                Ok(())
            }
            Ok(Tail::Locked(_, Known { last, .. })) => {
                // It is found again at each look, until the sequence has reached that.
                state.known.last = max_delivered;
                let fault = Fault::WentBack { last, known: max_delivered };
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
pub(super) fn max_delivered(saved: &ConsumerState, start_after: Seq, start_last: Seq) -> Seq {
    let floor = Some(saved.floor).filter(|&floor| floor > start_after);
    let active = saved.active.keys().next_back().copied();
    floor.into_iter().chain(saved.done.last()).chain(active).fold(start_last, Seq::max)
}
