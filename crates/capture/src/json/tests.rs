use super::*;
use proptest::prelude::*;
use std::convert::Infallible;

const HSTORE: u32 = 100_000;
const PAIR: u32 = 100_001;
const NESTED: u32 = 100_002;
const EMPTY: u32 = 100_003;
const PAIRS: u32 = 100_004;
const HSTORES: u32 = 100_005;
const VECTORS: u32 = 1006;

fn types() -> Types {
    let mut types = Types::default();
    let field = |name: &str, type_oid: u32| (name.to_owned(), type_oid);
    types.insert(HSTORE, Type::Cast);
    types.insert(PAIR, Type::Composite { fields: vec![field("n", 23), field("a \"b\"", 25)] });
    let fields = vec![field("pair", PAIR), field("list", 1009), field("on", 16)];
    types.insert(NESTED, Type::Composite { fields });
    types.insert(EMPTY, Type::Composite { fields: Vec::new() });
    types.insert(PAIRS, Type::Array { element: PAIR, delimiter: b',' });
    types.insert(HSTORES, Type::Array { element: HSTORE, delimiter: b',' });
    types.insert(VECTORS, Type::Array { element: 22, delimiter: b',' });
    types
}

fn json(type_oid: u32, text: &str) -> String {
    let mut out = String::new();
    let mut cast = |type_oid: u32, text: &str| -> Result<String, Infallible> {
        assert_eq!(type_oid, HSTORE);
        Ok(format!("{{\"cast\": {}}}", text.len()))
    };
    let Ok(()) = write(&mut out, &types(), type_oid, text, &mut cast);
    out
}

fn all(cases: &[(u32, &str, &str)]) {
    for (type_oid, text, expected) in cases {
        assert_eq!(json(*type_oid, text), *expected, "type {type_oid}, text {text}");
    }
}

#[test]
fn scalars_are_what_to_jsonb_makes_of_them() {
    all(&[
        (16, "t", "true"),
        (16, "f", "false"),
        (23, "-7", "-7"),
        (1700, "123456789012345678901234567890.1200", "123456789012345678901234567890.1200"),
        (701, "1e+22", "1e+22"),
        (701, "-0", "-0"),
        (701, "NaN", "\"NaN\""),
        (1700, "-Infinity", "\"-Infinity\""),
        (26, "26", "\"26\""),
        (25, "", "\"\""),
        (17, "\\x00ff", "\"\\\\x00ff\""),
        (1082, "0044-03-15 BC", "\"0044-03-15 BC\""),
        (114, " {\"a\": [1, 2]} ", " {\"a\": [1, 2]} "),
        (3802, "null", "null"),
        (99_999, "of a type not known", "\"of a type not known\""),
        (HSTORE, "\"a\"=>\"1\"", "{\"cast\": 8}"),
    ]);
}

#[test]
fn times_are_in_the_form_of_xsd() {
    all(&[
        (1114, "2026-11-20 12:00:00", "\"2026-11-20T12:00:00\""),
        (1114, "2026-11-20 12:00:00.000001", "\"2026-11-20T12:00:00.000001\""),
        (1114, "0044-03-15 12:00:00 BC", "\"0044-03-15T12:00:00 BC\""),
        (1114, "infinity", "\"infinity\""),
        (1184, "-infinity", "\"-infinity\""),
        (1184, "2026-11-20 12:00:00+00", "\"2026-11-20T12:00:00+00:00\""),
        (1184, "2026-11-20 12:00:00.5-08", "\"2026-11-20T12:00:00.5-08:00\""),
        (1184, "2026-11-20 12:00:00+05:30", "\"2026-11-20T12:00:00+05:30\""),
        (1184, "1880-01-01 12:00:00+00:53:28", "\"1880-01-01T12:00:00+00:53:28\""),
        (1184, "0044-03-15 12:00:00+01 BC", "\"0044-03-15T12:00:00+01:00 BC\""),
    ]);
}

