//! Whatever a caller passes, and whatever is written into a stream's table: there is a result, or an error that says
//! what is wrong; no call breaks an invariant, hangs, or takes a process down.
//!
//! SEED repeats a run, SECONDS_TO_RUN makes it longer.

mod values;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use fastrand::Rng;
use libtest_mimic::Trial;
use postgres::Client;

use crate::calls::{Calls, ack_ids, seconds};
use crate::harness::{LOGICAL_DECODING, trials};
use sequin_testkit::cluster::Cluster;
use values::{CONSUMERS, STREAMS, json, value};

pub fn tests() -> Vec<Trial> {
    trials![whatever_the_arguments_a_call_returns_or_says_why]
}

/// How long it takes in `make test`.
const SHORT: Duration = seconds(15);

/// What a call may answer, beyond what `sql/comments.sql` names for each function: its statement_timeout is not among
/// them, so that a call that hangs fails.
const ANSWERS: &[&str] = &[
    "22004", // NULL
    "22023", // a bad value
    "42602", // a bad name
    "42704", // no such thing
    "42710", // there is one already
    "42501", // no right
    "0A000", // not in this version
    "2BP01", // in use
    "42809", // not a stream
    "55000", // not ready
    "53400", // all slots are in use
    "54000", // too many at once
    "2200H", // a stream has taken its last seq
    "23505", // somebody has inserted a row with this seq
];

/// What PostgreSQL says of a condition that is no expression.
const CONDITION_ANSWERS: &str = "42";

/// What the table says of a row: NULL, no key, a seq that is there, that nobody may choose, or that is the last one; that
/// it isn't there; or, while the rest of a stream with limits becomes a partition, that the seq it names is far beyond.
const ROW_ANSWERS: &[&str] = &["23502", "22023", "23505", "428C9", "2200H", "42P01", "23514"];

/// What follows an error in a transaction.
const AFTER_AN_ERROR: &str = "25P02";

/// How many calls may drop what others need, until it is made again.
const PREPARE_EVERY: usize = 100;

/// Tables of all kinds, and publications.
const TABLES: &str = "
CREATE TABLE public.t (id integer PRIMARY KEY, x text);
INSERT INTO public.t SELECT n, n FROM generate_series(1, 20) n;
CREATE TABLE public.keyless (x text);
CREATE TABLE public.parts (id integer PRIMARY KEY) PARTITION BY RANGE (id);
CREATE VIEW public.v AS SELECT 1;
CREATE PUBLICATION own FOR TABLE public.t;
SET statement_timeout = '20s';
SET client_min_messages = error;
";

fn whatever_the_arguments_a_call_returns_or_says_why() {
    let seed = variable("SEED").unwrap_or_else(|| fastrand::u64(..));
    let time = variable("SECONDS_TO_RUN").map_or(SHORT, Duration::from_secs);
    println!("SEED={seed}");
    let cluster = Cluster::start_with(LOGICAL_DECODING);
    let database = cluster.database("arguments");
    let mut client = database.connect();
    client.batch_execute(TABLES).unwrap();
    let functions = functions(&mut client);
    let rng = Rng::with_seed(seed);
    let mut caller = Caller { client, rng, functions, file: cluster.data().join("rows"), done: 0 };
    let end = Instant::now() + time;
    for round in 0.. {
        if Instant::now() > end {
            println!("{} of {round} were done", caller.done);
            break;
        }
        caller.one_of_all(round).unwrap_or_else(|wrong| panic!("{wrong}\nSEED={seed}"));
    }
    works_as_ever(&mut caller.client);
    let log = std::fs::read_to_string(cluster.log()).unwrap();
    for bad in ["PANIC", "was terminated by signal", "unexpected result of an internal", "panicked"]
    {
        assert_eq!(log.lines().find(|line| line.contains(bad)), None, "SEED={seed}");
    }
}

fn variable(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap())
}

/// A function, and its arguments: name, type, and whether there is a default.
struct Function {
    name: String,
    arguments: Vec<(String, String, bool)>,
}

/// All functions there are, so that none is forgotten.
fn functions(client: &mut Client) -> Vec<Function> {
    let rows = client.query(
        "SELECT proname::text, coalesce(proargnames[:pronargs], '{}'),
            ARRAY(SELECT format_type(t, NULL) FROM unnest(proargtypes) WITH ORDINALITY u(t, n) ORDER BY n),
            (pronargs - pronargdefaults)::integer
         FROM pg_proc WHERE pronamespace = 'sequin'::regnamespace AND prorettype <> 'trigger'::regtype
         ORDER BY 1",
        &[],
    );
    let function = |row: postgres::Row| {
        let (names, types): (Vec<String>, Vec<String>) = (row.get(1), row.get(2));
        let required = usize::try_from(row.get::<_, i32>(3)).unwrap();
        let arguments = names.into_iter().zip(types).enumerate();
        let arguments = arguments.map(|(n, (name, kind))| (name, kind, n >= required)).collect();
        Function { name: row.get(0), arguments }
    };
    rows.unwrap().into_iter().map(function).collect()
}

/// The session that calls, and by chance.
struct Caller {
    client: Client,
    rng: Rng,
    functions: Vec<Function>,
    /// What COPY reads.
    file: PathBuf,
    /// Calls that returned something.
    done: usize,
}

/// What must not have been answered.
type Answered = Result<(), String>;

