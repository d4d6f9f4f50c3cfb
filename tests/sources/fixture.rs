//! A database with a stream, and a source that fills it from tables.

use std::thread;
use std::time::{Duration, Instant};

use postgres::{Client, GenericClient};

use crate::calls::{Calls, millis, seconds};
use crate::harness::{database_of, logical_cluster};
use sequin_testkit::cluster::{Cluster, Database};

/// Far above what anything here takes, on a busy machine.
pub const DEADLINE: Duration = seconds(60);

/// Between two looks at something that takes its time.
pub const PAUSE: Duration = millis(10);

/// Stream `s`, source `src` when it is asked for, and a table `marker` that tells how far the source has come.
pub struct Fixture<'a> {
    pub client: Client,
    pub database: Database<'a>,
}

impl Fixture<'static> {
    /// A database of the test's own on the shared cluster. `tables` is the SQL that makes its tables.
    pub fn new(name: &str, tables: &str) -> Self {
        Self::of(database_of(logical_cluster(), name), tables)
    }

    /// The same, with a source on these tables that begins with what is committed from now on.
    pub fn capturing(name: &str, tables: &str, names: &[&str]) -> Self {
        let mut fixture = Fixture::new(name, tables);
        fixture.client.create_source("src", names, "backfill => false");
        fixture
    }
}

impl<'a> Fixture<'a> {
    pub fn on(cluster: &'a Cluster, name: &str, tables: &str) -> Self {
        Self::of(cluster.database(name), tables)
    }

    fn of(database: Database<'a>, tables: &str) -> Self {
        let mut client = database.connect();
        let marker = "CREATE TABLE marker (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY)";
        client.batch_execute(marker).unwrap();
        client.batch_execute(tables).unwrap();
        client.execute("SELECT sequin.create_stream('s')", &[]).unwrap();
        Self { client, database }
    }

    pub fn reconnect(&mut self) {
        self.client = self.database.connect();
    }
}

/// What a test does with sources, for a client as for a transaction of it.
pub trait Sources: Calls {
    /// A source into stream s, on these tables and table `marker`. `settings` are further arguments, as SQL.
    #[track_caller]
    fn create_source(&mut self, source: &str, tables: &[&str], settings: &str) {
        self.batch_execute(&create_source(source, tables, settings)).unwrap();
    }

    /// Returns once all that is committed now is in stream s: a row of table `marker` goes after it.
    #[track_caller]
    fn catch_up(&mut self) {
        let after = self.last_seq();
        let marker = self.number("INSERT INTO marker DEFAULT VALUES RETURNING id");
        let found = format!(
            "SELECT count(*) FROM sequin_stream.s
             WHERE seq > {after} AND data->>'action' = 'insert'
               AND data->'metadata'->>'table' = 'marker'
               AND (data->'record'->>'id')::bigint = {marker}"
        );
        self.wait_for("the source catches up", |client| client.number(&found) > 0);
    }

    /// Returns once no backfill is to be done, and all that is committed now is in stream s.
    #[track_caller]
    fn finish_backfills(&mut self) {
        let open =
            "SELECT count(*) FROM sequin.backfills WHERE status NOT IN ('done', 'cancelled')";
        self.wait_for("all backfills are done", |client| client.number(open) == 0);
        self.catch_up();
    }

    /// Waits, and says at the deadline what the views show.
    #[track_caller]
    fn wait_for(&mut self, what: &str, mut condition: impl FnMut(&mut Self) -> bool) {
        let end = Instant::now() + DEADLINE;
        while !condition(self) {
            if Instant::now() > end {
                panic!("not within {DEADLINE:?}: {what}\n{}", self.state_of_sources());
            }
            thread::sleep(PAUSE);
        }
    }

    fn state_of_sources(&mut self) -> String {
        let query = "SELECT to_jsonb(t)::text FROM sequin.source_stats t
                     UNION ALL SELECT to_jsonb(t)::text FROM sequin.backfills t
                     UNION ALL SELECT to_jsonb(t)::text FROM sequin.workers t
                     UNION ALL SELECT to_jsonb(t)::text FROM pg_replication_slots t";
        self.texts(query).join("\n")
    }

