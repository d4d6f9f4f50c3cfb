//! A history as one consumer's: each of its messages with all deliveries of it.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::Report;
use crate::torture::history::{Consumer, Delivery, Effect, History, NEVER, Receive, Time};

pub struct View<'a> {
    pub consumer: &'a Consumer,
    pub receives: Vec<&'a Receive>,
    /// Those that the consumer is for, by seq.
    pub messages: Vec<Seen<'a>>,
    /// Indexes into the messages, by key.
    pub keys: HashMap<&'a str, Vec<usize>>,
}

/// A stored message.
pub struct Seen<'a> {
    pub seq: i64,
    pub key: &'a str,
    /// When it was committed for certain.
    pub committed: Time,
    /// In the order of their coming.
    pub deliveries: Vec<Held<'a>>,
    pub is_dead: bool,
    /// The first moment at which it may have been finished.
    pub finished_from: Time,
    pub effects: usize,
}

/// A delivery, and when it was held for certain.
#[derive(Clone, Copy, Debug)]
pub struct Held<'a> {
    pub called: Time,
    pub received: Time,
    /// At or before `received` where that is never certain.
    pub until: Time,
    pub delivery: &'a Delivery,
}

impl Seen<'_> {
    fn finished_from(&self) -> Time {
        let finishing = self.deliveries.iter().filter(|d| d.delivery.finished != Effect::No);
        match finishing.map(|d| d.delivery.ending).min() {
            Some(finished) => finished,
            // It died of its last delivery, which nobody may have seen.
            None if self.is_dead => self.deliveries.last().map_or(Time::ZERO, |d| d.called),
            None => NEVER,
        }
    }
}

impl<'a> View<'a> {
    pub fn of(history: &'a History, number: usize, report: &mut Report) -> Self {
        let consumer = &history.consumers[number];
        let receives = history.receives.iter().filter(|receive| receive.consumer == number);
        let receives: Vec<&Receive> = receives.collect();
        let mut messages = messages_of(history, number);
        for receive in &receives {
            for delivery in &receive.deliveries {
                let held = held(history, receive, delivery);
                match messages.get_mut(&delivery.seq) {
                    Some((number, seen))
                        if (*number, seen.key) == (delivery.number, &delivery.key) =>
                    {
                        seen.deliveries.push(held);
                    }
                    _ => report.add("I3: a delivery of what is not stored, or not so", &[&held]),
                }
            }
        }
        let mut messages: Vec<Seen> = messages.into_values().map(|(_, seen)| seen).collect();
        let mut keys: HashMap<&str, Vec<usize>> = HashMap::new();
        for (index, message) in messages.iter_mut().enumerate() {
            message.deliveries.sort_by_key(|held| held.received);
            message.finished_from = message.finished_from();
            keys.entry(message.key).or_default().push(index);
        }
        View { consumer, receives, messages, keys }
    }
}

/// What the consumer is for, by seq, with the messages' numbers.
fn messages_of(history: &History, number: usize) -> BTreeMap<i64, (i64, Seen<'_>)> {
    let consumer = &history.consumers[number];
    let certain = history.publishes.iter().filter(|publish| publish.committed == Effect::Yes);
    let committed: HashMap<i64, Time> = certain
        .flat_map(|publish| publish.messages.iter().map(|m| (m.number, publish.returned)))
        .collect();
    let dead: HashSet<i64> = of_consumer(&history.end.dead, number).collect();
    let mut effects: HashMap<i64, usize> = HashMap::new();
    of_consumer(&history.end.effects, number).for_each(|seq| *effects.entry(seq).or_default() += 1);
    let matching = history.end.stored.iter().filter(|(_, m)| m.key.starts_with(consumer.prefix));
    let seen = matching.map(|(seq, message)| {
        let seen = Seen {
            seq: *seq,
            key: &message.key,
            committed: committed.get(&message.number).copied().unwrap_or(NEVER),
            deliveries: Vec::new(),
            is_dead: dead.contains(seq),
            finished_from: NEVER,
            effects: effects.get(seq).copied().unwrap_or(0),
        };
        (*seq, (message.number, seen))
    });
    seen.collect()
}

fn of_consumer(rows: &[(usize, i64)], number: usize) -> impl Iterator<Item = i64> {
    rows.iter().filter(move |(consumer, _)| *consumer == number).map(|(_, seq)| *seq)
}

/// A crash may take a lease with it, so it ends what is certain.
fn held<'a>(history: &History, receive: &Receive, delivery: &'a Delivery) -> Held<'a> {
    let Receive { called, returned: received, .. } = *receive;
    let crashes = history.faults.iter().filter(|fault| fault.crash && fault.ended >= received);
    let until = crashes.map(|crash| crash.begun).min().unwrap_or(NEVER).min(delivery.held_until);
    Held { called, received, until, delivery }
}
