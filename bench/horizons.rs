//! The whole cycle, publish, receive and ack, while something keeps vacuum from removing dead rows: throughput against
//! a cluster where nothing does, and what becomes of the disk.
//!
//! Nearly all of it reaches beyond its database: an open transaction id is in every snapshot of the cluster, a slot
//! and a standby speak for all databases. So each holder has a cluster of its own, in which it holds through all
//! rounds; one that takes turns with it is free, and else the same. Only one cluster works at a time.

mod arm;
mod holder;
mod space;

use crate::options::Options;
use crate::report::Row;
use arm::Arm;
use holder::{HOLDERS, Holder, Place};
use sequin_testkit::cluster::{Cluster, Stop};

/// The same for all, so that nothing but the holder makes the difference. With less memory than the bench's own
/// cluster: several are up at a time.
const CONFIG: &str = "
shared_buffers = '256MB'
wal_level = logical
max_prepared_transactions = 8
";

/// More would only take their time.
const MAX_ROUNDS: usize = 7;

/// So many holders stand around a free cluster, each a neighbour of it in every round.
const NEIGHBOURS: usize = 2;

pub fn rows(_: &Cluster, options: &Options) -> Vec<Row> {
    let groups = HOLDERS.chunk_by(|a, b| a.place.has_standby() == b.place.has_standby());
    groups.flat_map(|group| group.chunks(NEIGHBOURS)).flat_map(|g| measure(g, options)).collect()
}

/// Takes turns: one holder, free, the other one; the next time the other way round.
fn measure(holders: &'static [Holder], options: &Options) -> Vec<Row> {
    let has_standby = holders.iter().any(|holder| holder.place.has_standby());
    let nodes: Vec<Node> = (0..=holders.len()).map(|_| Node::start(has_standby)).collect();
    let (free, held) = nodes.split_last().unwrap();
    let mut free = Arm::new(free, None);
    let mut held: Vec<Arm> =
        held.iter().zip(holders).map(|(node, holder)| Arm::new(node, Some(holder))).collect();
    let rounds = options.rounds.min(MAX_ROUNDS);
    for round in 1..=rounds {
        let names: Vec<&str> = holders.iter().map(|holder| holder.name).collect();
        eprintln!("{}: round {round} of {rounds}", names.join(", "));
        let (first, second) = held.split_at_mut(1);
        let mut turns: Vec<&mut Arm> =
            first.iter_mut().chain([&mut free]).chain(second.iter_mut()).collect();
        if round % 2 == 0 {
            turns.reverse();
        }
        turns.into_iter().for_each(|arm| arm.run(options.duration()));
    }
    let rows = held.iter_mut().flat_map(|arm| arm.rows(&free)).collect();
    nodes.iter().for_each(Node::stop);
    rows
}

/// A cluster, and its standby if it has one.
struct Node {
    primary: Cluster,
    standby: Option<Cluster>,
}

impl Node {
    fn start(has_standby: bool) -> Self {
        let primary = Cluster::start_with(&format!("{}{CONFIG}", crate::CONFIG));
        let standby = has_standby.then(|| primary.standby_with(Place::FEEDBACK));
        Self { primary, standby }
    }

    fn stop(&self) {
        self.standby.iter().chain([&self.primary]).for_each(|cluster| cluster.stop(Stop::Fast));
    }
}
