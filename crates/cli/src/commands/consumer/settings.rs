//! The settings that `add` and `edit` share.

use clap::Args;
use sequin_client::calls::consumer::ConsumerSettings;

#[derive(Args)]
pub struct Settings {
    /// Only keys that match: * is one token, > at the end one or more; may be repeated
    #[arg(long, visible_alias = "filters", value_name = "FILTER", value_delimiter = ',')]
    pub filter: Vec<String>,
    /// How long a worker has for a message: an interval, such as '30 s'
    #[arg(long, value_name = "INTERVAL")]
    pub ack_wait: Option<String>,
    /// The same in milliseconds
    #[arg(long, value_name = "MS", conflicts_with = "ack_wait")]
    pub ack_wait_ms: Option<u64>,
    /// The most messages in flight at a time: 1 to 65536
    #[arg(long, value_name = "COUNT")]
    pub max_ack_pending: Option<i32>,
    /// Deliveries after which a message becomes a dead letter
    #[arg(long, value_name = "COUNT")]
    pub max_deliver: Option<i32>,
    /// Waits after the 1st, 2nd, .. failed delivery: '1 s,10 s,1 min'
    #[arg(long, value_name = "INTERVALS", value_delimiter = ',')]
    pub backoff: Option<Vec<String>>,
    /// Whether messages of a key wait for one another
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    pub ordered: Option<bool>,
    /// A SQL condition over key, data, headers, seq, inserted_at
    #[arg(long, value_name = "SQL")]
    pub condition: Option<String>,
    /// A function (jsonb) or (text, jsonb) that returns what is delivered
    #[arg(long, value_name = "FUNCTION")]
    pub transform: Option<String>,
}

impl Settings {
    pub fn into_client(self) -> ConsumerSettings {
        ConsumerSettings {
            filters: (!self.filter.is_empty()).then_some(self.filter),
            ack_wait: self.ack_wait.or(self.ack_wait_ms.map(|ms| format!("{ms} ms"))),
            max_ack_pending: self.max_ack_pending,
            max_deliver: self.max_deliver,
            backoff: self
                .backoff
                .map(|waits| waits.into_iter().filter(|w| !w.is_empty()).collect()),
            ordered: self.ordered,
            condition: self.condition,
            transform: self.transform,
        }
    }
}