impl Caller {
    /// One call, or some rows for a stream's table; sometimes in a transaction that ends this way or that.
    fn one_of_all(&mut self, round: usize) -> Answered {
        if round.is_multiple_of(PREPARE_EVERY) {
            self.prepare();
        }
        let end = match self.rng.u8(..10) {
            0 => Some("COMMIT"),
            1 => Some("ROLLBACK"),
            _ => None,
        };
        if end.is_some() {
            self.client.batch_execute("BEGIN").unwrap();
        }
        match self.rng.u8(..10) {
            0 => self.insert()?,
            1 => self.copy()?,
            2 => self.finish()?,
            _ => self.call()?,
        }
        end.map_or(Ok(()), |end| self.run(end, &[]))
    }

    /// Has there be streams and consumers again, with messages, and seqs far up in one of them.
    fn prepare(&mut self) {
        for (stream, consumer) in STREAMS.into_iter().zip(CONSUMERS) {
            let _ = self.client.batch_execute(&format!("SELECT sequin.create_stream('{stream}')"));
            let _ = self.client.batch_execute(&format!(
                "SELECT sequin.create_consumer('{stream}', '{consumer}', max_deliver => 2)"
            ));
            let _ = self
                .client
                .batch_execute(&format!("SELECT sequin.publish('{stream}', 'a.b', '1')"));
        }
        let source = "SELECT sequin.create_source('src', 't', '{public.t}')";
        let _ = self.client.batch_execute(source);
        if self.rng.u8(..4) == 0 {
            let last = i64::MAX - self.rng.i64(0..3000);
            let setval = format!("SELECT setval('sequin_stream.edge_seq_seq', {last})");
            let _ = self.client.batch_execute(&setval);
        }
    }

    fn call(&mut self) -> Answered {
        let (rng, functions) = (&mut self.rng, &self.functions);
        let function = &functions[rng.usize(..functions.len())];
        let mut arguments = Vec::new();
        for (name, kind, has_default) in &function.arguments {
            if !has_default || rng.bool() {
                arguments.push(format!("{name} => {}", value(rng, name, kind)));
            }
        }
        let sql = format!("SELECT * FROM sequin.{}({})", function.name, arguments.join(", "));
        self.run(&sql, ANSWERS)
    }

    /// Acks, nacks, rejects or extends what is in flight, among what is not.
    fn finish(&mut self) -> Answered {
        let consumer = CONSUMERS[self.rng.usize(..CONSUMERS.len())];
        let what = ["ack", "nack", "reject", "extend"][self.rng.usize(..4)];
        let ids = format!("array(SELECT ack_id FROM sequin.receive('{consumer}', 1000))");
        let last = i64::MAX;
        self.run(&format!("SELECT sequin.{what}('{consumer}', {ids} || ARRAY[0, {last}])"), ANSWERS)
    }

    fn insert(&mut self) -> Answered {
        let rng = &mut self.rng;
        let stream = STREAMS[rng.usize(..STREAMS.len())];
        let (key, headers) = (value(rng, "key", "text"), value(rng, "headers", "jsonb"));
        let data = value(rng, "data", "jsonb");
        let (columns, first) = match rng.u8(..3) {
            0 => (
                "(seq, key, data, headers) OVERRIDING SYSTEM VALUE",
                value(rng, "seq", "bigint") + ", ",
            ),
            _ => ("(key, data, headers)", String::new()),
        };
        let values = format!("VALUES ({first}{key}, {data}, {headers})");
        self.run(&format!("INSERT INTO sequin_stream.{stream} {columns} {values}"), ROW_ANSWERS)
    }

    /// Values come as the server writes them, so that they are right for COPY.
    fn copy(&mut self) -> Answered {
        let rng = &mut self.rng;
        let stream = STREAMS[rng.usize(..STREAMS.len())];
        let rows: Vec<String> = (0..rng.usize(1..30))
            .map(|_| format!("({}, ({})::jsonb)", value(rng, "key", "text"), json(rng)))
            .collect();
        let (rows, file) = (rows.join(", "), self.file.display().to_string());
        self.run(&format!("COPY (VALUES {rows}) TO '{file}'"), &[])?;
        self.run(&format!("COPY sequin_stream.{stream} (key, data) FROM '{file}'"), ROW_ANSWERS)
    }

    fn run(&mut self, sql: &str, answers: &[&str]) -> Answered {
        let Err(error) = self.client.simple_query(sql) else {
            self.done += 1;
            return Ok(());
        };
        let state = error.code().map(|state| state.code()).unwrap_or_default();
        let is_condition = sql.contains("condition =>") && state.starts_with(CONDITION_ANSWERS);
        if answers.contains(&state) || is_condition || state == AFTER_AN_ERROR {
            return Ok(());
        }
        Err(format!("{error:?}\n{}", sql.chars().take(3000).collect::<String>()))
    }
}

/// A new stream works, and those who serve it are the ones from the beginning.
fn works_as_ever(client: &mut Client) {
    client.batch_execute("RESET statement_timeout").unwrap();
    client.create("after", "after", "");
    let seq = client.publish("after", "a", "1");
    let held = client.receive("after", 10, seconds(20));
    assert_eq!(held.iter().map(|message| message.seq).collect::<Vec<_>>(), [seq]);
    assert_eq!(client.ack("after", &ack_ids(&held)), 1);
}
