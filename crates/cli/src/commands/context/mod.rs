//! `sequin context`: names for connections, a file each in ~/.sequin/contexts.

use clap::{Args, Subcommand};
use sequin_client::Result;
use sequin_client::context::{Context, without_password};
use sequin_client::rows::{Kind, Row, Rows};
use sequin_client::sql::Statement;

use crate::app::{App, Exit};
use crate::output::Layout;

#[derive(Subcommand)]
pub enum Command {
    /// Add a context
    #[command(visible_alias = "create")]
    Add(Add),
    /// List the contexts
    #[command(visible_alias = "list")]
    Ls(Ls),
    /// Show a context
    #[command(visible_alias = "show")]
    Info(Name),
    /// Have this context count where none is named
    Select(Select),
    /// Remove a context
    #[command(visible_alias = "remove")]
    Rm(Remove),
    /// Change a context
    Edit(Edit),
}

#[derive(Args)]
#[command(after_help = "Example:
  sequin context add prod 'host=db1,db2 target_session_attrs=read-write'

Passwords stay out of the file: they belong into ~/.pgpass. --with-password keeps one there all the same.")]
pub struct Add {
    #[arg(value_name = "CONTEXT")]
    name: String,
    /// A URL, or key=value pairs as libpq reads them
    #[arg(value_name = "CONNECTION")]
    connection: String,
    #[arg(long, value_name = "TEXT")]
    description: Option<String>,
    /// Have it count where none is named
    #[arg(long)]
    set_default: bool,
    /// Keep the password in the file
    #[arg(long)]
    with_password: bool,
}

#[derive(Args)]
#[command(after_help = "Example:
  sequin context ls")]
pub struct Ls {}

#[derive(Args)]
#[command(after_help = "Example:
  sequin context info local")]
pub struct Name {
    #[arg(value_name = "CONTEXT")]
    name: String,
}

#[derive(Args)]
#[command(after_help = "Example:
  sequin context select local")]
pub struct Select {
    #[arg(value_name = "CONTEXT")]
    name: String,
}

#[derive(Args)]
#[command(after_help = "Example:
  sequin context rm local")]
pub struct Remove {
    #[arg(value_name = "CONTEXT")]
    name: String,
}

#[derive(Args)]
#[command(after_help = "Example:
  sequin context edit local --description 'on this machine'")]
pub struct Edit {
    #[arg(value_name = "CONTEXT")]
    name: String,
    #[arg(long, value_name = "CONNECTION")]
    connection: Option<String>,
    #[arg(long, value_name = "TEXT")]
    description: Option<String>,
    /// Keep the password in the file
    #[arg(long)]
    with_password: bool,
}

const COLUMNS: [(&str, Kind); 4] = [
    ("context", Kind::Text),
    ("selected", Kind::Bool),
    ("connection", Kind::Text),
    ("description", Kind::Text),
];

pub fn run(command: Command, app: &mut App) -> Result<Exit> {
    let contexts = app.contexts()?;
    let only_looks = matches!(command, Command::Ls(_) | Command::Info(_));
    if app.options.dry_run && !only_looks {
        app.say("dry run: nothing was changed");
        return Ok(Exit::Done);
    }
    match command {
        Command::Add(add) => {
            if contexts.file(&add.name).exists()
                && !app.confirm(&format!("Replace context \"{}\"?", add.name))?
            {
                return Ok(Exit::Error);
            }
            let connection = keep(app, &add.connection, add.with_password)?;
            let context = Context { name: add.name, description: add.description, connection };
            contexts.write(&context)?;
            if add.set_default {
                contexts.select(&context.name)?;
            }
            app.say(&format!(
                "context \"{}\" is written to {}",
                context.name,
                contexts.file(&context.name).display()
            ));
        }
        Command::Ls(_) => {
            let selected = contexts.selected();
            let mut rows = Vec::new();
            for name in contexts.names()? {
                let context = contexts.read(&name).ok();
                rows.push(row(&name, context.as_ref(), selected.as_deref()));
            }
            print(app, Layout::Table, rows)?;
        }
        Command::Info(Name { name }) => {
            let context = contexts.read(&name)?;
            let rows = vec![row(&name, Some(&context), contexts.selected().as_deref())];
            print(app, Layout::Record, rows)?;
        }
        Command::Select(Select { name }) => {
            contexts.select(&name)?;
            app.say(&format!("context \"{name}\" counts where none is named"));
        }
        Command::Rm(Remove { name }) => {
            contexts.remove(&name)?;
            app.say(&format!("context \"{name}\" is removed"));
        }
        Command::Edit(edit) => {
            let mut context = contexts.read(&edit.name)?;
            if let Some(connection) = edit.connection {
                context.connection = keep(app, &connection, edit.with_password)?;
            }
            context.description = edit.description.or(context.description);
            contexts.write(&context)?;
            app.say(&format!("context \"{}\" is changed", edit.name));
        }
    }
    Ok(Exit::Done)
}

/// The connection string as it is kept: without its password, unless that is asked for.
fn keep(app: &App, connection: &str, with_password: bool) -> Result<String> {
    let (without, had_one) = without_password(connection)?;
    if with_password {
        return Ok(connection.to_owned());
    }
    if had_one {
        app.say("the password is left out: put it into ~/.pgpass, or say --with-password");
    }
    Ok(without)
}

fn row(name: &str, context: Option<&Context>, selected: Option<&str>) -> Row {
    let is_selected = if selected == Some(name) { "t" } else { "f" };
    let connection = context.map(|context| {
        let (without, had_one) =
            without_password(&context.connection).unwrap_or((String::new(), false));
        if had_one { format!("{without} password=...") } else { without }
    });
    let description = context.and_then(|context| context.description.clone());
    vec![Some(name.to_owned()), Some(is_selected.to_owned()), connection, description]
}

fn print(app: &App, layout: Layout, rows: Vec<Row>) -> Result<()> {
    let columns = Statement::new("", &COLUMNS).columns;
    app.format()?.print(layout, &Rows { columns, rows })
}
