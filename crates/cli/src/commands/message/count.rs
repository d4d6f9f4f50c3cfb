use clap::Args;
use sequin_client::Result;
use sequin_client::calls::message;

use super::Which;
use crate::app::{App, Exit};
use crate::output::Layout;

#[derive(Args)]
#[command(after_help = "Examples:
  sequin message count orders
  sequin message count orders --filter 'order.eu.>' --since 1h")]
pub struct Count {
    #[arg(value_name = "STREAM")]
    stream: String,
    #[command(flatten)]
    which: Which,
}

impl Count {
    pub async fn run(self, app: &mut App) -> Result<Exit> {
        let statement = message::count(&self.stream, &self.which.selection());
        if !app.options.as_sql {
            app.query(&message::check(&self.stream, self.which.filter.as_deref())).await?;
        }
        app.show(statement, Layout::Value).await
    }
}
