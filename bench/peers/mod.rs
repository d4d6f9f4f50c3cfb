//! Sequin next to others that do the same in PostgreSQL: pgmq, PgQ, pg-boss, graphile-worker, procrastinate.
//!
//! Each is driven in the way its own documentation recommends, with the same messages, the same durability and as
//! many clients; each has a database of its own in one cluster, where one works at a time. Every figure is taken in
//! rounds, in which all peers take turns. Versions, and peers that are not to be had, are in the report.

mod alone;
mod backlog;
mod cost;
mod crowd;
mod cycle;
mod horizon;
mod install;
mod keyed;
mod latency;
mod library;
mod limit;
mod message;
mod order;
mod peer;
mod pgmq;
mod pgq;
mod plot;
mod sequin;
mod sql;
mod turns;

pub use install::circumstances;

use std::fs;

use crate::options::Options;
use crate::report::Row;
use backlog::Pair;
use library::Library;
use peer::{Peer, SEQUIN, Work};
use sequin_testkit::cluster::{Cluster, Stop};
use sql::{Queue, Sql};

/// Many workers have a connection each.
const CONFIG: &str = "max_connections = 400\n";

pub fn publish(_: &Cluster, options: &Options) -> Vec<Row> {
    side_by_side(&WITH_LIMIT, |_, peers| alone::rows(peers, Work::Publish, options))
}

pub fn consume(_: &Cluster, options: &Options) -> Vec<Row> {
    side_by_side(&WITH_LIMIT, |_, peers| alone::rows(peers, Work::Consume, options))
}

pub fn cycle(_: &Cluster, options: &Options) -> Vec<Row> {
    side_by_side(&WITH_LIMIT, |_, peers| cycle::rows(peers, options))
}

pub fn cost(_: &Cluster, options: &Options) -> Vec<Row> {
    side_by_side(&WITH_LIMIT, |cluster, peers| cost::rows(cluster, peers, options))
}

pub fn latency(_: &Cluster, options: &Options) -> Vec<Row> {
    side_by_side(&QUEUES, |_, peers| latency::rows(peers, options))
}

pub fn order(_: &Cluster, options: &Options) -> Vec<Row> {
    side_by_side(&QUEUES, |_, peers| order::rows(peers, options))
}

/// Libraries have no such number of workers.
pub fn crowd(_: &Cluster, options: &Options) -> Vec<Row> {
    let cluster = start();
    let peers =
        sql_names(&[pgmq::NAME]).map(|name| Box::new(sql_peer(&cluster, name)) as Box<dyn Peer>);
    let mut peers: Vec<Box<dyn Peer>> = peers.collect();
    let rows = crowd::rows(&mut peers, options);
    drop(peers);
    cluster.stop(Stop::Fast);
    rows
}

pub fn backlog(_: &Cluster, options: &Options) -> Vec<Row> {
    let cluster = start();
    let pairs = sql_names(&[pgmq::NAME]).map(|name| Pair {
        few: sql_peer_in(&cluster, name, "_few"),
        many: sql_peer_in(&cluster, name, "_many"),
    });
    let pairs: Vec<Pair> = pairs.collect();
    let rows = backlog::rows(&pairs, options);
    drop(pairs);
    cluster.stop(Stop::Fast);
    rows
}

pub fn horizon(_: &Cluster, options: &Options) -> Vec<Row> {
    horizon::rows(&sql_names(&[pgmq::NAME]).collect::<Vec<_>>(), options)
}

/// All that are there, sequin first.
type Peers<'a> = [Box<dyn Peer + 'a>];

/// In the database.
const QUEUES: [&str; 2] = [pgmq::NAME, pgq::NAME];
const WITH_LIMIT: [&str; 3] = [limit::NAME, pgmq::NAME, pgq::NAME];

/// Sequin, these, and the libraries.
fn side_by_side(
    names: &[&'static str],
    measure: impl FnOnce(&Cluster, &mut Peers) -> Vec<Row>,
) -> Vec<Row> {
    let cluster = start();
    let mut peers: Vec<Box<dyn Peer>> =
        sql_names(names).map(|name| Box::new(sql_peer(&cluster, name)) as Box<dyn Peer>).collect();
    let installed = install::peers().map(|peer| peer.name);
    peers.extend(
        installed
            .filter(|name| library::NAMES.contains(name))
            .map(|name| Box::new(Library::new(name, &cluster)) as Box<dyn Peer>),
    );
    let rows = measure(&cluster, &mut peers);
    drop(peers);
    cluster.stop(Stop::Fast);
    rows
}

fn start() -> Cluster {
    Cluster::start_with(&format!("{}{CONFIG}", crate::CONFIG))
}

/// Sequin, and those of these that are there.
fn sql_names<'a>(names: &'a [&'static str]) -> impl Iterator<Item = &'static str> + 'a {
    let installed = install::peers().map(|peer| peer.name);
    let there = installed.chain([limit::NAME]).filter(|name| names.contains(name));
    [SEQUIN].into_iter().chain(there)
}

fn sql_peer<'a>(cluster: &'a Cluster, name: &str) -> Sql<'a> {
    sql_peer_in(cluster, name, "")
}

/// In a database whose name ends so.
fn sql_peer_in<'a>(cluster: &'a Cluster, name: &str, end: &str) -> Sql<'a> {
    let database = cluster.database_without_extension(&(database_name(name) + end));
    let mut client = database.connect();
    let queue: &dyn Queue = match name {
        pgmq::NAME => &pgmq::Pgmq,
        pgq::NAME => &pgq::Pgq,
        limit::NAME => &limit::Limit,
        _ => &sequin::Sequin,
    };
    match install::peers().find(|peer| peer.name == name).and_then(|peer| peer.file.as_ref()) {
        Some(file) => client.batch_execute(&fs::read_to_string(file).unwrap()).unwrap(),
        None if name == limit::NAME => {}
        None => client.batch_execute(&format!("CREATE EXTENSION {}", name.to_lowercase())).unwrap(),
    }
    Sql { queue, database }
}

fn database_name(peer: &str) -> String {
    format!("peer_{}", peer.to_lowercase().replace(['-', ' '], "_"))
}