#[test]
fn arrays_nest_by_dimension() {
    all(&[
        (1007, "{}", "[]"),
        (1007, "{1,NULL,-3}", "[1,null,-3]"),
        (1007, "{{1,2},{3,4}}", "[[1,2],[3,4]]"),
        (1007, "[0:1]={1,2}", "[1,2]"),
        (1007, "[-1:0][2:3]={{1,2},{3,4}}", "[[1,2],[3,4]]"),
        (
            1009,
            r#"{a,"","NULL",null,"a,b","{x}","q\"\\z"," y "}"#,
            r#"["a","","NULL","null","a,b","{x}","q\"\\z"," y "]"#,
        ),
        (1009, "{größe,\"日 本\",\"\\\\日\"}", "[\"größe\",\"日 本\",\"\\\\日\"]"),
        (1000, "{t,f,NULL}", "[true,false,null]"),
        (1022, "{NaN,1.5}", "[\"NaN\",1.5]"),
        (
            1185,
            "{\"2026-11-20 12:00:00+00\",infinity}",
            "[\"2026-11-20T12:00:00+00:00\",\"infinity\"]",
        ),
        (3807, r#"{"{\"a\": 1}",null,NULL}"#, r#"[{"a": 1},null,null]"#),
        (1020, "{(1,1),(0,0);NULL}", "[\"(1,1),(0,0)\",null]"),
        (22, "1 2 3", "[1,2,3]"),
        (22, "", "[]"),
        (30, "1 26", "[\"1\",\"26\"]"),
        (VECTORS, r#"{"1 2","3"}"#, "[[1,2],[3]]"),
        (HSTORES, r#"{"\"a\"=>\"1\"",NULL}"#, "[{\"cast\": 8},null]"),
    ]);
}

#[test]
fn composites_are_objects() {
    all(&[
        (PAIR, "(1,x)", r#"{"n":1,"a \"b\"":"x"}"#),
        (PAIR, "(,)", r#"{"n":null,"a \"b\"":null}"#),
        (PAIR, "(1,\"\")", r#"{"n":1,"a \"b\"":""}"#),
        (PAIR, r#"(1,"a,""b"" \\ (c)")"#, r#"{"n":1,"a \"b\"":"a,\"b\" \\ (c)"}"#),
        (PAIR, "(1,größe)", r#"{"n":1,"a \"b\"":"größe"}"#),
        (
            NESTED,
            r#"("(1,""x y"")","{a,""b c""}",t)"#,
            r#"{"pair":{"n":1,"a \"b\"":"x y"},"list":["a","b c"],"on":true}"#,
        ),
        (
            PAIRS,
            r#"{"(1,\"x \"\"y\"\"\")",NULL,"(,)"}"#,
            r#"[{"n":1,"a \"b\"":"x \"y\""},null,{"n":null,"a \"b\"":null}]"#,
        ),
        (EMPTY, "()", "{}"),
    ]);
}

#[test]
fn a_composite_with_more_fields_than_its_type_becomes_a_string() {
    let types = types();
    let mut out = String::new();
    let mut cast = |_: u32, _: &str| -> Result<String, Infallible> { Ok(String::new()) };
    let Ok(()) = write(&mut out, &types, PAIR, "(1,x)", &mut cast);
    let Ok(()) = write(&mut out, &types, PAIR, "(1)", &mut cast);
    let Ok(()) = write(&mut out, &types, PAIR, "(1,x,y)", &mut cast);
    assert_eq!(out, r#"{"n":1,"a \"b\"":"x"}{"n":1,"a \"b\"":null}"(1,x,y)""#);
}

#[test]
fn a_text_that_is_not_of_its_type_becomes_a_string() {
    for (type_oid, text) in [
        (16, "maybe"),
        (23, ""),
        (23, "01"),
        (23, "1 "),
        (1114, "tomorrow noon"),
        (1184, "2026-11-20 12:00:00"),
        (114, "{"),
        (114, "1e400000"),
        (1007, ""),
        (1007, "1"),
        (1007, "{1"),
        (1007, "{1,}"),
        (1007, "{,1}"),
        (1007, "{1 2},3"),
        (1007, "{1}}"),
        (1007, "{1{2}}"),
        (1007, "}"),
        (1007, "{{{{{{{1}}}}}}}"),
        (PAIR, ""),
        (PAIR, "("),
        (PAIR, "()x"),
        (PAIR, "(1,x"),
        (PAIR, "(1,x)y"),
        (PAIR, "(1,(x))"),
        (EMPTY, "(1)"),
    ] {
        let mut string = String::new();
        write_string(&mut string, text);
        assert_eq!(json(type_oid, text), string, "type {type_oid}, text {text}");
    }
    all(&[
        (1009, r#"{"a"#, r#""{\"a""#),
        (1009, r#"{"a\"#, r#""{\"a\\""#),
        (1009, r#"{a"b"}"#, r#""{a\"b\"}""#),
    ]);
    all(&[
        (PAIR, r#"(1,"x"#, r#""(1,\"x""#),
        (PAIR, r#"(1,"x\"#, r#""(1,\"x\\""#),
        (PAIR, r#"(1,"x"y)"#, r#""(1,\"x\"y)""#),
    ]);
}

#[test]
fn depth_is_bounded() {
    let mut types = Types::default();
    types.insert(PAIRS, Type::Array { element: PAIRS, delimiter: b',' });
    let mut text = "{}".to_owned();
    for _ in 0..12 {
        text = format!("{{\"{}\"}}", text.replace('\\', "\\\\").replace('"', "\\\""));
    }
    // The text doubles with each level: what it holds is deep long before the bound is met.
    let mut out = String::new();
    let mut cast = |_: u32, _: &str| -> Result<String, Infallible> { Ok(String::new()) };
    let Ok(()) = write(&mut out, &types, PAIRS, &text, &mut cast);
    assert_eq!(out, format!("{}{}", "[".repeat(13), "]".repeat(13)));
    // Unquoted text can't nest, but a type of vectors of itself can.
    types.insert(PAIRS, Type::Vector { element: PAIRS });
    out.clear();
    let Ok(()) = write(&mut out, &types, PAIRS, "1", &mut cast);
    assert_eq!(out, format!("{}\"1\"{}", "[".repeat(MAX_DEPTH), "]".repeat(MAX_DEPTH)));
}

#[test]
fn a_record_has_its_columns_by_name() {
    let mut cast = |_: u32, _: &str| -> Result<String, Infallible> { Ok(String::new()) };
    let texts = [Some("7".to_owned()), None, Some("{\"\\u0000\"}".to_owned())];
    let columns = [("id", 20), ("a \"b\"", 25), ("doc", 114)];
    let Ok(record) = record(&types(), columns.into_iter().zip(&texts), &mut cast);
    assert_eq!(record, r#"{"id": 7, "a \"b\"": null, "doc": "{\"\\u0000\"}"}"#);
    let Ok(record) = super::record(&types(), [].into_iter(), &mut cast);
    assert_eq!(record, "{}");
}

#[test]
fn an_error_of_the_cast_is_handed_on() {
    let mut cast = |_: u32, _: &str| Err("no");
    assert_eq!(write(&mut String::new(), &types(), HSTORES, "{x}", &mut cast), Err("no"));
}

#[test]
fn strings_are_escaped_as_json() {
    let mut out = String::new();
    write_string(&mut out, "a\"\\/\n\r\t\u{1}\u{1f}\u{7f}ü🦀");
    assert_eq!(out, "\"a\\\"\\\\/\\n\\r\\t\\u0001\\u001f\u{7f}ü🦀\"");
}

/// As array_out() does it.
fn array_text(elements: &[Option<String>]) -> String {
    let quoted = |element: &Option<String>| match element {
        None => "NULL".to_owned(),
        Some(text) => format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"")),
    };
    format!("{{{}}}", elements.iter().map(quoted).collect::<Vec<_>>().join(","))
}

/// As record_out() does it.
fn record_text(fields: &[Option<String>]) -> String {
    let quoted = |field: &Option<String>| match field {
        None => String::new(),
        Some(text) => format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\"\"")),
    };
    format!("({})", fields.iter().map(quoted).collect::<Vec<_>>().join(","))
}

fn string(text: &Option<String>) -> String {
    let mut out = String::new();
    match text {
        Some(text) => write_string(&mut out, text),
        None => out.push_str("null"),
    }
    out
}

proptest! {
    #[test]
    fn a_string_comes_back_as_it_was(text in any::<String>()) {
        let text = text.replace('\0', "");
        let mut out = String::new();
        write_string(&mut out, &text);
        prop_assert!(json_text::embed(&mut String::new(), &out));
        prop_assert_eq!(json_text::text_of(&out), text);
    }

    #[test]
    fn quoting_is_undone(
        texts in prop::collection::vec(prop::option::of("[a,{}()\"\\\\ ü]{0,6}"), 0..5),
    ) {
        let expected: Vec<String> = texts.iter().map(string).collect();
        prop_assert_eq!(json(1009, &array_text(&texts)), format!("[{}]", expected.join(",")));

        let mut types = Types::default();
        let fields = (0..texts.len()).map(|n| (n.to_string(), 25)).collect();
        types.insert(PAIR, Type::Composite { fields });
        let members = expected.iter().enumerate().map(|(n, value)| format!("\"{n}\":{value}"));
        let expected = format!("{{{}}}", members.collect::<Vec<_>>().join(","));
        let mut out = String::new();
        let mut cast = |_: u32, _: &str| -> Result<String, Infallible> { Ok(String::new()) };
        let Ok(()) = write(&mut out, &types, PAIR, &record_text(&texts), &mut cast);
        prop_assert_eq!(out, expected);
    }

    #[test]
    fn whatever_comes_in_json_comes_out(
        text in "[\\[\\]0:=1tfN{},()\"\\\\ eTBC+-]{0,24}",
        type_oid in prop::sample::select(vec![
            16, 23, 25, 114, 1114, 1184, 22, 1007, 1009, 1020, 1185, 199, PAIR, NESTED, PAIRS, VECTORS, HSTORES,
        ]),
    ) {
        let out = json(type_oid, &text);
        prop_assert!(json_text::embed(&mut String::new(), &out), "{}", out);
    }
}
