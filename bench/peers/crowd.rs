//! Many workers, each of which takes one message at a time: the full cycle with 4 publishers.

use super::peer::{Load, Work};
use super::{Peers, turns};
use crate::options::Options;
use crate::report::Row;

const WORKERS: [usize; 2] = [64, 256];

pub fn rows(peers: &mut Peers, options: &Options) -> Vec<Row> {
    let mut rows = Vec::new();
    for workers in WORKERS {
        let load = Load { workers, ..Load::of(1) };
        let turns = turns::throughput(peers, Work::Cycle, &load, options);
        rows.extend(turns.others().map(|peer| turns.row(&format!("{workers} workers"), peer)));
    }
    rows
}
