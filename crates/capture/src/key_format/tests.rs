use super::super::key::Pushed;
use super::*;
use proptest::prelude::*;
use sequin_engine::key::check_key;
use std::borrow::Cow;

#[derive(Debug, Clone, Default)]
struct Row {
    schema: String,
    table: String,
    pk: Vec<String>,
    columns: Vec<Option<String>>,
}

impl<'a> Values<'a> for &'a Row {
    fn database(&self) -> &str {
        "shop"
    }
    fn schema(&self) -> &str {
        &self.schema
    }
    fn table(&self) -> &str {
        &self.table
    }
    fn action(&self) -> &str {
        "insert"
    }
    fn pk(&self, pk: &mut Pushed) {
        self.pk.iter().for_each(|value| pk.push(value));
    }
    fn column(&self, n: usize) -> Option<Cow<'a, str>> {
        self.columns.get(n)?.as_deref().map(Cow::Borrowed)
    }
}

fn row(pk: &[&str], columns: &[Option<&str>]) -> Row {
    Row {
        schema: "public".into(),
        table: "orders".into(),
        pk: pk.iter().map(|value| value.to_string()).collect(),
        columns: columns.iter().map(|value| value.map(str::to_owned)).collect(),
    }
}

fn key(format: &str, row: &Row) -> String {
    let key = KeyFormat::parse(format).unwrap().key(&row);
    assert_eq!(check_key(&key), Ok(()), "{key}");
    key
}

#[test]
fn fields_are_filled_in() {
    let row = row(&["7"], &[Some("eu"), None]);
    for (format, expected) in [
        ("{schema}.{table}.{pk}", "public.orders.7"),
        ("{database}.{action}.{table}", "shop.insert.orders"),
        ("all", "all"),
        ("shop.{column:region}-{column:shop.no}.x{pk}y", "shop.eu-%null.x7y"),
        ("{column:region}{column:region}", "eueu"),
        ("größe.{pk}{pk}", "größe.77"),
    ] {
        assert_eq!(key(format, &row), expected);
    }
}

#[test]
fn columns_are_named_once() {
    let format = KeyFormat::parse("{column:a}.{column:b c}.{column:a}.{pk}").unwrap();
    assert_eq!(format.columns(), ["a", "b c"]);
}

#[test]
fn the_columns_of_a_primary_key_are_joined_by_commas() {
    assert_eq!(key("{pk}", &row(&["1", "a,b", ""], &[])), "1,a%2Cb,%empty");
    assert_eq!(key("{pk}", &row(&[], &[])), "%null");
}

#[test]
fn what_a_token_cannot_have_is_percent_encoded() {
    for (value, expected) in [
        ("a.b", "a%2Eb"),
        ("*", "%2A"),
        ("a>b", "a%3Eb"),
        ("100%", "100%25"),
        ("a b\n", "a%20b%0A"),
        ("\u{7f}", "%7F"),
        ("a\u{a0}b", "a%C2%A0b"),
        ("\u{3000}", "%E3%80%80"),
        ("größe", "größe"),
        ("{~/-_:}", "{~/-_:}"),
        ("", "%empty"),
        ("%null", "%25null"),
    ] {
        assert_eq!(key("{pk}", &row(&[value], &[])), expected, "{value:?}");
    }
}

#[test]
fn a_bad_format_is_refused() {
    use FormatError::*;
    for (format, error) in [
        ("".to_owned(), Empty),
        (".{pk}".to_owned(), EmptyToken(1)),
        ("{table}..{pk}".to_owned(), EmptyToken(2)),
        ("{table}.".to_owned(), EmptyToken(2)),
        ("{key}".to_owned(), UnknownField("key".into())),
        ("{}".to_owned(), UnknownField(String::new())),
        ("{column:}".to_owned(), UnknownField("column:".into())),
        ("a.{pk".to_owned(), UnclosedField),
        ("a.pk}".to_owned(), Character { token: 2, character: '}' }),
        ("a.*".to_owned(), Character { token: 2, character: '*' }),
        ("a>".to_owned(), Character { token: 1, character: '>' }),
        ("a. {pk}".to_owned(), WhiteSpace(2)),
        ("a\u{1}".to_owned(), Control(1)),
        (["t"; 17].join("."), TooManyTokens(17)),
        ("{pk}".repeat(16), TooLong(272)),
        ("k".repeat(256), TooLong(256)),
        (format!("{}{{pk}}", "k".repeat(239)), TooLong(256)),
    ] {
        assert_eq!(KeyFormat::parse(&format), Err(error), "{format}");
    }
    assert!(KeyFormat::parse(&["t"; 16].join(".")).is_ok());
    assert!(KeyFormat::parse(&"{pk}".repeat(15)).is_ok());
    assert_eq!(UnknownField("key".into()).to_string(), "key format has no field \"{key}\"");
    assert_eq!(UnclosedField.to_string(), "a field of the key format has no \"}\"");
}

