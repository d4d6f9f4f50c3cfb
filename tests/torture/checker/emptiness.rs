//! I2: what was committed is there without waiting. So an empty answer is right only if, at some moment of the call,
//! nothing was free for certain.

use std::time::Duration;

use super::Report;
use super::view::{Held, Seen, View};
use crate::torture::history::{Fault, History, NEVER, Receive, Time};

/// After a fault the dispatcher has to start and to load before it can know what is free; what a dying session was just
/// given is free only when that has ended.
const AFTERMATH: Duration = Duration::from_secs(3);

/// A message was free for certain, from here to there.
#[derive(Clone, Copy, Debug)]
struct Free {
    from: Time,
    until: Time,
    /// The largest `until` of those that begin no later.
    reach: Time,
}

pub fn check(history: &History, view: &View, report: &mut Report) {
    let free = free_times(view);
    let busy = BusyTimes::of(view);
    for receive in &view.receives {
        let Receive { called, returned, .. } = **receive;
        if !receive.deliveries.is_empty() || !is_calm(&history.faults, called, returned) {
            continue;
        }
        report.judged += 1;
        let begun = free.partition_point(|free| free.from <= called);
        let Some(latest) = begun.checked_sub(1).map(|index| free[index]) else { continue };
        let full = busy.most(called, returned) >= view.consumer.max_ack_pending;
        if latest.reach >= returned && !full {
            let proof = free[..begun].iter().find(|free| free.until >= returned);
            report.add("I2: nothing came, though a message was free", &[receive, &proof]);
        }
    }
}

fn is_calm(faults: &[Fault], from: Time, until: Time) -> bool {
    !faults.iter().any(|fault| fault.begun < until && from < fault.ended + AFTERMATH)
}

/// Messages that wait for each other are one line: a key's, or the message alone.
fn free_times(view: &View) -> Vec<Free> {
    let mut free = Vec::new();
    if view.consumer.ordered {
        for indexes in view.keys.values() {
            let messages: Vec<&Seen> = indexes.iter().map(|index| &view.messages[*index]).collect();
            free_times_of_line(&messages, &mut free);
        }
    } else {
        view.messages.iter().for_each(|message| free_times_of_line(&[message], &mut free));
    }
    free.sort_unstable_by_key(|free| free.from);
    let mut reach = Time::ZERO;
    for free in &mut free {
        reach = reach.max(free.until);
        free.reach = reach;
    }
    free
}

/// Between the deliveries of a line, it's free while one of its messages is committed and not finished.
fn free_times_of_line(messages: &[&Seen], free: &mut Vec<Free>) {
    let mut deliveries: Vec<&Held> = messages.iter().flat_map(|m| &m.deliveries).collect();
    deliveries.sort_by_key(|held| held.called);
    let mut from = Time::ZERO;
    let ends = deliveries.iter().map(|held| (held.called, held.delivery.free_after));
    for (until, next) in ends.chain([(NEVER, NEVER)]) {
        let pending = messages.iter().filter(|message| message.finished_from >= until);
        let from_pending = pending.map(|message| message.committed).min().unwrap_or(NEVER);
        let begin = from.max(from_pending);
        if begin < until {
            free.push(Free { from: begin, until, reach: until });
        }
        from = from.max(next);
    }
}

/// When how many may have been in flight.
struct BusyTimes {
    begins: Vec<Time>,
    ends: Vec<Time>,
}

impl BusyTimes {
    fn of(view: &View) -> Self {
        let deliveries = view.messages.iter().flat_map(|message| &message.deliveries);
        let (mut begins, mut ends): (Vec<Time>, Vec<Time>) =
            deliveries.map(|held| (held.called, held.delivery.free_after)).unzip();
        begins.sort_unstable();
        ends.sort_unstable();
        Self { begins, ends }
    }

    /// No more than so many were in flight at any time between.
    fn most(&self, from: Time, until: Time) -> usize {
        let begun = self.begins.partition_point(|begin| *begin <= until);
        begun - self.ends.partition_point(|end| *end < from).min(begun)
    }
}
