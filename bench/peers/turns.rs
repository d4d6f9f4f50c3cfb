//! Figures of all peers, taken in turn.

use std::time::Duration;

use super::Peers;
use super::peer::{Done, Load, Peer, SEQUIN, Work};
use crate::options::Options;
use crate::report::Row;
use crate::sample::{median, ratio};

/// One value of each peer and round, sequin's first; or why a peer has none.
pub struct Turns<T>(pub Vec<(&'static str, Result<Vec<T>, String>)>);

/// A B C, C B A: what one leaves behind for the next is not always the same one's. A peer that has failed takes part
/// no more.
pub fn take<T>(
    peers: &mut Peers,
    options: &Options,
    mut measure: impl FnMut(&mut dyn Peer, usize) -> Result<T, String>,
) -> Turns<T> {
    let mut turns: Vec<_> = peers.iter().map(|peer| (peer.name(), Ok(Vec::new()))).collect();
    for round in 0..rounds(options) {
        let mut order: Vec<usize> = (0..peers.len()).collect();
        if round % 2 == 1 {
            order.reverse();
        }
        for n in order {
            let Ok(values) = &mut turns[n].1 else { continue };
            match measure(peers[n].as_mut(), n) {
                Ok(value) => values.push(value),
                Err(reason) => turns[n].1 = Err(reason),
            }
        }
    }
    Turns(turns)
}

/// Messages per second. How many messages it takes for that is tried out first, for each peer.
pub fn throughput(peers: &mut Peers, work: Work, load: &Load, options: &Options) -> Turns<f64> {
    eprintln!("{}: {}", work.name(), load.name());
    let counts = counts(peers, work, load, figure_time(options));
    take(peers, options, |peer, n| {
        let count = counts[n].clone()?;
        Ok(peer.run(work, load, count)?.per_second())
    })
}

/// More would only take their time.
pub fn rounds(options: &Options) -> usize {
    const MOST: usize = 5;
    options.rounds.min(MOST)
}

/// There are many figures here.
pub fn figure_time(options: &Options) -> Duration {
    options.duration() / 2
}

/// How many messages take each peer about that time.
pub fn counts(
    peers: &mut Peers,
    work: Work,
    load: &Load,
    time: Duration,
) -> Vec<Result<usize, String>> {
    peers.iter_mut().map(|peer| count_for(time, |count| peer.run(work, load, count))).collect()
}

/// How many messages take about that time.
pub fn count_for(
    time: Duration,
    mut run: impl FnMut(usize) -> Result<Done, String>,
) -> Result<usize, String> {
    const FIRST: usize = 500;
    /// A run of this part of the time tells enough.
    const PART: f64 = 0.2;
    const GROWTH: f64 = 8.0;
    let time = time.as_secs_f64();
    let mut count = FIRST;
    loop {
        let done = run(count)?;
        let whole = done.messages as f64 * time / done.seconds;
        if done.seconds >= time * PART {
            return Ok(whole as usize);
        }
        count = whole.min(done.messages as f64 * GROWTH) as usize;
    }
}

impl Work {
    pub fn name(self) -> &'static str {
        match self {
            Self::Publish => "publish",
            Self::Consume => "receive + ack",
            Self::Cycle => "full cycle",
        }
    }
}

impl<T> Turns<T> {
    pub fn of(&self, name: &str) -> Option<&[T]> {
        let (_, values) = self.0.iter().find(|(peer, _)| *peer == name)?;
        values.as_deref().ok()
    }

    /// All but sequin.
    pub fn others(&self) -> impl Iterator<Item = &'static str> {
        self.0[1..].iter().map(|(name, _)| *name)
    }
}

impl Turns<f64> {
    /// Sequin's to a peer's. One without figures is a row, too, that reaches nothing.
    pub fn row(&self, what: &str, peer: &str) -> Row {
        self.row_of(what, peer, |figure| format!("{figure:.0}/s"))
    }

    pub fn row_of(&self, what: &str, peer: &str, show: impl Fn(f64) -> String) -> Row {
        self.row_between(what, (SEQUIN, peer), show)
    }

    /// One peer's to another's.
    pub fn row_between(
        &self,
        what: &str,
        (one, other): (&str, &str),
        show: impl Fn(f64) -> String,
    ) -> Row {
        let what = format!("{what}: {one} to {other}");
        let values = |name| &self.0.iter().find(|(peer, _)| *peer == name).unwrap().1;
        match (values(one), values(other)) {
            (Ok(of), Ok(to)) => {
                let detail = format!("{} to {}", show(median(of)), show(median(to)));
                Row::new(what, ratio(of, to)).detail(detail)
            }
            (Err(reason), _) => Row::new(what, f64::NAN).detail(format!("{one}: {reason}")),
            (_, Err(reason)) => Row::new(what, f64::NAN).detail(format!("{other}: {reason}")),
        }
    }
}
