//! Where `view --follow` is. Transactions commit out of the order of their seqs, so a lower seq may come after a higher one.

use std::collections::BTreeSet;

/// All up to `settled` is final: shown, or not to come. Above it, what has been shown is remembered.
#[derive(Debug, Default)]
pub struct Position {
    settled: i64,
    shown: BTreeSet<i64>,
}

impl Position {
    /// Reads on after this seq.
    pub fn after(&self) -> i64 {
        self.settled
    }

    /// Notes a seq that has come. False if it has been shown before.
    pub fn is_new(&mut self, seq: i64) -> bool {
        seq > self.settled && self.shown.insert(seq)
    }

    /// All up to `last` is final: when that was the last seq, no transaction was open that had published.
    pub fn settle(&mut self, last: i64) {
        if last > self.settled {
            self.settled = last;
            self.shown = self.shown.split_off(&(last + 1));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Position;

    #[test]
    fn a_lower_seq_that_comes_late_is_shown_once() {
        let mut position = Position::default();
        assert!(position.is_new(1));
        assert!(position.is_new(3));
        assert!(!position.is_new(3));
        assert!(position.is_new(2));
        position.settle(3);
        assert!(!position.is_new(2));
        assert_eq!(position.after(), 3);
        assert!(position.is_new(4));
        position.settle(1);
        assert_eq!(position.after(), 3);
    }
}
