use std::io::Read;

use clap::Args;
use sequin_client::calls::message::{self, NewMessage};
use sequin_client::{Error, Result};

use super::send_file::SendFile;
use crate::app::{App, Exit};

#[derive(Args)]
#[command(after_help = "Examples:
  sequin message send orders order.eu.7 '{\"amount\": 20}'
  sequin message send orders order.eu.7 '{\"amount\": 20}' --dedup-id invoice-7
  sequin message send orders order.eu.7 '{\"amount\": 20}' --headers '{\"trace\": 1}'
  sequin message send orders order.eu.7 '{\"a\": 1}' --deliver-at '2030-01-01 08:00+00'
  sequin message send archive --from messages.jsonl

Prints the message's seq; nothing for one that is published later. DATA of - is read from standard input.
--from takes JSON lines with key and data, and headers, dedup_id, deliver_at if they are there: what
`sequin message view -o jsonl` prints. It commits as it goes; --single-transaction is all or nothing.")]
pub struct Send {
    #[arg(value_name = "STREAM")]
    stream: String,
    /// 1 to 16 tokens joined by dots
    #[arg(value_name = "KEY", required_unless_present = "from")]
    key: Option<String>,
    /// JSON; what is no JSON is sent as a JSON string
    #[arg(value_name = "DATA", required_unless_present = "from")]
    data: Option<String>,
    /// More JSON beside it
    #[arg(long, value_name = "JSON")]
    headers: Option<String>,
    /// 1 to 255 bytes: published once within the stream's dedup_window
    #[arg(long, value_name = "ID")]
    dedup_id: Option<String>,
    /// Publish it then
    #[arg(long, value_name = "TIME", conflicts_with = "dedup_id")]
    deliver_at: Option<String>,
    /// A file of JSON lines, or - for standard input
    #[arg(long, value_name = "FILE", conflicts_with_all = ["key", "data", "headers", "dedup_id", "deliver_at"])]
    from: Option<String>,
    /// Leave out the first so many lines, to go on where a run has stopped
    #[arg(long, value_name = "LINES", default_value_t = 0, requires = "from")]
    skip: u64,
    /// All lines or none
    #[arg(short = '1', long, requires = "from")]
    single_transaction: bool,
}

impl Send {
    pub async fn run(self, app: &mut App) -> Result<Exit> {
        if let Some(from) = self.from {
            let file = SendFile {
                stream: self.stream,
                from,
                skip: self.skip,
                is_single_transaction: self.single_transaction,
            };
            return file.run(app).await;
        }
        let (Some(key), Some(data)) = (self.key, self.data) else {
            return Err(Error::usage("a message has a key and data"));
        };
        let data = if data == "-" { standard_input()? } else { data };
        let data = json_of(&data);
        let new = NewMessage {
            key: &key,
            data: &data,
            headers: self.headers.as_deref(),
            deliver_at: self.deliver_at.as_deref(),
            dedup_id: self.dedup_id.as_deref(),
        };
        app.change_and_show(&message::publish(&self.stream, &new)).await?;
        Ok(Exit::Done)
    }
}

fn standard_input() -> Result<String> {
    let mut text = String::new();
    std::io::stdin().lock().read_to_string(&mut text)?;
    Ok(text)
}

/// The text itself if it is JSON, else a JSON string of it, as Sequin 0.3.7 took any text. What looks like JSON and is
/// none is left for the server to refuse.
fn json_of(text: &str) -> String {
    let is_json = serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok();
    let looks_like_it = text.trim_start().starts_with(['{', '[', '"']);
    match is_json || looks_like_it {
        true => text.to_owned(),
        false => serde_json::to_string(text).unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use super::json_of;

    #[test]
    fn plain_text_becomes_a_string_and_broken_json_does_not() {
        assert_eq!(json_of("{\"a\": 1.0}"), "{\"a\": 1.0}");
        assert_eq!(json_of("12"), "12");
        assert_eq!(json_of("hello \"you\""), "\"hello \\\"you\\\"\"");
        assert_eq!(json_of("{\"a\": }"), "{\"a\": }");
    }
}
