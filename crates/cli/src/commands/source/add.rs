use clap::Args;
use sequin_client::Result;
use sequin_client::calls::source;

use crate::app::{App, Exit};

#[derive(Args)]
#[command(after_help = "Examples:
  sequin source add shop orders --tables public.accounts --dry-run
  sequin source add shop orders --tables public.accounts --key-format '{schema}.{table}.{pk}'

Without tables and publication it is all tables, for superusers. Rows that are there come first, unless --no-backfill.")]
pub struct Add {
    /// 1 to 48 of A-Z a-z 0-9 _
    #[arg(value_name = "NAME")]
    name: String,
    /// Where the changes are published
    #[arg(value_name = "STREAM")]
    stream: String,
    /// Tables, separated by commas
    #[arg(long, visible_alias = "table", value_name = "TABLES", value_delimiter = ',')]
    tables: Option<Vec<String>>,
    /// A publication of yours, rather than tables
    #[arg(long, value_name = "NAME", conflicts_with = "tables")]
    publication: Option<String>,
    /// With {database} {schema} {table} {action} {pk} {column:NAME}
    #[arg(long, value_name = "FORMAT")]
    key_format: Option<String>,
    /// Only changes from now on
    #[arg(long)]
    no_backfill: bool,
}

impl Add {
    pub async fn run(self, app: &mut App) -> Result<Exit> {
        super::print_dry(app);
        let statement = source::create(
            &self.name,
            &self.stream,
            &self.tables,
            self.publication.as_deref(),
            self.key_format.as_deref(),
            !self.no_backfill,
        );
        let done = format!("source \"{}\" feeds stream \"{}\"", self.name, self.stream);
        app.change_and_say(&statement, &done).await
    }
}
