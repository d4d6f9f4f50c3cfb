//! What a message costs the server in a full cycle: WAL, CPU time, and disk.

use super::peer::{Load, Work};
use super::turns::{self, Turns};
use super::{Peers, pgmq};
use crate::cpu;
use crate::options::Options;
use crate::report::Row;
use sequin_testkit::cluster::Cluster;

const LOAD: Load = Load::of(10);

/// The same for all, except for those that need too long for so many.
const MESSAGES: usize = 20_000;

/// Of one message.
#[derive(Clone, Copy)]
struct Cost {
    wal_bytes: f64,
    cpu_micros: f64,
    disk_bytes: f64,
}

pub fn rows(cluster: &Cluster, peers: &mut Peers, options: &Options) -> Vec<Row> {
    eprintln!("cost of the full cycle: {}", LOAD.name());
    let mut client = cluster.connect("postgres");
    let mut wal = move || -> f64 {
        let query = "SELECT pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')::float8";
        client.query_one(query, &[]).unwrap().get(0)
    };
    let counts = turns::counts(peers, Work::Cycle, &LOAD, options.duration());
    let costs = turns::take(peers, options, |peer, n| {
        let count = peer.prepare(Work::Cycle, &LOAD, counts[n].clone()?.min(MESSAGES))?;
        let (wal_before, cpu_before, disk_before) = (wal(), cpu::seconds(cluster), peer.disk());
        let done = peer.perform(Work::Cycle, &LOAD, count)?;
        let each = |total: f64| total / done.messages as f64;
        Ok(Cost {
            wal_bytes: each(wal() - wal_before),
            cpu_micros: each(cpu::seconds(cluster) - cpu_before) * 1e6,
            disk_bytes: each((peer.disk() - disk_before) as f64),
        })
    });
    let of = |value: fn(&Cost) -> f64| {
        let values = costs.0.iter().map(|(name, costs)| {
            (*name, costs.as_ref().map(|c| c.iter().map(value).collect()).map_err(Clone::clone))
        });
        Turns(values.collect::<Vec<_>>())
    };
    let what = |of: &str| format!("{}, {of}", LOAD.name());
    let mut rows = Vec::new();
    let wal = of(|cost| cost.wal_bytes);
    for peer in wal.others() {
        let row = wal.row_of(&what("WAL"), peer, |bytes| format!("{bytes:.0} bytes"));
        rows.push(if peer == pgmq::NAME { row.at_most(0.5) } else { row });
    }
    let cpu = of(|cost| cost.cpu_micros);
    let show = |micros: f64| format!("{micros:.1} us");
    rows.extend(cpu.others().map(|peer| cpu.row_of(&what("CPU time of the server"), peer, show)));
    let disk = of(|cost| cost.disk_bytes);
    let show = |bytes: f64| format!("{bytes:.0} bytes");
    let what = what("disk, right after it, before any VACUUM");
    rows.extend(disk.others().map(|peer| disk.row_of(&what, peer, show)));
    rows
}
