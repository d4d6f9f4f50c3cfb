//! The options that all commands have.

use clap::{Args, Parser};

use crate::commands::Command;

const AFTER_HELP: &str = "\
Connection: as psql has it. The environment (PGHOST, PGPORT, PGUSER, PGDATABASE, PGPASSWORD, PGSSLMODE, PGSERVICE ..),
~/.pgpass, ~/.pg_service.conf, or a context; -d takes a database, a URL or key=value pairs.

Exit codes: 0 done, 1 error, 2 bad usage, 3 nothing there, 4 an ack came too late.";

/// Message streams inside PostgreSQL, from a terminal.
#[derive(Parser)]
#[command(name = "sequin", version, after_help = AFTER_HELP, max_term_width = 100)]
#[command(propagate_version = true, subcommand_required = true, arg_required_else_help = true)]
pub struct Sequin {
    #[command(flatten)]
    pub options: Options,
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Args, Clone, Debug, Default)]
pub struct Options {
    /// A database, a URL (postgresql://..), or key=value pairs as libpq reads them
    #[arg(short = 'd', long, global = true, value_name = "DB", help_heading = "Connection")]
    pub dbname: Option<String>,
    /// Host or folder of the socket; several, separated by commas, are tried in turn
    #[arg(long, global = true, value_name = "HOST", help_heading = "Connection")]
    pub host: Option<String>,
    /// Port
    #[arg(short = 'p', long, global = true, value_name = "PORT", help_heading = "Connection")]
    pub port: Option<String>,
    /// Role to connect as
    #[arg(short = 'U', long, global = true, value_name = "ROLE", help_heading = "Connection")]
    pub username: Option<String>,
    /// A context: see sequin context
    #[arg(long, global = true, env = "SEQUIN_CONTEXT", hide_env = true, value_name = "NAME")]
    #[arg(help_heading = "Connection")]
    pub context: Option<String>,
    /// table, json, jsonl, yaml, csv, or 'format {seq} {key}' with names of columns
    #[arg(short = 'o', long, global = true, value_name = "FORMAT", help_heading = "Output")]
    pub output: Option<String>,
    /// Print the SQL instead of running it
    #[arg(long, global = true, help_heading = "Output")]
    pub as_sql: bool,
    /// There is no HTTP here: see --as-sql
    #[arg(long, global = true, hide = true)]
    pub as_curl: bool,
    /// Change nothing, and say what would happen
    #[arg(long, global = true, help_heading = "Output")]
    pub dry_run: bool,
    /// Don't ask
    #[arg(short = 'y', long, global = true, help_heading = "Output")]
    pub yes: bool,
    /// Never ask: fail where a question would come
    #[arg(long, global = true, help_heading = "Output")]
    pub no_input: bool,
}
