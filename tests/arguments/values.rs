//! Arguments as SQL expressions: what is right, what is nearly right, and what nobody would pass on purpose.

use fastrand::Rng;

/// Streams, consumers, sources and publications that the calls make, use and drop.
pub const STREAMS: [&str; 3] = ["s", "t", "edge"];
pub const CONSUMERS: [&str; 3] = ["c", "d", "e"];
const SOURCES: [&str; 2] = ["src", "other"];

/// Elements of a long array: more than one exchange with the dispatcher carries.
const MANY: usize = 2500;

/// A value for the argument `name` of this type. One in a few is NULL, or of another argument's kind.
pub fn value(rng: &mut Rng, name: &str, type_name: &str) -> String {
    if rng.u8(..12) == 0 {
        return format!("NULL::{type_name}");
    }
    if let Some(element) = type_name.strip_suffix("[]") {
        return array(rng, name, element);
    }
    format!("{}::{type_name}", scalar(rng, name, type_name))
}

fn scalar(rng: &mut Rng, name: &str, type_name: &str) -> String {
    match type_name {
        "text" => quoted(&text(rng, name)),
        "boolean" => rng.bool().to_string(),
        "integer" => format!("({})", integer(rng, i64::from(i32::MIN), i64::from(i32::MAX))),
        "bigint" => format!("({})", integer(rng, i64::MIN, i64::MAX)),
        "interval" => interval(rng, name),
        "timestamp with time zone" => instant(rng),
        "jsonb" => json(rng),
        "regclass" => class(rng),
        "regproc" => pick(rng, &["'now'", "'pg_catalog.jsonb_typeof'", "0", "4294967295"]),
        "regrole" => pick(rng, &["'postgres'", "'pg_monitor'", "0", "4294967295"]),
        other => panic!("no values for type {other}: add them here"),
    }
}

/// Empty, with NULLs, of several dimensions, with other bounds than 1, long.
fn array(rng: &mut Rng, name: &str, element: &str) -> String {
    let one = |rng: &mut Rng| match rng.u8(..10) {
        0 => format!("NULL::{element}"),
        _ => format!("{}::{element}", scalar(rng, name, element)),
    };
    match rng.u8(..10) {
        0 => format!("'{{}}'::{element}[]"),
        1 => format!("array_fill({}, ARRAY[2, 3])", one(rng)),
        2 => format!("array_fill({}, ARRAY[2], ARRAY[-1])", one(rng)),
        3 => format!("array_fill({}, ARRAY[1, 1, 1], ARRAY[2147483646, -5, 0])", one(rng)),
        4 if element != "regclass" => format!("array_fill({}, ARRAY[{MANY}])", one(rng)),
        _ => {
            let elements: Vec<String> = (0..rng.usize(1..5)).map(|_| one(rng)).collect();
            format!("ARRAY[{}]", elements.join(", "))
        }
    }
}

fn text(rng: &mut Rng, name: &str) -> String {
    if rng.u8(..8) == 0 {
        return any_text(rng);
    }
    match name {
        "stream" => pick(rng, &STREAMS),
        "consumer" => pick(rng, &CONSUMERS),
        "source" => pick(rng, &SOURCES),
        "name" => pick(rng, &[&STREAMS[..], &CONSUMERS, &SOURCES].concat()),
        "publication" => pick(rng, &["own", "sequin_src", "none"]),
        "key" | "keys" => tokens(rng, &["a", "b", "é", "0", "-", "日本", "x\u{301}"]),
        "filter" | "filters" => tokens(rng, &["a", "b", "*", ">", "é"]),
        "key_format" => {
            tokens(rng, &["{schema}", "{table}", "{pk}", "{column:id}", "{", "x", "{}"])
        }
        "condition" => pick(rng, CONDITIONS),
        _ => any_text(rng),
    }
}

const CONDITIONS: &[&str] = &[
    "true",
    "id > 1",
    "id",
    "NULL",
    "",
    "1) OR (1",
    "true -- x",
    "id > 1; DROP TABLE public.t",
    "/*",
    "(SELECT true)",
    "no_such_column",
    "1/0 = 1",
    "count(*) > 1",
    "$1",
    "E'\\x",
    "true AS x",
];

fn tokens(rng: &mut Rng, tokens: &[&str]) -> String {
    let count = if rng.u8(..10) == 0 { rng.usize(15..19) } else { rng.usize(1..5) };
    (0..count).map(|_| pick(rng, tokens)).collect::<Vec<_>>().join(".")
}

