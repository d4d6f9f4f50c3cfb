//! The settings of a consumer, as the state machine uses them.

/// A point in time or a span, in microseconds. A point by the wall clock counts from 2000-01-01 UTC, like timestamptz.
/// A point by the clock that never steps counts from an arbitrary moment.
pub type Micros = i64;

/// The settings that steer deliveries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Withhold later messages of a key while an earlier one is unfinished (I5).
    pub ordered: bool,
    /// How long a delivery is leased for when `receive` doesn't say.
    pub ack_wait: Micros,
    /// The most messages in flight at a time (I8).
    pub max_ack_pending: usize,
    /// Deliveries after which a message becomes a dead letter; `None`: never.
    pub max_deliver: Option<u32>,
    /// Waits after the first, second, .. failed delivery; the last repeats, none means at once.
    pub backoff: Vec<Micros>,
    /// A paused consumer delivers nothing; what is in flight may still be acked.
    pub paused: bool,
}

impl Settings {
    /// How long a message waits after its `deliveries`-th delivery failed.
    pub fn backoff_after(&self, deliveries: u32) -> Micros {
        let nth = (deliveries.max(1) - 1) as usize;
        self.backoff.get(nth).or(self.backoff.last()).copied().unwrap_or(0)
    }

    /// True when a message delivered that often must not be delivered again.
    pub fn is_exhausted(&self, deliveries: u32) -> bool {
        self.max_deliver.is_some_and(|max| deliveries >= max)
    }
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            ordered: true,
            ack_wait: 30_000_000,
            max_ack_pending: 10_000,
            max_deliver: None,
            backoff: Vec::new(),
            paused: false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Settings;

    #[test]
    fn the_nth_failure_waits_the_nth_interval_and_the_last_repeats() {
        let settings = Settings { backoff: vec![10, 20, 30], ..Settings::default() };
        let waits: Vec<_> = (1..=5).map(|n| settings.backoff_after(n)).collect();
        assert_eq!(waits, [10, 20, 30, 30, 30]);
        assert_eq!(Settings::default().backoff_after(7), 0);
    }
}
