//! Publishing while nobody receives; and receive and ack, from a backlog that has been published before.

use super::Peers;
use super::peer::{Load, Work};
use super::turns;
use crate::options::Options;
use crate::report::Row;

const LOADS: [Load; 6] = [
    Load::of(1),
    Load::of(10),
    Load::of(100),
    Load::of(1000),
    Load::of(1).large(),
    Load::of(100).large(),
];

pub fn rows(peers: &mut Peers, work: Work, options: &Options) -> Vec<Row> {
    let mut rows = Vec::new();
    for load in LOADS {
        let turns = turns::throughput(peers, work, &load, options);
        let what = format!("{}, {}", work.name(), load.name());
        rows.extend(turns.others().map(|peer| turns.row(&what, peer)));
    }
    rows
}
