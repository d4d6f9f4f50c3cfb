use clap::Args;
use sequin_client::Result;
use sequin_client::calls::consumer;

use super::target;
use crate::app::{App, Exit};
use crate::output::Layout;

#[derive(Args)]
#[command(after_help = "Examples:
  sequin consumer receive billing
  sequin consumer receive billing --batch-size 10 --wait '5 s' --ack -o jsonl

What is received is leased for the consumer's ack_wait: ack it, or it comes again. With --ack it is acked once it is
printed. Exit code 3 if there was nothing.")]
pub struct Receive {
    #[arg(value_name = "[STREAM] CONSUMER", required = true, num_args = 1..=2)]
    consumer: Vec<String>,
    /// At most so many: 1 to 1000
    #[arg(short = 'n', long, visible_alias = "count", value_name = "COUNT", default_value_t = 1)]
    batch_size: u32,
    /// Wait so long until there is something: an interval of at most 1 hour
    #[arg(short, long, value_name = "INTERVAL")]
    wait: Option<String>,
    /// Lease them for this time, rather than the consumer's ack_wait
    #[arg(long, value_name = "INTERVAL")]
    ack_wait: Option<String>,
    /// Ack what is printed
    #[arg(long)]
    ack: bool,
    /// Ack nothing, which is so in any case
    #[arg(long, hide = true, conflicts_with = "ack")]
    no_ack: bool,
}

impl Receive {
    pub async fn run(self, app: &mut App) -> Result<Exit> {
        let name = target::consumer(self.consumer);
        let format = app.format()?;
        let statement = consumer::receive(
            &name,
            self.batch_size,
            self.wait.as_deref(),
            self.ack_wait.as_deref(),
        );
        let Some(rows) = app.change(&statement).await? else { return Ok(Exit::Done) };
        if rows.rows.is_empty() {
            app.say("No messages available.");
            return Ok(Exit::Nothing);
        }
        format.print(Layout::Table, &rows)?;
        if !self.ack || app.options.dry_run {
            return Ok(Exit::Done);
        }
        let ids: Vec<i64> = rows.all("ack_id").filter_map(|id| id.parse().ok()).collect();
        let acked = app.query(&consumer::ack(&name, &ids)).await?;
        Ok(target::exit_of(app, Some(acked), "acked", ids.len()))
    }
}
