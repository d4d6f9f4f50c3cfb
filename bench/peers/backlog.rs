//! Receive + ack while a great many messages wait, to the same while few wait. What is taken is published again.

use super::peer::{Load, Peer};
use super::sql::Sql;
use super::turns;
use crate::options::Options;
use crate::report::Row;
use crate::sample::{median, ratio};

const LOAD: Load = Load::of(100);

const FEW: usize = 10_000;

/// And whether it is measured in every run. Filling takes minutes with the most.
const MANY: [(usize, &str, bool); 2] =
    [(1_000_000, "1,000,000", true), (10_000_000, "10,000,000", false)];

/// A peer in two databases: where few wait, and where many do.
pub struct Pair<'a> {
    pub few: Sql<'a>,
    pub many: Sql<'a>,
}

pub fn rows(pairs: &[Pair], options: &Options) -> Vec<Row> {
    let mut rows = Vec::new();
    for (count, name, always) in MANY {
        if !always && !options.takes_long() {
            eprintln!("{name} waiting: only in whole runs, or with --long");
            continue;
        }
        let rounds = if always { turns::rounds(options) } else { 1 };
        for pair in pairs {
            let peer = pair.few.name();
            eprintln!("{peer}: {name} waiting");
            let what = format!("{peer}: {name} waiting, to {FEW}");
            rows.push(match pair.measure(count, rounds, options) {
                Ok((many, few)) => {
                    let detail = format!("{:.0}/s to {:.0}/s", median(&many), median(&few));
                    Row::new(what, ratio(&many, &few)).detail(detail)
                }
                Err(reason) => Row::new(what, f64::NAN).detail(reason),
            });
        }
    }
    rows
}

impl Pair<'_> {
    /// With many, with few; the next time the other way round.
    fn measure(
        &self,
        count: usize,
        rounds: usize,
        options: &Options,
    ) -> Result<(Vec<f64>, Vec<f64>), String> {
        for (sql, count) in [(&self.few, FEW), (&self.many, count)] {
            sql.empty(&LOAD);
            sql.fill(&LOAD, count)?;
        }
        let (mut many, mut few) = (Vec::new(), Vec::new());
        for round in 0..rounds {
            let mut turns = [(&mut many, &self.many), (&mut few, &self.few)];
            if round % 2 == 1 {
                turns.reverse();
            }
            for (figures, sql) in turns {
                figures.push(sql.consume_and_replace(&LOAD, turns::figure_time(options))?);
            }
        }
        // Of gigabytes.
        self.many.empty(&LOAD);
        Ok((many, few))
    }
}
