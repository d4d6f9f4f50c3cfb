//! Values of every kind of type become the same JSON, through their text, as to_jsonb() makes of them.

#[pgrx::pg_schema]
mod tests {
    use crate::store::types::load;
    use pgrx::prelude::*;
    use sequin_capture::json;
    use sequin_capture::types::{Type, Types};

    const SETUP: &str = include_str!("values.sql");

    /// Zones whose offsets have hours, minutes, and (long ago) seconds.
    const ZONES: [&str; 4] = ["UTC", "Asia/Kolkata", "America/St_Johns", "Europe/Amsterdam"];

    fn columns(table: &str) -> Vec<(String, u32)> {
        let sql = format!(
            "SELECT array_agg(attname::text ORDER BY attnum), array_agg(atttypid ORDER BY attnum) \
             FROM pg_attribute WHERE attrelid = '{table}'::regclass AND attnum > 0"
        );
        let (names, types) = Spi::get_two::<Vec<String>, Vec<pg_sys::Oid>>(&sql).unwrap();
        let types = types.unwrap().into_iter().map(pg_sys::Oid::to_u32);
        names.unwrap().into_iter().zip(types).collect()
    }

    /// What the worker does for types with a cast to json.
    fn cast(type_oid: u32, text: &str) -> spi::Result<String> {
        let name = format!("SELECT format_type({type_oid}, NULL)");
        let name = Spi::get_one::<String>(&name)?.unwrap();
        let sql = format!("SELECT to_jsonb($1::{name})::text");
        Ok(Spi::get_one_with_args::<String>(&sql, &[text.into()])?.unwrap())
    }

    /// Compares all values of a column, except NULLs, which have no text.
    fn compare(types: &Types, table: &str, column: &str, type_oid: u32) -> usize {
        let sql = format!(
            "SELECT coalesce(array_agg(format('%s', \"{column}\") ORDER BY n), '{{}}'), \
                    coalesce(array_agg(to_jsonb(\"{column}\")::text ORDER BY n), '{{}}') \
             FROM {table} WHERE num_nulls(\"{column}\") = 0"
        );
        let (texts, expected) = Spi::get_two::<Vec<String>, Vec<String>>(&sql).unwrap();
        let (texts, expected) = (texts.unwrap(), expected.unwrap());
        let made = texts.iter().map(|text| {
            let mut out = String::new();
            json::write(&mut out, types, type_oid, text, &mut cast).unwrap();
            out
        });
        let made: Vec<String> = made.collect();
        let differs = "SELECT format('%s: %s instead of %s', t, made, expected) \
            FROM unnest($1::text[], $2::text[], $3::text[]) x (t, made, expected) \
            WHERE made::jsonb::text IS DISTINCT FROM expected LIMIT 1";
        let count = texts.len();
        let args = [texts.into(), made.into(), expected.into()];
        let found = Spi::connect(|client| {
            let rows = client.select(differs, None, &args).unwrap();
            rows.into_iter().next().map(|row| row.get::<String>(1).unwrap().unwrap())
        });
        assert_eq!(found, None, "column {column}");
        count
    }

    #[pg_test]
    fn values_of_every_type_become_what_to_jsonb_makes_of_them() {
        SETUP.split(";;").for_each(|command| Spi::run(command).unwrap());
        let columns = columns("samples");
        let mut types = Types::default();
        let oids: Vec<u32> = columns.iter().map(|column| column.1).collect();
        load(&mut types, &oids).unwrap();
        assert!(oids.iter().all(|oid| types.knows(*oid)));
        for zone in ZONES {
            Spi::run(&format!("SET LOCAL TimeZone = '{zone}'")).unwrap();
            for (column, type_oid) in &columns {
                let count = compare(&types, "samples", column, *type_oid);
                assert!(count >= 100, "{column} has {count} values");
            }
        }
    }

    #[pg_test]
    fn a_json_that_no_jsonb_can_hold_becomes_a_string() {
        let refused = [r#"{"a": "\u0000"}"#, r#""\ud83e""#, "1e200000", "[1e-17000]"];
        for value in refused {
            let mut out = String::new();
            json::write(&mut out, &Types::default(), 114, value, &mut cast).unwrap();
            let sql = "SELECT $1::jsonb = to_jsonb($2::json::text)";
            let same = Spi::get_one_with_args::<bool>(sql, &[out.into(), value.into()]);
            assert_eq!(same.unwrap(), Some(true), "{value}");
        }
    }

    #[pg_test]
    fn a_type_is_loaded_with_all_that_it_is_made_of() {
        Spi::run("CREATE EXTENSION hstore").unwrap();
        Spi::run("CREATE DOMAIN inner_tags AS hstore[]").unwrap();
        Spi::run("CREATE DOMAIN tags AS inner_tags").unwrap();
        Spi::run("CREATE TYPE thing AS (gone int, tags tags, at point)").unwrap();
        Spi::run("ALTER TYPE thing DROP ATTRIBUTE gone").unwrap();
        let oid = |name: &str| {
            let sql = format!("SELECT '{name}'::regtype::oid");
            Spi::get_one::<pg_sys::Oid>(&sql).unwrap().unwrap().to_u32()
        };
        let mut types = Types::default();
        load(&mut types, &[oid("thing[]"), 4_294_967_000]).unwrap();
        let fields = vec![("tags".to_owned(), oid("tags")), ("at".to_owned(), oid("point"))];
        let tags = Type::Array { element: oid("hstore"), delimiter: b',' };
        assert_eq!(
            types.get(oid("thing[]")),
            &Type::Array { element: oid("thing"), delimiter: b',' }
        );
        assert_eq!(types.get(oid("thing")), &Type::Composite { fields });
        assert_eq!(types.get(oid("tags")), &tags);
        assert_eq!(types.get(oid("inner_tags")), &tags);
        assert_eq!(types.get(oid("hstore")), &Type::Cast);
        assert_eq!(types.get(oid("point")), &Type::Text);
        assert!(types.knows(4_294_967_000));
    }

    #[pg_test]
    fn times_and_lsns_are_as_postgresql_writes_them() {
        Spi::run("SET LOCAL TimeZone = 'UTC'").unwrap();
        let whole = [0, -1, 1, 499_999, 86_400_000_000];
        let large = (-200_000_i64..300_000).step_by(997).map(|n| n * 1_000_000_007_001);
        for micros in whole.into_iter().chain(large.filter(|n| *n > -210_000_000_000_000_000)) {
            let sql = format!(
                "SELECT to_jsonb(timestamptz '2000-01-01 UTC' \
                    + {} * interval '1 day' + {} * interval '1 microsecond') #>> '{{}}'",
                micros.div_euclid(86_400_000_000),
                micros.rem_euclid(86_400_000_000)
            );
            let expected = Spi::get_one::<String>(&sql).unwrap().unwrap();
            let mut text = String::new();
            sequin_capture::time::push_iso_time(&mut text, micros);
            assert_eq!(text, expected);
        }
        for lsn in [0_u64, 0x16b_3748, 0xffff_ffff_0000_000a, 0x1_0000_0000] {
            let sql = format!("SELECT ('0/0'::pg_lsn + {lsn})::text");
            let expected = Spi::get_one::<String>(&sql).unwrap().unwrap();
            let mut text = String::new();
            sequin_capture::time::push_lsn(&mut text, lsn);
            assert_eq!(text, expected);
        }
    }
}