/// Whatever UTF-8 without a zero byte: of each length about a limit, of each kind of character.
fn any_text(rng: &mut Rng) -> String {
    let len = match rng.u8(..6) {
        0 => 0,
        1 => rng.usize(45..70),
        2 => rng.usize(250..260),
        3 => rng.usize(3000..9000),
        _ => rng.usize(1..12),
    };
    (0..len).map(|_| any_character(rng)).collect()
}

fn any_character(rng: &mut Rng) -> char {
    match rng.u8(..8) {
        0 => rng.char('\u{1}'..'\u{20}'),
        1 => pick_char(rng, ".*>\\\"'{}:%$,;()"),
        2 => pick_char(rng, "\u{7f}\u{85}\u{a0}\u{2028}\u{feff}\u{fffe}\u{10ffff}\u{1f600}"),
        3 => rng.char('\u{80}'..),
        _ => rng.alphanumeric(),
    }
}

fn integer(rng: &mut Rng, least: i64, most: i64) -> i64 {
    let near = rng.i64(-2..4);
    match rng.u8(..9) {
        0 => least.saturating_add(near.max(0)),
        1 => most.saturating_sub(near.max(0)),
        2 => near,
        3 => 1000 + near,
        4 => 65536 + near,
        5 => rng.i64(least..=most),
        _ => rng.i64(1..20),
    }
}

/// Never one that has a call wait.
fn interval(rng: &mut Rng, name: &str) -> String {
    const EDGES: &[&str] = &[
        "178000000 years",
        "-178000000 years",
        "2147483647 months",
        "-2147483648 days",
        "2147483647 days 2147483647 months",
        "-1 microsecond",
        "366 days",
        "366 days 1 microsecond",
        "1 month -30 days",
        "1 hour 1 microsecond",
        "-1 month 31 days",
        "0",
        "999 microseconds",
        "2147483647 hours",
    ];
    let (years, months, days) = (rng.i32(-9999..9999), rng.i32(-99..99), rng.i32(..));
    match rng.u8(..4) {
        0 => quoted(&pick(rng, EDGES)),
        1 => format!("make_interval({years}, {months}, days => {days})"),
        _ if name == "wait" => quoted(&format!("{} microseconds", rng.u16(..5000))),
        _ => quoted(&format!("{} milliseconds", rng.u32(..100_000))),
    }
}

fn instant(rng: &mut Rng) -> String {
    const EDGES: &[&str] = &[
        "infinity",
        "-infinity",
        "4713-01-01 00:00:00 BC",
        "294276-12-31 23:59:59.999999",
        "epoch",
    ];
    match rng.u8(..3) {
        0 => quoted(&pick(rng, EDGES)),
        1 => format!("to_timestamp({})", rng.i64(-60_000_000_000..9_000_000_000_000)),
        _ => format!("(now() + {} * interval '1 ms')", rng.i32(-9999..9999)),
    }
}

pub fn json(rng: &mut Rng) -> String {
    match rng.u8(..9) {
        0 => {
            pick(rng, &["'null'", "'true'", "'{}'", "'[]'", "'\"\"'", "'0'", "'-0.0'", "'1E-300'"])
        }
        1 => format!("('1' || repeat('0', {}))", rng.u16(..20_000)),
        2 => {
            let depth = rng.usize(1..600);
            quoted(&format!("{}{}", "[".repeat(depth), "]".repeat(depth)))
        }
        3 => format!(
            "(SELECT jsonb_object_agg(n::text, n) FROM generate_series(0, {}) n)",
            rng.u16(..)
        ),
        4 => format!(
            "to_jsonb(repeat({}, {}))",
            quoted(&any_character(rng).to_string()),
            rng.u16(..)
        ),
        5 => quoted("{\"a\": 1, \"a\": {\"\": [null, \"\\ud83d\\ude00\", 1e400]}}"),
        _ => format!("to_jsonb({}::text)", quoted(&any_text(rng))),
    }
}

fn class(rng: &mut Rng) -> String {
    const CLASSES: &[&str] = &[
        "'public.t'",
        "'public.t'",
        "'public.keyless'",
        "'public.v'",
        "'public.t_pkey'",
        "'public.parts'",
        "'pg_class'",
        "'sequin.streams'",
        "0",
        "4294967295",
        "'pg_toast.pg_toast_1255'",
    ];
    pick(rng, CLASSES)
}

fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

fn pick(rng: &mut Rng, of: &[&str]) -> String {
    of[rng.usize(..of.len())].into()
}

fn pick_char(rng: &mut Rng, of: &str) -> char {
    let all: Vec<char> = of.chars().collect();
    all[rng.usize(..all.len())]
}
