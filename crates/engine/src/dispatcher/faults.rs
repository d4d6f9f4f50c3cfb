//! Streams whose messages could not all be found, and how this is reported.

use super::exchange::Answer;
use super::interface::{Effect, Shared};
use super::{Dispatcher, Step};
use crate::fault::Fault;
use crate::ids::{ConsumerId, StreamId};

impl Dispatcher {
    /// Remembers what is wrong with a stream, or that nothing is wrong any more. A fault is logged once, and is the
    /// last error of the stream's consumers.
    pub(super) fn note_fault<S: Shared>(
        &mut self,
        id: StreamId,
        fault: Option<Fault>,
        s: &mut Step<S>,
    ) {
        let Some(entry) = self.world.streams.get_mut(&id) else { return };
        if entry.fault == fault {
            return;
        }
        entry.fault = fault;
        let text = fault.map(|fault| fault.of(&entry.name));
        for consumer in self.world.consumers.values_mut().filter(|c| c.stream == Some(id)) {
            consumer.last_error.clone_from(&text);
        }
        s.out.extend(text.map(Effect::Log));
    }

    /// What is wrong with a consumer's stream.
    pub(super) fn fault_of(&self, id: ConsumerId) -> Option<Fault> {
        self.world.entry_of(id)?.fault
    }

    /// Refuses the requests that wait for a consumer's messages if its stream is damaged; true then.
    pub(super) fn refuse_if_damaged<S: Shared>(&mut self, id: ConsumerId, s: &mut Step<S>) -> bool {
        let fault = self.fault_of(id);
        if let Some(fault) = fault {
            self.refuse_waiting(id, &Answer::Damaged(fault.to_string()), s);
        }
        fault.is_some()
    }

    /// Remembers and logs what went wrong with one consumer.
    pub(super) fn fail_consumer<S: Shared>(
        &mut self,
        id: ConsumerId,
        what: &str,
        error: &str,
        s: &mut Step<S>,
    ) {
        if let Some(entry) = self.world.consumers.get_mut(&id) {
            entry.last_error = Some(format!("{what}: {error}"));
            s.out.push(Effect::Log(format!("consumer \"{}\": {what}: {error}", entry.config.name)));
        }
    }
}
