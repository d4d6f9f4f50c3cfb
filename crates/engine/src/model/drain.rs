//! The end of a run: all messages are received and acked, and everything that matches must have come.

use super::Checked;
use super::dispatcher::Limits;
use super::op::{Restart, SESSIONS};
use super::run::Run;
use crate::ids::ConsumerId;
use crate::settings::Micros;
use proptest::prelude::*;

/// More than any run needs: each round finishes what is loaded.
const MAX_ROUNDS: usize = 200;

impl Run {
    pub fn drain(&mut self) -> Checked {
        self.dispatcher.loaded.keys().try_for_each(|&id| self.check(id))?;
        for s in 0..SESSIONS {
            self.end(s, Some(true), true)?;
        }
        for id in (1..=6).map(ConsumerId) {
            self.load(id)?;
            let old = self.world.config(id)?;
            let mut new = old.clone();
            new.settings.paused = false;
            self.configure(id, &old, new, false)?;
        }
        for _ in 0..MAX_ROUNDS {
            self.step += 1;
            self.now += 7_200_000_000;
            self.tick()?;
            let mut is_quiet = self.read_all()?;
            for id in (1..=6).map(ConsumerId) {
                is_quiet &= !self.ack_all(id)?;
            }
            self.after_step()?;
            if is_quiet {
                return self.check_end();
            }
        }
        Err(TestCaseError::fail("some messages never come"))
    }

    /// Reads all that there is, as far as there is room for it; true if that changes nothing.
    fn read_all(&mut self) -> Checked<bool> {
        let before = self.dispatcher.stream()?.tail().pos();
        for round in 0.. {
            prop_assert!(round < MAX_ROUNDS, "the tail doesn't come to its end");
            self.dispatcher.look(&self.world, self.open(), Limits::WIDE, false);
            let tail = self.dispatcher.stream()?.tail();
            if !tail.pending() && tail.pos() == self.world.now.last {
                break;
            }
        }
        let mut is_quiet = before == self.world.now.last;
        for id in (1..=6).map(ConsumerId) {
            let mut rounds = 0;
            while let Some((after, upto)) = self.dispatcher.stream_mut()?.behind(id) {
                let found = self.world.now.read(&[(after + 1, upto)], 10, 15);
                self.dispatcher.stream_mut()?.catch_up(id, &found, upto);
                is_quiet = false;
                rounds += 1;
                prop_assert!(rounds < MAX_ROUNDS, "{} never catches up", id);
            }
        }
        Ok(is_quiet)
    }

    /// Receives and acks until there is nothing left; true if there was something.
    fn ack_all(&mut self, id: ConsumerId) -> Checked<bool> {
        let mut is_any = false;
        loop {
            let unfinished = self.dispatcher.consumer(id)?.unfinished();
            self.handed.clear();
            self.receive(0, id, 50, Micros::from(50))?;
            self.finish(0, 0, 100, false)?;
            self.end(0, Some(true), true)?;
            self.collect()?;
            let left = self.dispatcher.consumer(id)?.unfinished();
            is_any |= left > 0;
            if left == unfinished {
                return Ok(is_any);
            }
            is_any = true;
        }
    }

    fn check_end(&mut self) -> Checked {
        prop_assert!(self.dispatcher.stream()?.tail().holes().is_empty(), "a hole stays");
        for id in (1..=6).map(ConsumerId) {
            self.check(id)?;
            prop_assert_eq!(self.dispatcher.consumer(id)?.unfinished(), 0);
            let config = self.world.config(id)?;
            let watched = &self.watched[&id];
            for (&seq, message) in &self.world.now.messages {
                let is_due = config.matches(message.key) && !message.removed;
                if is_due && !watched.maybe.contains(&seq) {
                    prop_assert!(
                        watched.reference.is_finished(seq),
                        "{} never came to {}",
                        seq,
                        id
                    );
                }
            }
            let state = self.dispatcher.stream()?.state(id).unwrap_or_default();
            prop_assert_eq!(self.dispatcher.stream()?.floor(id), Some(state.floor));
            prop_assert!(state.floor >= self.world.now.last);
            // A start in the future is remembered until it is reached.
            let is_started = config.start <= self.world.now.last;
            prop_assert!(state.size() == 0 || !is_started, "something is left: {:?}", state);
        }
        self.restart(Restart::Clean { checkpoints: self.step as u8 })?;
        for id in (1..=6).map(ConsumerId) {
            self.load(id)?;
            self.read_all()?;
            // The checks would notice a finished message. Those that a change of filters left undecided may come.
            self.ack_all(id)?;
        }
        Ok(())
    }
}
