//! Whatever text a value has, and whatever its type says: what comes out is JSON that jsonb takes, and a text that is
//! a string is that string.
#![no_main]

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use sequin_capture::json::{write, write_string};
use sequin_capture::types::{Type, Types};
use serde_json::Value;

/// A type, perhaps of others.
#[derive(Arbitrary, Debug)]
enum Kind {
    Builtin(u8),
    Array(Box<Kind>, bool),
    Composite(Vec<(String, Kind)>),
    Vector(Box<Kind>),
    Cast,
}

/// Those that need no catalog. Not jsonb: its text is taken as it is, since only jsonb's output function writes it.
const BUILTIN: [u32; 20] = [
    16, 20, 25, 701, 1700, 1114, 1184, 114, 22, 30, 1000, 1007, 1231, 1009, 1182, 1115, 1185, 199,
    603, 1020,
];

/// Types that are made of others have OIDs from here on.
const FIRST: u32 = 100_000;

#[derive(Arbitrary, Debug)]
struct Input<'a> {
    kind: Kind,
    text: &'a str,
    cast: Option<&'a str>,
}

fuzz_target!(|input: Input| {
    let mut types = Types::default();
    let mut next = FIRST;
    let type_oid = enter(&mut types, &mut next, &input.kind);
    let mut out = String::from("[");
    let mut cast = |_: u32, _: &str| input.cast.map(str::to_owned).ok_or(());
    if write(&mut out, &types, type_oid, input.text, &mut cast).is_err() {
        return;
    }
    out.push(']');
    // A second reader's opinion. Deeper than it reads by itself is possible, but not much longer than the text.
    let mut reader = serde_json::Deserializer::from_str(&out);
    reader.disable_recursion_limit();
    let json: Value = serde::de::Deserialize::deserialize(&mut reader).expect(&out);
    reader.end().expect(&out);
    if matches!(input.kind, Kind::Builtin(n) if BUILTIN[usize::from(n) % BUILTIN.len()] == 25) {
        assert_eq!(json, Value::from(vec![input.text]));
    }
    let mut string = String::new();
    write_string(&mut string, input.text);
    assert_eq!(serde_json::from_str::<String>(&string).ok().as_deref(), Some(input.text));
});

fn enter(types: &mut Types, next: &mut u32, kind: &Kind) -> u32 {
    let known = match kind {
        Kind::Builtin(n) => return BUILTIN[usize::from(*n) % BUILTIN.len()],
        Kind::Array(element, comma) => {
            let delimiter = if *comma { b',' } else { b';' };
            Type::Array { element: enter(types, next, element), delimiter }
        }
        Kind::Composite(fields) => {
            let field = |(name, kind): &(String, Kind)| (name.clone(), enter(types, next, kind));
            Type::Composite { fields: fields.iter().map(field).collect() }
        }
        Kind::Vector(element) => Type::Vector { element: enter(types, next, element) },
        Kind::Cast => Type::Cast,
    };
    *next += 1;
    types.insert(*next, known);
    *next
}
