use clap::Args;
use sequin_client::Result;
use sequin_client::calls::message;

use crate::app::{App, Exit};
use crate::output::Layout;

#[derive(Args)]
#[command(after_help = "Examples:
  sequin message get orders 1
  sequin message get orders order.eu.1 -o 'format {data}'

Exit code 3 if there is no such message.")]
pub struct Get {
    #[arg(value_name = "STREAM")]
    stream: String,
    /// A seq, or a key, whose last message it is
    #[arg(value_name = "SEQ|KEY")]
    seq_or_key: String,
}

impl Get {
    pub async fn run(self, app: &mut App) -> Result<Exit> {
        let statement = message::get(&self.stream, &self.seq_or_key);
        if app.prints_sql(&statement)? {
            return Ok(Exit::Done);
        }
        let format = app.format()?;
        app.query(&message::check(&self.stream, None)).await?;
        let rows = app.query(&statement).await?;
        if rows.rows.is_empty() {
            app.say(&format!("no message {} in stream \"{}\"", self.seq_or_key, self.stream));
            return Ok(Exit::Nothing);
        }
        format.print(Layout::Record, &rows)?;
        Ok(Exit::Done)
    }
}
