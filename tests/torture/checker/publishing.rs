//! I1 and I3, as far as publishing goes: all of a transaction is stored, or nothing of it.

use std::collections::HashMap;

use super::Report;
use crate::torture::history::{Effect, History, Message};

pub fn check(history: &History, report: &mut Report) {
    let mut stored: HashMap<i64, &Message> = HashMap::new();
    for (seq, message) in &history.end.stored {
        if let Some(twice) = stored.insert(message.number, message) {
            report.add("I3: a message is stored twice", &[seq, message, twice]);
        }
    }
    for publish in &history.publishes {
        let found = publish.messages.iter().filter_map(|message| stored.remove(&message.number));
        let found: Vec<&Message> = found.collect();
        let changed = found.iter().find(|found| {
            !publish
                .messages
                .iter()
                .any(|message| message.number == found.number && message.key == found.key)
        });
        if let Some(changed) = changed {
            report.add("I1: a message is stored with another key", &[changed, publish]);
        }
        let (all, some) = (found.len() == publish.messages.len(), !found.is_empty());
        match publish.committed {
            Effect::Yes if !all => report.add("I1: a committed message is gone", &[publish]),
            Effect::No if some => report.add("I3: a rolled-back message is stored", &[publish]),
            Effect::Perhaps if some && !all => {
                report.add("I3: a part of a transaction is stored", &[publish]);
            }
            _ => {}
        }
    }
    for message in stored.values() {
        report.add("I3: a message is stored that nobody published", &[message]);
    }
}
