use super::*;
use crate::key::check_key;
use proptest::prelude::*;

#[test]
fn a_key_matches_or_not() {
    let cases = [
        ("a.b", "a.b", true),
        ("a.b", "a.c", false),
        ("a.b", "a", false),
        ("a.b", "a.b.c", false),
        ("a.b", "a.*", true),
        ("a", "*", true),
        ("a.b", "*", false),
        ("a.b.c", "a.*.c", true),
        ("a.b.c", "*.b.*", true),
        ("a.b.c", "a.*", false),
        ("a.b", "a.b.>", false),
        ("a.b.c", "a.b.>", true),
        ("a.b.c.d", "a.b.>", true),
        ("a.bc.d", "a.b.>", false),
        ("a", ">", true),
        ("a.b.c", ">", true),
        ("a", "*.>", false),
        ("a.b", "*.>", true),
        ("x.a.b.c", "*.a.>", true),
        ("x.a", "*.a.>", false),
        ("größe.日本", "größe.*", true),
        ("a.b", "A.b", false),
    ];
    for (key, filter, matches) in cases {
        assert_eq!(Filter::parse(filter).unwrap().matches(key), matches, "{key} {filter}");
        assert_eq!(key_matches(key, filter), Ok(matches), "{key} {filter}");
    }
}

#[test]
fn the_error_names_what_is_wrong() {
    use FilterError::*;
    let cases = [
        ("".to_owned(), Empty),
        ("f".repeat(256), TooLong(256)),
        (["*"; 17].join("."), TooManyTokens(17)),
        ("a..b".to_owned(), EmptyToken(2)),
        (".".to_owned(), EmptyToken(1)),
        ("a.".to_owned(), EmptyToken(2)),
        ("a*.b".to_owned(), PartialWildcard { token: 1, wildcard: '*' }),
        ("a.**".to_owned(), PartialWildcard { token: 2, wildcard: '*' }),
        ("a.b>".to_owned(), PartialWildcard { token: 2, wildcard: '>' }),
        ("a.>.b".to_owned(), RestNotLast(2)),
        (">.".to_owned(), RestNotLast(1)),
        ("a. b".to_owned(), WhiteSpace(2)),
        ("a,\u{2003}b".to_owned(), WhiteSpace(1)),
        ("a\u{1}".to_owned(), Control(1)),
    ];
    for (filter, error) in cases {
        assert_eq!(Filter::parse(&filter), Err(error), "{filter:?}");
        assert_eq!(key_matches("a", &filter), Err(error), "{filter:?}");
    }
}

#[test]
fn an_index_can_use_the_tokens_before_the_first_wildcard() {
    use KeyRange::*;
    let cases = [
        ("a.b", Exact("a.b"), None),
        ("a.b.>", Prefix("a.b."), Some("a.b/")),
        ("a.*.c", Prefix("a."), Some("a/")),
        ("größe.*", Prefix("größe."), Some("größe/")),
        ("*.b", Prefix(""), None),
        (">", Prefix(""), None),
    ];
    for (filter, range, end) in cases {
        let filter = Filter::parse(filter).unwrap();
        assert_eq!(filter.key_range(), range);
        assert_eq!(filter.key_range().prefix_end().as_deref(), end);
    }
}

/// The definition of a match, as short as possible.
fn reference(filter: &[&str], key: &[&str]) -> bool {
    match (filter, key) {
        ([], []) => true,
        ([">"], [_, ..]) => true,
        (["*", filter @ ..], [_, key @ ..]) => reference(filter, key),
        ([wanted, filter @ ..], [token, key @ ..]) => wanted == token && reference(filter, key),
        _ => false,
    }
}

proptest! {
    #[test]
    fn matching_is_what_the_definition_says(key in "[abc](\\.[abc]){0,4}",
                                            filter in "([ab*]\\.){0,4}[ab*>]") {
        let parsed = Filter::parse(&filter).unwrap();
        let split = |text: &str| text.split('.').map(str::to_owned).collect::<Vec<_>>();
        let (f, k) = (split(&filter), split(&key));
        let (f, k): (Vec<_>, Vec<_>) =
            (f.iter().map(String::as_str).collect(), k.iter().map(String::as_str).collect());
        let expected = reference(&f, &k);
        prop_assert_eq!(parsed.matches(&key), expected);
        prop_assert_eq!(key_matches(&key, &filter), Ok(expected));
        if expected {
            match parsed.key_range() {
                KeyRange::Exact(exact) => prop_assert_eq!(exact, key.as_str()),
                range @ KeyRange::Prefix(prefix) => {
                    prop_assert!(key.as_str() >= prefix && key.starts_with(prefix));
                    prop_assert!(range.prefix_end().is_none_or(|end| key < end));
                }
            }
        }
    }

    #[test]
    fn every_key_is_a_filter_that_matches_itself(key in "[a-c.*> \u{85}é]{0,12}") {
        if check_key(&key).is_ok() {
            let filter = Filter::parse(&key).unwrap();
            prop_assert!(filter.matches(&key));
            prop_assert_eq!(filter.key_range(), KeyRange::Exact(&key));
        } else if !key.contains(['*', '>']) {
            prop_assert!(Filter::parse(&key).is_err());
        }
    }
}
