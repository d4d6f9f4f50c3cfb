//! Tests inside a server, of what needs one session only: each runs in a transaction that is rolled back, so
//! nothing here receives. What takes commits or a second session is in tests/ and pg_test/.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod values;

#[pgrx::pg_schema]
mod tests {
    use crate::error::Error;
    use crate::pg::exec::snapshot::Snapshot;
    use crate::pg::exec::{role, scan, sequence};
    use crate::pg::session::current;
    use crate::pg::shared::session_entry;
    use crate::pg::wal::transactions;
    use crate::store::backfills::End;
    use crate::store::source_progress::Progress;
    use crate::store::sources::Source;
    use crate::store::{backfills, messages, slots, source_progress, sources, streams, tables};
    use pgrx::prelude::*;
    use sequin_engine::dispatcher::Reached;
    use sequin_engine::key::Seq;
    use std::time::Duration;

    fn stream(name: &str) -> pg_sys::Oid {
        Spi::run(&format!("SELECT sequin.create_stream('{name}')")).unwrap();
        streams::table(name).unwrap()
    }

    fn publish(stream: &str, key: &str) -> Seq {
        let call = format!("SELECT sequin.publish('{stream}', '{key}', '{{}}')");
        Spi::get_one::<i64>(&call).unwrap().unwrap()
    }

    fn seqs(table: pg_sys::Oid, ranges: &[(Seq, Seq)]) -> Vec<Seq> {
        let rows = messages::rows(table, ranges, usize::MAX).unwrap().rows;
        rows.into_iter().map(|row| row.seq).collect()
    }

    /// A build with debug assertions refuses to lock what was never initialised.
    #[pg_test]
    fn the_locks_of_all_processes_are_initialised() {
        let segment = crate::pg::shared::shmem::segment().unwrap();
        drop(segment.launcher.error());
        segment.databases().iter().for_each(|database| drop(database.dispatcher.error()));
        segment.capturers().iter().for_each(|capturer| drop(capturer.status.error()));
        for entry in segment.sessions() {
            entry.is_committing(pg_sys::Oid::INVALID);
        }
    }

    #[pg_test]
    fn a_scan_reads_only_the_ranges_it_is_asked_for() {
        let table = stream("scanned");
        (0..10).for_each(|_| {
            publish("scanned", "a");
        });
        assert_eq!(seqs(table, &[(2, 3), (6, 6), (9, 100)]), [2, 3, 6, 9, 10]);
        assert!(seqs(table, &[]).is_empty());
    }

    #[pg_test]
    fn a_read_that_stops_at_its_limit_says_so() {
        let table = stream("limited");
        (0..5).for_each(|_| {
            publish("limited", "a");
        });
        let found = messages::rows(table, &[(1, 5)], 3).unwrap();
        assert_eq!(found.reached, Reached::UpTo(3));
        assert_eq!(found.rows.len(), 3);
        assert!(messages::rows(table, &[(1, 5)], 6).unwrap().reached.is_end());
        // A read without any time left still makes progress.
        let snapshot = Snapshot::newest();
        let ranges = [(1, 2), (4, 1_000_000_000)];
        let mut seen = Vec::new();
        let no_time = Some(Duration::ZERO);
        let reached = scan::messages_in(&snapshot, table, &ranges, no_time, |message| {
            seen.push(message.seq());
            true
        });
        assert_eq!((seen, reached.unwrap()), (vec![1, 2], Reached::UpTo(2)));
        snapshot.close();
    }

    /// A long stretch without messages doesn't take time in proportion.
    #[pg_test]
    fn what_lies_far_behind_nothing_is_found_at_once() {
        let table = stream("sparse");
        publish("sparse", "a");
        Spi::run("SELECT setval('sequin_stream.sparse_seq_seq', 4000000000000000)").unwrap();
        publish("sparse", "b");
        let found = messages::rows(table, &[(1, Seq::MAX)], 10).unwrap();
        assert_eq!(found.rows.len(), 2);
        assert!(found.reached.is_end());
    }

    #[pg_test]
    fn a_table_that_was_changed_is_refused_rather_than_misread() {
        let table = stream("changed");
        publish("changed", "a");
        Spi::run("ALTER TABLE sequin_stream.changed ALTER COLUMN headers TYPE text").unwrap();
        let read = scan::messages(table, &[(1, 5)], |_| true);
        assert!(matches!(read, Err(Error::NotAStream(name)) if name == "changed"));
    }

    #[pg_test]
    fn the_last_value_of_a_sequence_is_zero_before_its_first() {
        let table = stream("counted");
        let sequence = sequence::of_stream(table).unwrap();
        assert_eq!(sequence::last_value(sequence), 0);
        assert_eq!(sequence::take(sequence, 3), [1, 2, 3]);
        assert_eq!(sequence::last_value(sequence), 3);
    }

    #[pg_test]
    fn an_open_transaction_shows_the_lowest_seq_it_can_take() {
        let table = stream("bounded");
        sequence::take(sequence::of_stream(table).unwrap(), 7);
        let database = current::database().unwrap();
        assert_eq!(session_entry::publishers(database, table).bound(), None);
        publish("bounded", "a");
        publish("bounded", "b");
        assert_eq!(session_entry::publishers(database, table).bound(), Some(8));
    }

