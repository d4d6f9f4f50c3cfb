//! Keys and filters: the parser agrees with the rule, and the trie with the definition of a match.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sequin_engine::filter::{Filter, key_matches};
use sequin_engine::fuzzing::{RouteScratch, Router};
use sequin_engine::ids::ConsumerId;
use sequin_engine::key::check_key;

/// Enough for filters that have something in common; the check takes as long as the cube of it.
const MOST_LINES: usize = 24;

// One text in each line: those that are keys are routed to all that are filters.
fuzz_target!(|text: &str| {
    let lines: Vec<&str> = text.lines().take(MOST_LINES).collect();
    for line in &lines {
        assert_eq!(check_key(line).is_ok(), is_key(line), "{line:?}");
        assert_eq!(Filter::parse(line).is_ok(), is_filter(line), "{line:?}");
    }
    let keys = || lines.iter().filter(|line| is_key(line));
    let filters: Vec<&&str> = lines.iter().filter(|line| is_filter(line)).collect();
    let mut router = Router::new();
    // Two filters for each consumer.
    for (n, filter) in filters.iter().enumerate() {
        router.insert(&Filter::parse(filter).unwrap(), ConsumerId(n as i32 / 2));
    }
    let mut wanted: Vec<ConsumerId> =
        (0..filters.len().div_ceil(2) as i32).map(ConsumerId).collect();
    while let Some(removed) = wanted.pop() {
        router.remove(removed);
        for key in keys() {
            let by_definition = |id: &ConsumerId| {
                let own = filters.chunks(2).nth(id.0 as usize).unwrap();
                own.iter().any(|filter| matches(filter, key))
            };
            let expected: Vec<ConsumerId> = wanted.iter().copied().filter(by_definition).collect();
            assert_eq!(route(&router, key), expected, "{key:?}");
        }
    }
    for (key, filter) in keys().zip(&filters) {
        let expected = matches(filter, key);
        assert_eq!(Filter::parse(filter).unwrap().matches(key), expected, "{key:?} {filter:?}");
        assert_eq!(key_matches(key, filter), Ok(expected), "{key:?} {filter:?}");
    }
});

fn route(router: &Router, key: &str) -> Vec<ConsumerId> {
    let mut out = vec![ConsumerId(7)];
    router.route(key, &mut RouteScratch::default(), &mut out);
    out.sort_unstable();
    out
}

fn is_key(text: &str) -> bool {
    is_plain(text) && !text.contains(['*', '>'])
}

fn is_filter(text: &str) -> bool {
    let tokens: Vec<&str> = text.split('.').collect();
    let is_token = |token: &&str| matches!(*token, "*") || !token.contains(['*', '>']);
    let (last, others) = tokens.split_last().unwrap();
    is_plain(text) && others.iter().all(is_token) && (*last == ">" || is_token(last))
}

/// What holds for both.
fn is_plain(text: &str) -> bool {
    let tokens: Vec<&str> = text.split('.').collect();
    text.len() <= 255
        && tokens.len() <= 16
        && tokens.iter().all(|token| !token.is_empty())
        && !text.contains(|c: char| c.is_whitespace() || c.is_control())
}

fn matches(filter: &str, key: &str) -> bool {
    fn rest(filter: &[&str], key: &[&str]) -> bool {
        match (filter, key) {
            ([], []) => true,
            ([">"], [_, ..]) => true,
            (["*", filter @ ..], [_, key @ ..]) => rest(filter, key),
            ([wanted, filter @ ..], [token, key @ ..]) => wanted == token && rest(filter, key),
            _ => false,
        }
    }
    let (filter, key): (Vec<&str>, Vec<&str>) =
        (filter.split('.').collect(), key.split('.').collect());
    rest(&filter, &key)
}
