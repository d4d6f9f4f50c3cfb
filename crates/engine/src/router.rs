//! Finds the consumers that a message is for: a trie over the tokens of all their filters.
//!
//! Routing follows the key's own tokens, and the `*` beside each. It visits only nodes that match, never consumers that
//! don't: ten thousand consumers of other keys cost nothing. (A `*` can double the nodes of its level: the worst that
//! filters can do is 2^tokens nodes.)

use super::filter::{Filter, ONE, REST};
use super::id_map::{IdMap, IdSet};
use super::ids::ConsumerId;
use std::collections::HashMap;

/// See the module. A consumer can be added again after it was removed.
#[derive(Debug, Default)]
pub struct Router {
    root: Node,
    /// The filters of each consumer: needed to remove it again.
    filters: IdMap<ConsumerId, Vec<Filter>>,
}

/// Memory that [`Router::route`] uses and a caller keeps for the next call.
#[derive(Debug, Default)]
pub struct RouteScratch {
    seen: IdSet<ConsumerId>,
}

/// A node of the trie: the place after some tokens. It exists only while a filter needs it.
#[derive(Debug, Default)]
struct Node {
    literals: HashMap<Box<str>, Node>,
    /// Below a `*`.
    one: Option<Box<Node>>,
    /// Consumers whose filter ends here.
    here: Vec<ConsumerId>,
    /// Consumers whose filter has a `>` after this place.
    rest: Vec<ConsumerId>,
}

impl Router {
    /// A router without consumers.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a filter of a consumer; nothing happens if the consumer has it already.
    pub fn insert(&mut self, filter: &Filter, consumer: ConsumerId) {
        let filters = self.filters.entry(consumer).or_default();
        if !filters.contains(filter) {
            filters.push(filter.clone());
            self.root.list(filter).push(consumer);
        }
    }

    /// Takes out a consumer with all its filters.
    pub fn remove(&mut self, consumer: ConsumerId) {
        for filter in self.filters.remove(&consumer).unwrap_or_default() {
            self.root.remove(Some(filter.as_str()), consumer);
        }
    }

    /// Puts into `out`, in place of what was there, each consumer that has a filter which matches
    /// `key`: once, in no order.
    pub fn route(&self, key: &str, scratch: &mut RouteScratch, out: &mut Vec<ConsumerId>) {
        out.clear();
        scratch.seen.clear();
        self.root.collect(Some(key), &mut scratch.seen, out);
    }
}

impl Node {
    /// The list that a consumer of `filter` belongs to; makes the nodes on the way.
    fn list(&mut self, filter: &Filter) -> &mut Vec<ConsumerId> {
        let mut node = self;
        for token in filter.as_str().split('.') {
            node = match token {
                REST => return &mut node.rest,
                ONE => node.one.get_or_insert_default(),
                literal => node.literals.entry(literal.into()).or_default(),
            };
        }
        &mut node.here
    }

    /// Takes `consumer` out of the list that the remaining tokens lead to, and drops the nodes on the way that no
    /// filter needs any more.
    fn remove(&mut self, tokens: Option<&str>, consumer: ConsumerId) {
        let Some((token, tokens)) = tokens.map(split_token) else {
            self.here.retain(|&other| other != consumer);
            return;
        };
        match token {
            REST => self.rest.retain(|&other| other != consumer),
            ONE => {
                if let Some(node) = &mut self.one {
                    node.remove(tokens, consumer);
                    self.one.take_if(|node| node.is_empty());
                }
            }
            literal => {
                if let Some(node) = self.literals.get_mut(literal) {
                    node.remove(tokens, consumer);
                    if node.is_empty() {
                        self.literals.remove(literal);
                    }
                }
            }
        }
    }

    fn is_empty(&self) -> bool {
        self.literals.is_empty()
            && self.one.is_none()
            && self.here.is_empty()
            && self.rest.is_empty()
    }

    /// Recursion is as deep as the key has tokens.
    fn collect(
        &self,
        tokens: Option<&str>,
        seen: &mut IdSet<ConsumerId>,
        out: &mut Vec<ConsumerId>,
    ) {
        let Some((token, tokens)) = tokens.map(split_token) else {
            return add(&self.here, seen, out);
        };
        add(&self.rest, seen, out);
        if let Some(node) = self.literals.get(token) {
            node.collect(tokens, seen, out);
        }
        if let Some(node) = &self.one {
            node.collect(tokens, seen, out);
        }
    }
}

