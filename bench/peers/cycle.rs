//! The full cycle: publishers and workers at the same time, until every consumer has acked everything.

use super::peer::{Load, Work};
use super::turns::{self, Turns};
use super::{Peers, library, limit, pgmq, pgq};
use crate::options::Options;
use crate::report::Row;
use crate::sample::median;

const LOADS: [Load; 6] = [
    Load::of(1),
    Load::of(10),
    Load::of(100),
    Load::of(10).consumers(3),
    Load::of(10).consumers(10),
    Load::of(10).large(),
];

/// Where sequin has to be ahead, by how much: of which peer, at which batch, with how many consumers.
const REQUIRED: [(&str, usize, usize, f64); 5] = [
    (pgmq::NAME, 1, 1, 3.0),
    (pgmq::NAME, 10, 1, 3.0),
    (pgmq::NAME, 100, 1, 5.0),
    (pgmq::NAME, 10, 3, 8.0),
    (pgq::NAME, 100, 1, 1.2),
];

/// Of a library's best figure, at the batch that it is best with.
const LIBRARY_REQUIRED: f64 = 3.0;

pub fn rows(peers: &mut Peers, options: &Options) -> Vec<Row> {
    let measured: Vec<(Load, Turns<f64>)> = LOADS
        .into_iter()
        .map(|load| (load, turns::throughput(peers, Work::Cycle, &load, options)))
        .collect();
    let mut rows = Vec::new();
    for (load, turns) in &measured {
        let what = format!("full cycle, {}", load.name());
        for peer in turns.others() {
            let row = turns.row(&what, peer);
            rows.push(if is_best(&measured, load, peer) {
                row.at_least(LIBRARY_REQUIRED)
            } else {
                match required(load, peer) {
                    Some(bound) => row.at_least(bound),
                    None => row,
                }
            });
        }
    }
    // What no queue can be ahead of pgmq by.
    let to_limit = |(load, turns): &(Load, Turns<f64>)| {
        let is_there = turns.others().any(|peer| peer == pgmq::NAME);
        let what = format!("full cycle, {}", load.name());
        let show = |figure: f64| format!("{figure:.0}/s");
        is_there.then(|| turns.row_between(&what, (limit::NAME, pgmq::NAME), show))
    };
    rows.extend(measured.iter().filter_map(to_limit));
    rows
}

fn is_plain(load: &Load) -> bool {
    load.consumers == 1 && load.bytes == super::peer::SMALL
}

fn required(load: &Load, peer: &str) -> Option<f64> {
    let here = |&&(name, batch, consumers, _): &&(&str, usize, usize, f64)| {
        name == peer
            && (batch, consumers) == (load.batch, load.consumers)
            && load.bytes == super::peer::SMALL
    };
    REQUIRED.iter().find(here).map(|(.., bound)| *bound)
}

/// Whether that is where a library is fastest.
fn is_best(measured: &[(Load, Turns<f64>)], load: &Load, peer: &str) -> bool {
    if !library::NAMES.contains(&peer) || !is_plain(load) {
        return false;
    }
    let figure = |turns: &Turns<f64>| turns.of(peer).map_or(f64::NEG_INFINITY, median);
    let plain = measured.iter().filter(|(load, _)| is_plain(load));
    let best = plain.max_by(|(_, a), (_, b)| figure(a).total_cmp(&figure(b)));
    best.is_some_and(|(best, _)| best.batch == load.batch)
}