    #[track_caller]
    fn last_seq(&mut self) -> i64 {
        self.number("SELECT coalesce(max(seq), 0) FROM sequin_stream.s")
    }

    /// The one column of text that a query returns.
    #[track_caller]
    fn texts(&mut self, query: &str) -> Vec<String> {
        self.query(query, &[]).unwrap().iter().map(|row| row.get(0)).collect()
    }

    /// The one text, NULL as an empty one.
    #[track_caller]
    fn text(&mut self, query: &str) -> String {
        self.query_one(query, &[]).unwrap().get::<_, Option<String>>(0).unwrap_or_default()
    }

    /// The messages behind this seq, but for the markers, one line each: action, table, record, changes. Catches up
    /// before.
    #[track_caller]
    fn messages_after(&mut self, seq: i64) -> Vec<String> {
        self.catch_up();
        self.texts(&format!(
            "SELECT concat_ws(' ', data->>'action', data->'metadata'->>'table',
                              nullif(data->'record', 'null'), nullif(data->'changes', 'null'),
                              'unchanged ' || (data->'metadata'->>'unchanged'))
             FROM sequin_stream.s
             WHERE seq > {seq} AND data->'metadata'->>'table' <> 'marker' ORDER BY seq"
        ))
    }

    /// What these statements, one transaction for each, come to.
    #[track_caller]
    fn messages_of(&mut self, statements: &[&str]) -> Vec<String> {
        let before = self.last_seq();
        for statement in statements {
            self.batch_execute(statement).unwrap();
        }
        self.messages_after(before)
    }

    /// Status and last_error of a source.
    #[track_caller]
    fn status(&mut self, source: &str) -> (String, String) {
        let of =
            |column| format!("SELECT {column} FROM sequin.source_stats WHERE source = '{source}'");
        (self.text(&of("status")), self.text(&of("last_error")))
    }

    /// Waits for a status, and returns the last_error that comes with it.
    #[track_caller]
    fn wait_for_status(&mut self, source: &str, status: &str) -> String {
        self.wait_for(&format!("source {source} is {status}"), |client| {
            client.status(source).0 == status
        });
        self.status(source).1
    }

    /// The process that captures for a source of this database.
    fn capturer(&mut self) -> Option<i32> {
        let find = "SELECT pid FROM pg_stat_activity
                    WHERE datname = current_database() AND backend_type = 'sequin capturer'";
        self.query(find, &[]).ok()?.first().map(|row| row.get(0))
    }

    #[track_caller]
    fn wait_for_capturer(&mut self) -> i32 {
        let mut found = None;
        self.wait_for("there is a capturer", |client| {
            found = client.capturer();
            found.is_some()
        });
        found.unwrap_or_default()
    }

    /// The slots that sequin has in this database.
    #[track_caller]
    fn slots(&mut self) -> Vec<String> {
        self.texts(
            "SELECT slot_name::text FROM pg_replication_slots
             WHERE database = current_database() AND slot_name LIKE 'sequin%'",
        )
    }

    #[track_caller]
    fn publications(&mut self) -> Vec<String> {
        self.texts("SELECT pubname::text FROM pg_publication")
    }
}

impl<C: GenericClient + Sized> Sources for C {}

/// The statement that makes a source into stream s, on these tables and table `marker`.
pub fn create_source(source: &str, tables: &[&str], settings: &str) -> String {
    let tables: Vec<String> = tables
        .iter()
        .chain(&["marker"])
        .map(|table| format!("'{}'", table.replace('\'', "''")))
        .collect();
    let comma = if settings.is_empty() { "" } else { ", " };
    format!(
        "SELECT sequin.create_source('{source}', 's', ARRAY[{}]::regclass[]{comma}{settings})",
        tables.join(", ")
    )
}
