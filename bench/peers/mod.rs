//! Sequin next to others that do the same in PostgreSQL: pgmq, PgQ, pg-boss, graphile-worker, procrastinate.
//!
//! Each is driven in the way its own documentation recommends, with the same messages, the same durability and as
//! many clients; each has a database of its own in one cluster, where one works at a time. Every figure is taken in
//! rounds, in which all peers take turns. Versions, and peers that are not to be had, are in the report.

mod consume;
mod cost;
mod cycle;
mod install;
mod latency;
mod library;
mod message;
mod order;
mod peer;
mod pgmq;
mod pgq;
mod publish;
mod sequin;
mod sql;
mod turns;

pub use install::circumstances;

use crate::cluster::{Cluster, Stop};
use crate::options::Options;
use crate::report::Row;
use library::Library;
use peer::Peer;
use sql::Sql;

/// Many workers have a connection each.
const CONFIG: &str = "max_connections = 400\n";

pub fn publish(_: &Cluster, options: &Options) -> Vec<Row> {
    side_by_side(|_, peers| publish::rows(peers, options))
}

pub fn consume(_: &Cluster, options: &Options) -> Vec<Row> {
    side_by_side(|_, peers| consume::rows(peers, options))
}

pub fn cycle(_: &Cluster, options: &Options) -> Vec<Row> {
    side_by_side(|_, peers| cycle::rows(peers, options))
}

pub fn cost(_: &Cluster, options: &Options) -> Vec<Row> {
    side_by_side(|cluster, peers| cost::rows(cluster, peers, options))
}

pub fn latency(_: &Cluster, options: &Options) -> Vec<Row> {
    side_by_side(|_, peers| latency::rows(peers, options))
}

pub fn order(_: &Cluster, options: &Options) -> Vec<Row> {
    side_by_side(|_, peers| order::rows(peers, options))
}

/// All that are there, sequin first.
type Peers<'a> = [Box<dyn Peer + 'a>];

fn side_by_side(measure: impl FnOnce(&Cluster, &mut Peers) -> Vec<Row>) -> Vec<Row> {
    let cluster = start();
    let mut peers = peers(&cluster);
    let rows = measure(&cluster, &mut peers);
    drop(peers);
    cluster.stop(Stop::Fast);
    rows
}

fn start() -> Cluster {
    Cluster::start_with(&format!("{}{CONFIG}", crate::CONFIG))
}

fn peers(cluster: &Cluster) -> Vec<Box<dyn Peer + '_>> {
    let mut peers: Vec<Box<dyn Peer>> = vec![Box::new(sequin(cluster))];
    peers.extend(install::peers().map(|peer| installed(cluster, peer)));
    peers
}

fn sequin(cluster: &Cluster) -> Sql<'_> {
    Sql { queue: &sequin::Sequin, database: cluster.database("peer_sequin") }
}

fn installed<'a>(cluster: &'a Cluster, peer: &install::Peer) -> Box<dyn Peer + 'a> {
    let name = format!("peer_{}", peer.name.to_lowercase().replace('-', "_"));
    let database = cluster.database_without_extension(&name);
    let mut client = database.connect();
    match peer.name {
        pgmq::NAME => {
            pgmq::install(&mut client, peer);
            Box::new(Sql { queue: &pgmq::Pgmq, database })
        }
        pgq::NAME => {
            client.batch_execute("CREATE EXTENSION pgq").unwrap();
            Box::new(Sql { queue: &pgq::Pgq, database })
        }
        library => Box::new(Library::new(library, database)),
    }
}
