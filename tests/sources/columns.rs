//! A column of each type, and what to put there.

/// `texts` are values to pick from, by their text; `random` is an expression over the row's number `n`.
pub struct Column {
    pub name: &'static str,
    pub type_name: &'static str,
    pub texts: &'static [&'static str],
    pub random: Option<&'static str>,
    /// Where the type is from, if it is an extension's.
    pub extension: Option<&'static str>,
}

const fn picked(name: &'static str, texts: &'static [&'static str]) -> Column {
    Column { name, type_name: name, texts, random: None, extension: None }
}

const fn of(name: &'static str, type_name: &'static str, texts: &'static [&'static str]) -> Column {
    Column { name, type_name, texts, random: None, extension: None }
}

impl Column {
    const fn or(self, random: &'static str) -> Self {
        Self { random: Some(random), ..self }
    }

    const fn from(self, extension: &'static str) -> Self {
        Self { extension: Some(extension), ..self }
    }
}

pub const COLUMNS: &[Column] = &[
    picked(
        "numeric",
        &[
            "0",
            "-0.00",
            "1.10",
            "NaN",
            "Infinity",
            "-Infinity",
            "1e-30",
            "123456789012345678901234567890.5",
        ],
    )
    .or("(random() * 1e15)::numeric * (random() * 1e15)::numeric / (n + 7)"),
    of("numeric(10,3)", "numeric(10,3)", &["0", "-1.5", "9999999.999", "NaN"])
        .or("random() * 1000"),
    picked("int2", &["0", "-32768", "32767"]).or("n - 500"),
    picked("int4", &["0", "-2147483648", "2147483647"]).or("random() * 1e9"),
    picked("int8", &["0", "-9223372036854775808", "9223372036854775807", "9007199254740993"])
        .or("random() * 9e18"),
    picked(
        "float4",
        &["0", "-0", "NaN", "Infinity", "-Infinity", "1e-45", "3.4028235e38", "0.1", "1e21"],
    )
    .or("random() * 10 ^ (random() * 60 - 30)"),
    picked(
        "float8",
        &[
            "0",
            "-0",
            "NaN",
            "Infinity",
            "-Infinity",
            "5e-324",
            "1.7976931348623157e308",
            "0.1",
            "1e15",
            "1e-5",
        ],
    )
    .or("random() * 10 ^ (random() * 600 - 300)"),
    picked("bool", &["true", "false"]),
    picked(
        "text",
        &[
            "",
            " ",
            "null",
            "NULL",
            "{}",
            "a\"b\\c/d",
            "\t\n\r\u{8}\u{c}\u{1}\u{7f}",
            "\u{2028}😀é",
            "0",
        ],
    )
    .or("random_text(n)"),
    of("varchar", "varchar(30)", &["", "true", "12"]).or("left(random_text(n), 30)"),
    of("char(n)", "char(12)", &["", "a", "pad  "]).or("left(random_text(n), 12)"),
    of("\"char\"", "\"char\"", &["", "a", "\""]),
    picked(
        "timestamp",
        &[
            "infinity",
            "-infinity",
            "0044-03-15 12:00:00 BC",
            "2000-01-01",
            "294276-12-31 23:59:59.999999",
        ],
    )
    .or("'2000-01-01'::timestamp + random() * 1e9 * '1 s'::interval"),
    picked(
        "timestamptz",
        &[
            "infinity",
            "-infinity",
            "0044-03-15 12:00:00+00 BC",
            "2024-02-29 23:59:59.5+13:45",
            "4713-01-01 00:00:00+00 BC",
        ],
    )
    .or("'2000-01-01'::timestamptz + random() * 1e9 * '1 s'::interval"),
    picked("date", &["infinity", "-infinity", "0044-03-15 BC", "5874897-12-31", "2024-02-29"])
        .or("'2000-01-01'::date + n"),
    picked("time", &["00:00", "24:00:00", "23:59:59.999999"]),
    picked("timetz", &["00:00+00", "24:00:00-15:59", "23:59:59.999999+05:30:15"]),
    picked(
        "interval",
        &[
            "0",
            "1 year 2 months -3 days 04:05:06.789",
            "-1 month 1 day",
            "-178000000 years",
            "1 us",
        ],
    )
    .or("random() * 1e6 * '1 s'::interval"),
    of("int[]", "int[]", &["{}", "{1,NULL,-3}", "{{1,2},{3,4}}", "[2:3]={7,8}", "{{{1},{NULL}}}"]),
    of(
        "text[]",
        "text[]",
        &[
            "{}",
            "{NULL,\"NULL\",\"\"}",
            r#"{"a,b","c\"d","e\\f","{}"," "}"#,
            "{{a,b},{c,NULL}}",
            "[0:1]={x,y}",
        ],
    )
    .or("ARRAY[random_text(n), random_text(n), NULL]"),
    of("numeric[]", "numeric[]", &["{NaN,1.50,Infinity,NULL}", "{{1.0},{2.00}}"]),
    of("timestamptz[]", "timestamptz[]", &["{infinity,NULL,\"2024-01-01 00:00:00+02\"}"]),
    of("jsonb[]", "jsonb[]", &[r#"{"{\"a\": [1, null]}",NULL,"\"x\""}"#, "{}"]),
    of("bool[]", "bool[]", &["{t,f,NULL}", "{{t},{f}}"]),
    of("bytea[]", "bytea[]", &[r#"{"\\x00ff",NULL}"#]),
    picked(
        "json",
        &["null", r#" {"a" : 1,  "a": 2.50} "#, "[1, [], {}]", r#""\u00e9\n""#, "1e2", "1.10"],
    ),
    picked(
        "jsonb",
        &["null", r#"{"b": {"a": [1.10, null, true]}, "a": "x"}"#, "[]", r#""\"""#, "1e2", "-0.0"],
    )
    .or("jsonb_build_object(coalesce(random_text(n), ''), random())"),
    picked("bytea", &["", r"\x00", r"\xdeadbeef5c"]).or("decode(md5(n::text), 'hex')"),
    picked("mood", &["sad", "ok", "a \"b\", \\c"]),
    of("mood[]", "mood[]", &[r#"{sad,NULL,"a \"b\", \\c"}"#]),
    picked("positive", &["1", "2147483647"]),
    picked("price", &["1.5", "NaN", "12345678.9"]),
    picked("tags", &["{}", "{a,\"b,c\",NULL}", "{{x},{y}}"]),
    of("tags[]", "positive[]", &["{1,2,NULL}"]),
    picked("document", &["{\"a\": null}", "[1]"]),
    picked(
        "inner_type",
        &[
            "(,,,)",
            r#"(1,"a ""b"", (c)","{1.50,NULL,NaN}","2024-01-01 00:00:00+05")"#,
            r#"(-1,"","{}",infinity)"#,
        ],
    ),
    picked(
        "outer_type",
        &[
            "(,,,)",
            r#"("(1,""x,y"",""{1,2}"",)","{""(2,\\""z\\"",,)"",NULL}","{""k"": [1]}",sad)"#,
            r#"("(,,,)","{}",null,)"#,
        ],
    ),
    picked("inner_domain", &[r#"(1,"a\\b",,)"#]),
    of("inner_type[]", "inner_type[]", &[r#"{"(1,\"a \\\"b\",{},)",NULL}"#, "{}"]),
    picked("int4range", &["empty", "[1,5)", "(,3]", "(,)"]),
    picked("numrange", &["[1.10,2.20]", "empty", "[NaN,NaN]", "(,Infinity)"]),
    picked("tstzrange", &["[2024-01-01 00:00+02,infinity)", "empty"]),
    picked("float_range", &["(0.1,1e300]", "empty"]),
    of("int4range[]", "int4range[]", &[r#"{"[1,5)",empty,NULL}"#]),
    picked("int4multirange", &["{}", "{[1,2),[5,9)}", "{(,)}"]),
    picked("uuid", &["a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"]).or("gen_random_uuid()"),
    picked("inet", &["192.168.0.1", "10.0.0.0/8", "::1", "2001:db8::/32"]),
    picked("cidr", &["10.0.0.0/8", "2001:db8::/32"]),
    picked("macaddr", &["08:00:2b:01:02:03"]),
    picked("macaddr8", &["08:00:2b:01:02:03:04:05"]),
    picked("money", &["0", "-1234.56", "92233720368547758.07"]),
    of("bit", "bit(5)", &["10101", "00000"]),
    of("varbit", "bit varying(9)", &["", "1", "101010101"]),
    picked("xml", &["<a b=\"c\">&amp;</a>", "x"]).from("xml2"), // there if the server can do xml
    picked("tsvector", &["", "'a':1A 'it''s':2,3B"]),
    picked("tsquery", &["'a' & !'b' | 'c d':*A"]),
    picked("point", &["(1.5,-2)", "(Infinity,NaN)"]),
    picked("box", &["(3,4),(1,2)"]),
    of("box[]", "box[]", &["{(3,4),(1,2);(1,1),(0,0)}", "{}"]),
    picked("polygon", &["((0,0),(1,1),(1,0))"]),
    picked("circle", &["<(1,2),3>"]),
    picked("oid", &["0", "4294967295"]),
    picked("oid[]", &["{1,4294967295}"]),
    picked("regclass", &["pg_class", "pg_type"]),
    picked("regtype", &["integer", "text[]"]),
    picked("xid8", &["18446744073709551615"]),
    picked("pg_lsn", &["0/16B3748", "FFFFFFFF/FFFFFFFF"]),
    picked("name", &["", "a \"name\""]),
    picked("int2vector", &["", "1 2 3"]),
    picked("oidvector", &["", "1 2 3"]),
    picked("jsonpath", &["$.\"a\"[*]?(@ > 1)"]),
    picked("custom", &["", "any \"text\"", "12"]),
    of("custom[]", "custom[]", &[r#"{a,"b \"c",NULL}"#]),
    picked("castable", &["any \"text\"", "12"]),
    of("castable[]", "castable[]", &[r#"{a,"b \"c",NULL}"#]),
    picked("hstore", &["", r#""a"=>"1", "b \"c"=>NULL, "d"=>"x, y""#]).from("hstore"),
    of("hstore[]", "hstore[]", &[r#"{"\"a\"=>\"1\"",NULL}"#]).from("hstore"),
    picked("citext", &["", "MiXed"]).from("citext"),
    picked("ltree", &["", "a.b.c"]).from("ltree"),
    picked("cube", &["(1, 2),(3, 4)"]).from("cube"),
];
