//! Decides, by a history, whether the invariants I1 to I8 of ARCHITECTURE.md held. Only what a client can be certain of
//! counts as evidence: the times of its own calls.

mod deliveries;
mod emptiness;
mod publishing;
pub mod tests;
mod view;

use std::fmt::Debug;

use super::history::History;
use view::View;

/// What a run's history breaks.
pub fn check(history: &History) -> Report {
    let mut report = Report::default();
    publishing::check(history, &mut report);
    deliveries::ids_are_unique(history, &mut report);
    for (number, _) in history.consumers.iter().enumerate() {
        let view = View::of(history, number, &mut report);
        deliveries::check(history, &view, &mut report);
        emptiness::check(history, &view, &mut report);
    }
    unexpected_errors(history, &mut report);
    report
}

/// A fault may break connections, cancel statements, and doom transactions that the dispatcher had given its word.
/// Nobody's call has another reason to fail.
fn unexpected_errors(history: &History, report: &mut Report) {
    const EXPECTED: [&str; 5] = ["57014", "57P01", "57P02", "57P03", "40001"];
    for failure in &history.errors {
        let state = failure.sqlstate.as_deref();
        if !state.is_none_or(|state| EXPECTED.contains(&state) || state.starts_with("08")) {
            report.add("an error that nothing explains", &[failure]);
        }
    }
}

#[derive(Default)]
pub struct Report {
    /// The first violations of each rule, with their evidence.
    pub violations: Vec<String>,
    /// How many empty answers came in calm, and were looked at.
    pub judged: usize,
}

impl Report {
    /// A violation, and the events that prove it.
    fn add(&mut self, rule: &str, evidence: &[&dyn Debug]) {
        const MOST_OF_A_RULE: usize = 5;
        if self.violations.iter().filter(|line| line.starts_with(rule)).count() < MOST_OF_A_RULE {
            let evidence = evidence.iter().map(|event| format!("\n    {event:?}"));
            self.violations.push(format!("{rule}:{}", evidence.collect::<String>()));
        }
    }
}