    #[pg_test]
    fn a_plain_insert_is_announced_like_publish() {
        let table = stream("inserted");
        Spi::run("INSERT INTO sequin_stream.inserted (key, data) VALUES ('a', '1'), ('b', '2')")
            .unwrap();
        assert_eq!(session_entry::publishers(current::database().unwrap(), table).bound(), Some(1));
    }

    #[pg_test]
    fn a_transaction_that_publishes_to_many_streams_bounds_these_and_no_other() {
        const STREAMS: usize = 300;
        let other = stream("not_one_of_many");
        let tables: Vec<pg_sys::Oid> = (0..STREAMS).map(|n| stream(&format!("many_{n}"))).collect();
        (0..STREAMS).for_each(|n| {
            sequence::take(sequence::of_stream(tables[n]).unwrap(), n % 5);
            publish(&format!("many_{n}"), "a");
        });
        let database = current::database().unwrap();
        for (n, &table) in tables.iter().enumerate() {
            let bound = i64::try_from(n % 5).unwrap() + 1;
            assert_eq!(session_entry::publishers(database, table).bound(), Some(bound), "{n}");
        }
        assert_eq!(session_entry::publishers(database, other).bound(), None);
    }

    #[pg_test]
    fn the_last_message_before_a_time_is_found_by_search() {
        let table = stream("timed");
        Spi::run(
            "INSERT INTO sequin_stream.timed (key, data, inserted_at) \
             SELECT 'a', '1', timestamptz '2020-01-01 UTC' + n * interval '1 minute' \
             FROM generate_series(1, 1000) n",
        )
        .unwrap();
        let at = |minute: i64| {
            let sql = format!(
                "SELECT (extract(epoch FROM timestamptz '2020-01-01 UTC' - timestamptz '2000-01-01 UTC') \
                 * 1000000)::bigint + {minute}::bigint * 60000000"
            );
            Spi::get_one::<i64>(&sql).unwrap().unwrap()
        };
        assert_eq!(messages::last_before(table, at(0)).unwrap(), 0);
        assert_eq!(messages::last_before(table, at(500)).unwrap(), 499);
        assert_eq!(messages::last_before(table, at(501) - 1).unwrap(), 500);
        assert_eq!(messages::last_before(table, at(5000)).unwrap(), 1000);
    }

    #[pg_test]
    fn a_payload_goes_in_and_comes_out_as_the_same_jsonb() {
        stream("carried");
        let same = Spi::get_one::<bool>(
            "WITH p AS (SELECT jsonb_build_object('big', repeat('x', 100000), 'n', 1e400::numeric, \
                                                  'deep', '[[[{\"a\": null}]]]'::jsonb) AS data), \
                  i AS (SELECT sequin.publish('carried', 'k', data, data) FROM p) \
             SELECT count(*) = 1 FROM i",
        );
        assert_eq!(same.unwrap(), Some(true));
        let same = Spi::get_one::<bool>(
            "SELECT m.data = s.data AND m.headers = s.data AND m.data ->> 'n' = (1e400::numeric)::text \
             FROM sequin.messages('carried') m JOIN sequin_stream.carried s USING (seq)",
        );
        assert_eq!(same.unwrap(), Some(true));
    }

    #[pg_test]
    fn what_is_open_when_a_consumer_of_new_messages_is_made_is_new_to_it() {
        let table = stream("fresh");
        publish("fresh", "a");
        // This transaction's own message is the only one. It is visible to the transaction, so it counts as done; the
        // start is before it.
        Spi::run("SELECT sequin.create_consumer('fresh', 'fresh_consumer', new_only => true)")
            .unwrap();
        let start = Spi::get_two::<i64, Vec<i64>>(
            "SELECT start_after, start_done FROM sequin.consumers WHERE name = 'fresh_consumer'",
        );
        assert_eq!(start.unwrap(), (Some(0), Some(vec![1, 1])));
        assert_eq!(sequence::last_value(sequence::of_stream(table).unwrap()), 1);
    }

    fn source(name: &str) -> Source {
        stream("fed");
        let source = Source {
            id: 7,
            name: name.into(),
            stream: "fed".into(),
            owner: role::current(),
            publication: "missing".into(),
            owns_publication: false,
            key_format: "a".into(),
            backfill: true,
            paused: false,
            generation: 1,
            is_here: true,
        };
        let server = slots::server().unwrap();
        sources::insert(&source, server.system, server.database).unwrap();
        source
    }

    #[pg_test]
    fn a_source_is_listed_as_it_was_inserted_until_it_is_not_here() {
        let mut source = source("listed");
        assert_eq!(sources::list().unwrap(), [source.clone()]);
        Spi::run("UPDATE sequin.sources SET system = system + 1").unwrap();
        source.is_here = false;
        assert_eq!(sources::list().unwrap(), [source]);
    }