/// The first token, and the others if there are any.
fn split_token(tokens: &str) -> (&str, Option<&str>) {
    match tokens.split_once('.') {
        Some((token, tokens)) => (token, Some(tokens)),
        None => (tokens, None),
    }
}

/// No list names a consumer twice, so `seen` is not needed before the second list: most keys have
/// one.
fn add(consumers: &[ConsumerId], seen: &mut IdSet<ConsumerId>, out: &mut Vec<ConsumerId>) {
    if consumers.is_empty() {
        return;
    }
    if out.is_empty() {
        out.extend_from_slice(consumers);
        return;
    }
    if seen.is_empty() {
        seen.extend(out.iter().copied());
    }
    out.extend(consumers.iter().copied().filter(|&consumer| seen.insert(consumer)));
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::time::{Duration, Instant};

    fn filter(text: &str) -> Filter {
        Filter::parse(text).unwrap()
    }

    fn route(router: &Router, key: &str) -> Vec<i32> {
        let mut out = vec![ConsumerId(99)];
        router.route(key, &mut RouteScratch::default(), &mut out);
        out.sort_unstable();
        out.into_iter().map(|id| id.0).collect()
    }

    #[test]
    fn a_consumer_is_named_once_however_many_filters_match() {
        let mut router = Router::new();
        for text in ["a.b", "a.*", "a.>", ">", ">", "*.b"] {
            router.insert(&filter(text), ConsumerId(7));
        }
        router.insert(&filter("a.*"), ConsumerId(8));
        assert_eq!(route(&router, "a.b"), [7, 8]);
        assert_eq!(route(&router, "x"), [7]);
    }

    #[test]
    fn a_removed_consumer_leaves_nothing_behind() {
        let mut router = Router::new();
        let texts = ["a.b.c", "a.*.c", "a.>", ">", "*.*.*.d"];
        for consumer in 0..3 {
            texts.iter().for_each(|text| router.insert(&filter(text), ConsumerId(consumer)));
        }
        router.remove(ConsumerId(1));
        router.remove(ConsumerId(1));
        assert_eq!(route(&router, "a.b.c"), [0, 2]);
        router.remove(ConsumerId(0));
        router.remove(ConsumerId(2));
        assert!(route(&router, "a.b.c").is_empty());
        assert!(router.root.is_empty() && router.filters.is_empty());
    }

    /// Trying every consumer's filter would be half a billion comparisons.
    #[test]
    fn consumers_of_other_keys_cost_nothing() {
        let mut router = Router::new();
        for consumer in 0..10_000 {
            router.insert(&filter(&format!("tenant.{consumer}.orders")), ConsumerId(consumer));
        }
        let (mut scratch, mut out) = (RouteScratch::default(), Vec::new());
        let start = Instant::now();
        for consumer in (0..10_000).cycle().take(50_000) {
            router.route(&format!("tenant.{consumer}.orders"), &mut scratch, &mut out);
            assert_eq!(out, [ConsumerId(consumer)]);
        }
        assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    }

    proptest! {
        #[test]
        fn a_route_is_the_consumers_with_a_filter_that_matches(
            filters in prop::collection::vec((0..8_i32, "([ab*]\\.){0,3}[ab*>]"), 0..40),
            removed in prop::collection::vec(0..8_i32, 0..3),
            keys in prop::collection::vec("[abc](\\.[abc]){0,4}", 1..10),
        ) {
            let mut router = Router::new();
            for (consumer, text) in &filters {
                router.insert(&filter(text), ConsumerId(*consumer));
            }
            removed.iter().for_each(|&consumer| router.remove(ConsumerId(consumer)));
            let (mut scratch, mut out) = (RouteScratch::default(), Vec::new());
            for key in keys {
                router.route(&key, &mut scratch, &mut out);
                out.sort_unstable();
                let mut expected: Vec<ConsumerId> = filters
                    .iter()
                    .filter(|(consumer, text)| {
                        !removed.contains(consumer) && filter(text).matches(&key)
                    })
                    .map(|&(consumer, _)| ConsumerId(consumer))
                    .collect();
                expected.sort_unstable();
                expected.dedup();
                prop_assert_eq!(&out, &expected);
            }
        }
    }
}