#[test]
fn a_key_of_255_bytes_is_not_shortened() {
    let pk = "x".repeat(255 - "orders.".len());
    assert_eq!(key("{table}.{pk}", &row(&[&pk], &[])), format!("orders.{pk}"));
}

/// The golden values were computed by another program.
#[test]
fn a_long_value_keeps_its_beginning_and_has_a_hash() {
    let pk = "x".repeat(255 - "orders.".len() + 1);
    let expected = format!("orders.{}~165fb350e336bd67", "x".repeat(231));
    assert_eq!(key("{table}.{pk}", &row(&[&pk], &[])), expected);
    let other = format!("{}y", &pk[1..]);
    let key = key("{table}.{pk}", &row(&[&other], &[]));
    assert!(key != expected && key[..238] == expected[..238]);
}

#[test]
fn the_longest_value_is_shortened_first() {
    let (long, longer) = ("a".repeat(100), "b".repeat(200));
    let made = key("{column:x}.{column:y}.{table}", &row(&[], &[Some(&long), Some(&longer)]));
    assert!(made.starts_with(&format!("{long}.{}~", "b".repeat(130))), "{made}");
    assert!(made.ends_with(".orders") && made.len() == 255);
    // Where that is not enough, the next longest is cut too.
    let (long, longer) = ("a".repeat(300), "b".repeat(301));
    let made = key("{column:x}.{column:y}.{table}", &row(&[], &[Some(&long), Some(&longer)]));
    let tokens: Vec<&str> = made.split('.').collect();
    assert_eq!((tokens[0].len(), tokens[1].len(), made.len()), (230, 17, 255));
    assert!(tokens[1].starts_with('~'));
}

#[test]
fn a_value_is_not_cut_inside_a_character() {
    for shift in 0..6 {
        let start = "s".repeat(shift);
        for filling in ["ü", " ", "🦀", "\u{3000}", "%", "日"] {
            let made = key("{pk}", &row(&[&format!("{start}{}", filling.repeat(300))], &[]));
            let (prefix, hash) = made.rsplit_once('~').unwrap();
            let rest = &prefix[shift..];
            // A character of several encoded bytes may be cut between them.
            let unit = if rest.starts_with('%') { "%XX".len() } else { filling.len() };
            assert_eq!((rest.len() % unit, hash.len()), (0, 16), "{made}");
            assert!((248..=255).contains(&made.len()), "{made}");
        }
    }
}

proptest! {
    #[test]
    fn every_key_made_is_a_key(
        parts in prop::collection::vec(prop::sample::select(vec![
            "{database}", "{schema}", "{table}", "{action}", "{pk}", "{column:a}", "{column:b}", ".", "x", "größe",
            "*", ">", " ", "{", "}",
        ]), 1..14),
        schema in ".{0,80}",
        table in "[a-z. %]{0,80}",
        pk in prop::collection::vec(".{0,100}", 0..4),
        columns in prop::collection::vec(prop::option::of("\\PC{0,300}"), 2),
    ) {
        if let Ok(format) = KeyFormat::parse(&parts.concat()) {
            let row = Row { schema, table, pk, columns };
            let key = format.key(&&row);
            prop_assert_eq!(check_key(&key), Ok(()), "{}", key);
            let dots = parts.iter().filter(|part| **part == ".").count();
            prop_assert_eq!(key.matches('.').count(), dots);
        }
    }

    #[test]
    fn different_values_have_different_keys(
        one in prop::collection::vec("[a,.% ~]{0,3}", 1..3),
        other in prop::collection::vec("[a,.% ~]{0,3}", 1..3),
        length in prop::sample::select(vec![0_usize, 300]),
    ) {
        let make = |values: &[String]| {
            let values: Vec<String> =
                values.iter().map(|value| format!("{}{value}", "v".repeat(length))).collect();
            let row = Row { pk: values, ..Row::default() };
            KeyFormat::parse("{pk}").map(|format| format.key(&&row))
        };
        prop_assert_eq!(one == other, make(&one) == make(&other));
    }

    #[test]
    fn no_text_makes_parsing_panic(text in "\\PC{0,40}") {
        let _ = KeyFormat::parse(&text);
    }
}
