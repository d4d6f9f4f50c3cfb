//! The settings that `add` and `edit` share.

use clap::Args;
use sequin_client::calls::stream::StreamSettings;

#[derive(Args)]
pub struct Settings {
    /// Delete messages that are older: an interval, such as '7 days'
    #[arg(long, value_name = "INTERVAL")]
    pub retain_for: Option<String>,
    /// Keep at most so many messages
    #[arg(long, value_name = "COUNT")]
    pub retain_messages: Option<i64>,
    /// Keep at most so many bytes
    #[arg(long, value_name = "BYTES")]
    pub retain_bytes: Option<i64>,
    /// Keep what a consumer has not finished, whatever the other limits say
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    pub retain_until_acked: Option<bool>,
    /// How long a dedup_id is remembered: 1 second to 7 days
    #[arg(long, value_name = "INTERVAL")]
    pub dedup_window: Option<String>,
}

impl Settings {
    pub fn into_client(self) -> StreamSettings {
        StreamSettings {
            retain_for: self.retain_for,
            retain_messages: self.retain_messages,
            retain_bytes: self.retain_bytes,
            retain_until_acked: self.retain_until_acked,
            dedup_window: self.dedup_window,
            ..StreamSettings::default()
        }
    }
}
