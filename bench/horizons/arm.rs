//! A cluster under load, with a holder or without.

use std::time::{Duration, Instant};

use postgres::Client;

use super::Node;
use super::holder::{Held, Holder, REPEATABLE_READ};
use super::space::{self, Space};
use crate::backlog::stats;
use crate::load::CLIENTS;
use crate::report::Row;
use crate::sample::{median, ratio};
use crate::{cpu, load, messages};
use sequin_testkit::cluster::{Database, wait_until};

pub const STREAM: &str = "held";
pub const CONSUMER: &str = "worker";

const BATCH: usize = 10;

/// Messages that wait from the beginning, so that nobody finds less than a batch.
const WAITING: usize = 1_000;

/// For dead rows to go once nothing holds them: a standby tells of its end within a second or two.
const DEADLINE: Duration = Duration::from_secs(30);

/// This part of the load comes once more after the holder's end.
const REPEATED: usize = 4;

const MEGABYTE: f64 = (1 << 20) as f64;

pub struct Arm<'a> {
    database: Database<'a>,
    client: Client,
    held: Option<Held>,
    before: Space,
    /// Messages acked in all rounds, and in a second of each.
    acked: i64,
    throughput: Vec<f64>,
    /// Of a receive and an ack, in milliseconds, for each round.
    cost: Vec<f64>,
    /// Of all the server's processes, in microseconds for each message.
    cpu: Vec<f64>,
}

impl<'a> Arm<'a> {
    /// The holder is there before anything that can die.
    pub fn new(node: &'a Node, holder: Option<&'static Holder>) -> Self {
        let database = node.primary.database("bench_horizon");
        let mut client = database.connect();
        messages::create_stream(&mut client, STREAM, &[CONSUMER.into()], "");
        messages::publish(&mut client, STREAM, "orders", WAITING);
        let held = holder.map(|holder| holder.take(node, &database));
        let before = Space::of(&mut client);
        Self {
            database,
            client,
            held,
            before,
            acked: 0,
            throughput: Vec::new(),
            cost: Vec::new(),
            cpu: Vec::new(),
        }
    }

    pub fn run(&mut self, duration: Duration) {
        self.client.batch_execute("CHECKPOINT").unwrap();
        let before = stats(&mut self.client, CONSUMER).acked;
        let cpu = cpu::seconds(self.database.cluster);
        let (done, commands) = load::run_timed(&self.database, &script(), duration);
        let cpu = cpu::seconds(self.database.cluster) - cpu;
        let after = stats(&mut self.client, CONSUMER);
        assert!(after.waiting > 0, "the receivers have run dry");
        let acked = after.acked - before;
        self.acked += acked;
        self.throughput.push(acked as f64 / done.seconds);
        self.cpu.push(cpu * 1e6 / acked as f64);
        let of = |call: &str| commands.iter().find(|(text, _)| text.contains(call)).unwrap().1;
        self.cost.push(of("sequin.receive(") + of("sequin.ack("));
    }

    /// Ends the holder, and tells how it was with it.
    pub fn rows(&mut self, free: &Arm) -> Vec<Row> {
        let held = self.held.take().expect("an arm with a holder");
        let holder = held.holder;
        let most = Space::of(&mut self.client);
        let mut rows = vec![self.throughput_row(free), self.cpu_row(free)];
        rows.extend((holder.name == REPEATABLE_READ).then(|| self.cost_row(free)));
        rows.push(self.growth_row(most, holder));
        rows.extend(self.wal_row());
        held.release();
        rows.push(self.reclaimed_row(most));
        rows.into_iter().map(|row| row.of(&format!("{}: ", holder.name))).collect()
    }

    fn throughput_row(&self, free: &Arm) -> Row {
        let (with, without) = (&self.throughput, &free.throughput);
        let detail = format!("{:.0}/s of {:.0}/s", median(with), median(without));
        Row::new("throughput, to without", ratio(with, without)).at_least(0.8).detail(detail)
    }

    /// Says the same on a machine that has other things to do.
    fn cpu_row(&self, free: &Arm) -> Row {
        let (with, without) = (&self.cpu, &free.cpu);
        let detail = format!("{:.1} us to {:.1} us", median(with), median(without));
        let what = "CPU time of the server for a message, to without";
        Row::new(what, ratio(with, without)).detail(detail)
    }

    /// Point 9 of flatness.
    fn cost_row(&self, free: &Arm) -> Row {
        let (with, without) = (&self.cost, &free.cost);
        let detail = format!("{:.2} ms to {:.2} ms", median(with), median(without));
        let what = "cost of receive + ack, to without";
        Row::new(what, ratio(with, without)).at_most(1.3).detail(detail)
    }

    /// What the journals take, most of it dead rows, in relation to what the messages take for good.
    fn growth_row(&mut self, now: Space, holder: &Holder) -> Row {
        let dead = space::dead_after_vacuum(&mut self.client);
        let acks = dead.get("acks").copied().unwrap_or(0);
        let calls = self.acked / BATCH as i64;
        let is_held = acks >= calls / 2;
        assert_eq!(is_held, holder.holds_rows, "{acks} dead rows of {calls} acks remain");
        let dead: Vec<String> =
            dead.iter().map(|(table, rows)| format!("{table} {rows}")).collect();
        let dead = if dead.is_empty() { "none".into() } else { dead.join(", ") };
        let journals = (now.journals - self.before.journals) as f64;
        let stream = (now.stream - self.before.stream) as f64;
        let detail = format!(
            "{:.1} MB to {:.1} MB of {} messages; dead rows that VACUUM leaves: {dead}",
            journals / MEGABYTE,
            stream / MEGABYTE,
            self.acked,
        );
        Row::new("growth of the journals, to the stream's", journals / stream).detail(detail)
    }

    /// What a slot keeps, if there is one.
    fn wal_row(&mut self) -> Option<Row> {
        let query = "SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), restart_lsn)::float8
                     FROM pg_replication_slots WHERE restart_lsn IS NOT NULL";
        let kept: f64 = self.client.query_opt(query, &[]).unwrap()?.get(0);
        Some(Row::new("WAL that it keeps", kept / MEGABYTE).unit(" MB"))
    }

    /// Dead rows go, and more load finds its room in what they have left.
    fn reclaimed_row(&mut self, most: Space) -> Row {
        let begun = Instant::now();
        wait_until("VACUUM leaves no dead rows", DEADLINE, || {
            space::dead_after_vacuum(&mut self.client).is_empty()
        });
        let taken = begun.elapsed().as_secs_f64();
        let vacuumed = Space::of(&mut self.client).journals as f64;
        let times = self.acked as usize / REPEATED / BATCH / CLIENTS;
        load::run_times(&self.database, &script(), times);
        let (most, after) = (most.journals as f64, Space::of(&mut self.client).journals as f64);
        let detail = format!(
            "{:.1} MB to {:.1} MB; {:.1} MB without dead rows, {taken:.1} s after its end",
            after / MEGABYTE,
            most / MEGABYTE,
            vacuumed / MEGABYTE,
        );
        // Were nothing reclaimed, it would be 1.25; VACUUM adds its maps of free space, a few pages for each table.
        let what = "the journals after it, VACUUM and a quarter more, to before";
        Row::new(what, after / most).at_most(1.1).detail(detail)
    }
}

/// The whole cycle.
fn script() -> String {
    messages::publish_script(STREAM, BATCH) + &messages::receive_script(CONSUMER, BATCH, "0")
}
