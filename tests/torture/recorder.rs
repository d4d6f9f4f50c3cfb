//! The run's clock, and where its clients write down what they saw.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Instant;

use postgres::Error;

use super::history::{Effect, Failure, Fault, History, Publish, Receive, Time};

pub struct Recorder {
    begun: Instant,
    history: Mutex<History>,
    published: AtomicI64,
    finished: Vec<AtomicI64>,
    /// Calls of receive that brought nothing.
    empty: AtomicI64,
    is_calm: AtomicBool,
}

impl Recorder {
    pub fn new(history: History) -> Self {
        let finished = history.consumers.iter().map(|_| AtomicI64::new(0)).collect();
        Self {
            begun: Instant::now(),
            history: Mutex::new(history),
            published: AtomicI64::new(0),
            finished,
            empty: AtomicI64::new(0),
            is_calm: AtomicBool::new(false),
        }
    }

    pub fn now(&self) -> Time {
        self.begun.elapsed()
    }

    pub fn publish(&self, publish: Publish) {
        if publish.committed != Effect::No {
            self.published.fetch_add(publish.messages.len() as i64, Ordering::Relaxed);
        }
        self.history.lock().unwrap().publishes.push(publish);
    }

    pub fn receive(&self, receive: Receive) {
        let finished = receive.deliveries.iter().filter(|d| d.finished != Effect::No).count();
        self.finished[receive.consumer].fetch_add(finished as i64, Ordering::Relaxed);
        self.empty.fetch_add(receive.deliveries.is_empty().into(), Ordering::Relaxed);
        self.history.lock().unwrap().receives.push(receive);
    }

    pub fn fault(&self, fault: Fault) {
        self.history.lock().unwrap().faults.push(fault);
    }

    /// Writes a failure down, and says whether what failed took effect.
    pub fn failure(&self, what: &'static str, error: &Error) -> Effect {
        let sqlstate = error.code().map(|state| state.code().to_owned());
        // The server told of the end of the session; whether a commit came before it, it didn't tell.
        let ended = |state: &str| state.starts_with("57P") || state.starts_with("08");
        let effect = match sqlstate.as_deref() {
            Some(state) if !ended(state) => Effect::No,
            _ => Effect::Perhaps,
        };
        let (at, message) = (self.now(), format!("{error:?}"));
        self.history.lock().unwrap().errors.push(Failure { at, what, sqlstate, message });
        effect
    }

    /// How many messages a consumer of all of them still has to finish, about.
    pub fn backlog(&self) -> i64 {
        let finished = self.finished.iter().map(|finished| finished.load(Ordering::Relaxed));
        self.published.load(Ordering::Relaxed) - finished.max().unwrap_or(0)
    }

    /// Empty answers so far.
    pub fn empty(&self) -> i64 {
        self.empty.load(Ordering::Relaxed)
    }

    /// Little is published now, so that workers find nothing from time to time.
    pub fn is_calm(&self) -> bool {
        self.is_calm.load(Ordering::Relaxed)
    }

    pub fn set_calm(&self, is_calm: bool) {
        self.is_calm.store(is_calm, Ordering::Relaxed);
    }

    pub fn published(&self) -> i64 {
        self.published.load(Ordering::Relaxed)
    }

    pub fn into_history(self) -> History {
        self.history.into_inner().unwrap()
    }
}
