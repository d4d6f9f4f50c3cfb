//! `make bench`: what sequin costs, mostly as ratios of figures taken in turn, in one run on one cluster.
//!
//! Absolute figures vary by machine and by the minute; a ratio of two figures taken right after each other does
//! much less, and the median of several rounds less still. Prints a table, writes the same to bench/RESULTS.md,
//! and fails if a required figure is missed.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // how a benchmark fails

mod backlog;
mod consumers;
mod cpu;
mod dead;
mod flat;
mod horizons;
mod idle;
mod latency;
mod life;
mod load;
mod machine;
mod memory;
mod messages;
mod options;
mod peers;
mod report;
mod sample;
mod scale;
mod sources;
mod throughput;

use std::process::ExitCode;

use options::{Options, USAGE};
use report::Report;
use sequin_testkit::cluster::{Cluster, Stop};

/// Memory for millions of messages, and no checkpoint that hits only one of two figures to compare: the bench does
/// them itself. All else is as PostgreSQL has it, fsync, synchronous_commit and autovacuum among it.
const CONFIG: &str = "
shared_buffers = '1GB'
max_wal_size = '8GB'
checkpoint_timeout = '1h'
autovacuum_naptime = '1min'
";

type Section = fn(&Cluster, &Options) -> Vec<report::Row>;

const SECTIONS: [(&str, &str, Section); 19] = [
    ("latency", "Waiting receivers: latency", latency::rows),
    ("idle", "Waiting receivers: idle", idle::rows),
    ("throughput", "Throughput, 4 clients, payloads of 170 bytes", throughput::rows),
    ("life", "Publishing once, and one message per key, 4 clients", life::rows),
    ("flat", "Flat: receive of 10, against 1,000 waiting, 10 in flight, no holes", flat::rows),
    ("horizons", "Held horizons: publish + receive + ack of 10, 4 clients", horizons::rows),
    (
        "scale",
        "Scale: 5 databases, each of 1,000 streams and 2,000 consumers; 500 connections",
        scale::rows,
    ),
    ("consumers", "Consumers: many, one with a hot key, and many that are behind", consumers::rows),
    ("dead", "Dead rows: what other consumers notice", dead::rows),
    ("sources", "Table sources, with wal_level logical", sources::rows),
    ("peers-publish", "Peers: publish, 4 clients", peers::publish),
    ("peers-consume", "Peers: receive + ack of a backlog, 4 clients", peers::consume),
    ("peers-cycle", "Peers: full cycle, 4 publish and 4 work for each consumer", peers::cycle),
    ("peers-cost", "Peers: cost of a message in the full cycle", peers::cost),
    ("peers-latency", "Peers: latency, publishing to message received", peers::latency),
    ("peers-order", "Peers: strict order for each key, 4 workers, batch 10", peers::order),
    ("peers-crowd", "Peers: full cycle of many workers, batch 1", peers::crowd),
    ("peers-backlog", "Peers: receive + ack of a great backlog, batch 100", peers::backlog),
    ("peers-horizon", "Peers: full cycle under a held snapshot, batch 10", peers::horizon),
];

fn main() -> ExitCode {
    let options = match Options::of_command_line(&SECTIONS.map(|(name, ..)| name)) {
        Ok(options) => options,
        Err(error) => {
            eprintln!("{error}\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    let mut report = {
        let address = latency::loopback_address();
        let cluster = Cluster::start_with(&format!("{CONFIG}listen_addresses = '{address}'\n"));
        let mut report = Report::new(machine::describe(&cluster, &options, CONFIG));
        for (name, title, rows) in SECTIONS {
            if options.includes(name) {
                eprintln!("== {title}");
                report.add(title, rows(&cluster, &options));
            }
        }
        // What is only killed leaves its shared memory in /dev/shm.
        cluster.stop(Stop::Fast);
        report
    };
    for (name, value) in peers::circumstances() {
        report.circumstance(name, value);
    }
    report.circumstance("write and fdatasync of 8 kB at the end", machine::sync_time());
    report.print();
    if options.is_whole() {
        report.write();
    } else {
        println!("bench/RESULTS.md is for whole runs, and stays as it was");
    }
    if report.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