    #[pg_test]
    fn the_newest_progress_takes_the_place_of_the_one_before() {
        assert_eq!(source_progress::newest(7, 1).unwrap(), None);
        let mut progress =
            Progress { id: 1, lsn: u64::MAX - 1, commit_time: None, captured_total: 0 };
        source_progress::write(7, 1, &progress).unwrap();
        assert_eq!(source_progress::newest(7, 1).unwrap().as_ref(), Some(&progress));
        progress.id = 2;
        progress.commit_time = Some(-5);
        source_progress::write(7, 1, &progress).unwrap();
        assert_eq!(source_progress::newest(7, 1).unwrap(), Some(progress));
        let count = Spi::get_one::<i64>("SELECT count(*) FROM sequin.source_progress");
        assert_eq!(count.unwrap(), Some(1));
        assert_eq!(source_progress::newest(7, 2).unwrap(), None);
        source_progress::sweep().unwrap();
        assert_eq!(source_progress::newest(7, 1).unwrap(), None);
    }

    #[pg_test]
    fn backfills_run_one_after_the_other_and_stop_when_they_are_cancelled() {
        source("read");
        let table = pg_sys::Oid::from(1);
        let ids: Vec<i64> =
            (0..3).map(|_| backfills::insert("read", table, Some("true")).unwrap()).collect();
        let next = || backfills::next("read").unwrap().map(|job| (job.id, job.last_key));
        assert_eq!(next(), Some((ids[0], None)));
        assert!(backfills::progress(ids[1], vec!["5".into()], "1/23/0/700", 10).unwrap());
        assert_eq!(next(), Some((ids[1], Some(vec!["5".into()]))));
        assert!(backfills::progress(ids[1], vec!["9".into()], "1/23/0/700", 10).unwrap());
        assert!(backfills::finish(ids[1], End::Done, None).unwrap());
        assert_eq!(next(), Some((ids[0], None)));
        assert!(backfills::cancel(ids[0]).unwrap());
        assert!(!backfills::cancel(ids[0]).unwrap());
        assert!(!backfills::progress(ids[0], vec!["5".into()], "1/23/0/700", 10).unwrap());
        assert!(!backfills::finish(ids[0], End::Failed, Some("x")).unwrap());
        assert_eq!(next(), Some((ids[2], None)));
        assert!(backfills::finish(ids[2], End::Failed, Some("x")).unwrap());
        assert_eq!(next(), None);
        let rows = Spi::get_one::<String>(
            "SELECT string_agg(concat_ws(' ', status, rows_read, error), ', ' ORDER BY id) FROM sequin.backfills",
        );
        assert_eq!(rows.unwrap().unwrap(), "cancelled 0, done 20, failed 0 x");
    }

    #[pg_test(error = "sources need the server to run with wal_level logical")]
    fn a_server_without_logical_wal_has_no_sources() {
        stream("dry");
        Spi::run("CREATE TABLE kept (id integer PRIMARY KEY)").unwrap();
        Spi::run("SELECT sequin.create_source('dry', 'dry', '{kept}')").unwrap();
    }

    #[pg_test]
    fn settings_that_are_changed_in_a_role_s_name_are_set_back() {
        let set = "SELECT set_config('search_path', 'somebody_s, pg_catalog', false)";
        let path = || Spi::get_one::<String>("SELECT current_setting('search_path')").unwrap();
        let before = path();
        role::as_role(role::current(), || Spi::run(set)).unwrap();
        assert_eq!(path(), before);
    }

    #[pg_test]
    fn a_cast_to_json_runs_as_the_owner_of_its_type_and_may_fail() {
        Spi::run(
            "CREATE ROLE caster; CREATE SCHEMA cast_ AUTHORIZATION caster;
             CREATE TYPE cast_.mood AS ENUM ('glad', 'sad'); ALTER TYPE cast_.mood OWNER TO caster;
             CREATE FUNCTION cast_.json(cast_.mood) RETURNS json LANGUAGE plpgsql AS
                $$BEGIN ASSERT $1 = 'glad'; RETURN to_json(current_user); END$$;
             CREATE CAST (cast_.mood AS json) WITH FUNCTION cast_.json(cast_.mood)",
        )
        .unwrap();
        let mood = Spi::get_one::<pg_sys::Oid>("SELECT 'cast_.mood'::regtype::oid").unwrap();
        let mood = mood.unwrap().to_u32();
        assert_eq!(tables::to_json(mood, "glad").unwrap(), "\"caster\"");
        assert_eq!(tables::to_json(mood, "sad").unwrap(), "\"sad\"");
    }

    #[pg_test]
    fn a_transaction_is_waited_for_until_it_has_ended_but_not_for_long() {
        let wait_for_end = |xid| transactions::wait_for_end(xid, Duration::from_millis(5));
        let open = Spi::get_one::<i64>("SELECT pg_current_xact_id()::text::bigint").unwrap();
        assert!(!wait_for_end(u32::try_from(open.unwrap()).unwrap()));
        let first = pg_sys::FirstNormalTransactionId;
        assert!(wait_for_end(first.into_inner()));
    }
}
