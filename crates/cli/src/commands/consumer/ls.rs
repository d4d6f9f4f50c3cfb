use clap::Args;
use sequin_client::Result;
use sequin_client::calls::consumer;

use crate::app::{App, Exit};
use crate::output::Layout;

#[derive(Args)]
#[command(after_help = "Examples:
  sequin consumer ls
  sequin consumer ls orders -o csv")]
pub struct Ls {
    /// Only those of this stream
    #[arg(value_name = "STREAM")]
    stream: Option<String>,
}

impl Ls {
    pub async fn run(self, app: &mut App) -> Result<Exit> {
        if let (Some(stream), false) = (&self.stream, app.options.as_sql) {
            app.query(&sequin_client::calls::message::check(stream, None)).await?;
        }
        app.show(consumer::list(self.stream.as_deref()), Layout::Table).await
    }
}
