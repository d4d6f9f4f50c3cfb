//! What a consumer's deliveries must be: I1, I3 to I8.

use std::collections::HashMap;

use super::Report;
use super::view::{Held, Seen, View};
use crate::torture::history::{Effect, History, Time};

pub fn check(history: &History, view: &View, report: &mut Report) {
    for message in &view.messages {
        is_finished_once(message, report);
        never_overlap(&message.deliveries, "I4: two deliveries of a message at a time", report);
        counts_are_bounded(view, message, report);
        leases_are_kept(history, message, report);
    }
    if view.consumer.ordered {
        for indexes in view.keys.values() {
            let messages: Vec<&Seen> = indexes.iter().map(|index| &view.messages[*index]).collect();
            order_is_kept(&messages, report);
        }
    }
    batches_are_sound(view, report);
    in_flight_is_bounded(view, report);
}

/// I6, over all consumers, whose ids come from one dispatcher.
pub fn ids_are_unique(history: &History, report: &mut Report) {
    let mut used = HashMap::new();
    for receive in &history.receives {
        for delivery in &receive.deliveries {
            if let Some(before) = used.insert(delivery.ack_id, delivery) {
                report.add("I6: an ack_id names two deliveries", &[before, delivery]);
            }
        }
    }
}

/// I1: it came until it was acked. I3, I7: only acks that were committed count, and after one it never comes again.
fn is_finished_once(message: &Seen, report: &mut Report) {
    let Seen { seq, key, deliveries, .. } = message;
    if !message.is_dead && deliveries.iter().all(|held| held.delivery.finished == Effect::No) {
        report.add("I1: a message was never acked, and no longer comes", &[seq, key, deliveries]);
    }
    let finishes = deliveries.iter().filter(|held| held.delivery.finished == Effect::Yes);
    let finishes: Vec<&Held> = finishes.collect();
    if let Some(first) = finishes.iter().map(|held| held.delivery.ended).min() {
        for again in deliveries.iter().filter(|held| held.called > first) {
            report.add("I7: a message came after it was acked", &[seq, &finishes, again]);
        }
    }
    if finishes.len() > 1 || message.effects > 1 {
        report.add("I7: a message was processed twice", &[seq, &message.effects, &finishes]);
    }
    if message.effects > 0 && deliveries.iter().all(|d| d.delivery.finished == Effect::No) {
        report.add("I3: an ack was rolled back, its transaction was not", &[seq, deliveries]);
    }
}

fn never_overlap(deliveries: &[Held], rule: &str, report: &mut Report) {
    let mut longest: Option<&Held> = None;
    for held in deliveries.iter().filter(|held| held.received < held.until) {
        if let Some(longest) = longest.filter(|longest| longest.until > held.received) {
            report.add(rule, &[longest, held]);
        }
        if longest.is_none_or(|longest| longest.until < held.until) {
            longest = Some(held);
        }
    }
}

/// I5: one message of a key at a time, and none while an earlier one isn't finished.
fn order_is_kept(messages: &[&Seen], report: &mut Report) {
    let mut all: Vec<Held> =
        messages.iter().flat_map(|message| message.deliveries.iter().copied()).collect();
    all.sort_by_key(|held| held.received);
    never_overlap(&all, "I5: two deliveries of a key at a time", report);
    for (index, later) in messages.iter().enumerate() {
        for held in &later.deliveries {
            let skipped = messages[..index].iter().find(|earlier| {
                earlier.committed < held.called && earlier.finished_from > held.received
            });
            if let Some(earlier) = skipped {
                let (seq, committed) = (earlier.seq, earlier.committed);
                let rule = "I5: a message overtook an earlier one of its key";
                report.add(rule, &[held, &seq, &committed, &earlier.deliveries]);
            }
        }
    }
}

fn counts_are_bounded(view: &View, message: &Seen, report: &mut Report) {
    let most = view.consumer.max_deliver.unwrap_or(i32::MAX);
    for held in &message.deliveries {
        if !(1..=most).contains(&held.delivery.deliver_count) {
            report.add("a message came more often than max_deliver allows", &[held]);
        }
    }
}

/// I4: before its deadline a delivery ends only as its worker wants it, or in a crash.
fn leases_are_kept(history: &History, message: &Seen, report: &mut Report) {
    for held in message.deliveries.iter().filter(|held| held.delivery.lost) {
        let ended = held.delivery.ended;
        let in_crash = |crash: &Time, end: &Time| *crash <= ended && *end >= held.called;
        if !history.faults.iter().any(|fault| fault.crash && in_crash(&fault.begun, &fault.ended)) {
            report.add("I4: a delivery ended before its deadline", &[held, &message.deliveries]);
        }
    }
}

/// By ascending seq, and of an ordered consumer no key twice.
fn batches_are_sound(view: &View, report: &mut Report) {
    for receive in &view.receives {
        let batch = &receive.deliveries;
        if !batch.is_sorted_by(|a, b| a.seq < b.seq) {
            report.add("a batch isn't in the order of its seqs", &[receive]);
        }
        let mut keys: Vec<&str> = batch.iter().map(|delivery| delivery.key.as_str()).collect();
        keys.sort_unstable();
        if view.consumer.ordered && !keys.is_sorted_by(|a, b| a < b) {
            report.add("I5: a key twice in a batch", &[receive]);
        }
    }
}

/// I8: those held for certain at any time.
fn in_flight_is_bounded(view: &View, report: &mut Report) {
    let deliveries = view.messages.iter().flat_map(|message| &message.deliveries);
    let mut steps: Vec<(Time, i64)> = Vec::new();
    for held in deliveries.filter(|held| held.received < held.until) {
        steps.extend([(held.received, 1), (held.until, -1)]);
    }
    // An end goes before a beginning at the same time.
    steps.sort_unstable();
    let mut in_flight = 0;
    for (at, step) in steps {
        in_flight += step;
        if in_flight > view.consumer.max_ack_pending as i64 {
            report.add("I8: more in flight than max_ack_pending", &[&in_flight, &at]);
        }
    }
}
