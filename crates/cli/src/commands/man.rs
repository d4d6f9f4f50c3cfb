use std::io::Write;
use std::path::PathBuf;

use clap::{Args, Command, CommandFactory};
use sequin_client::{Error, Result};

use crate::app::Exit;
use crate::args::Sequin;

#[derive(Args)]
#[command(after_help = "Examples:
  sequin man consumer rewind
  sequin man --dir target/man")]
pub struct Man {
    /// The command; without one, sequin itself
    #[arg(value_name = "COMMAND")]
    command: Vec<String>,
    /// Write the pages of all commands into this folder
    #[arg(long, value_name = "DIR", conflicts_with = "command")]
    dir: Option<PathBuf>,
}

impl Man {
    pub fn run(self) -> Result<Exit> {
        let mut root = Sequin::command().disable_help_subcommand(true);
        root.build();
        if let Some(dir) = self.dir {
            std::fs::create_dir_all(&dir)?;
            clap_mangen::generate_to(root, dir)?;
            return Ok(Exit::Done);
        }
        let mut command = &root;
        for name in &self.command {
            command = command.find_subcommand(name).ok_or_else(|| unknown(command, name))?;
        }
        let mut page = Vec::new();
        clap_mangen::Man::new(command.clone()).render(&mut page)?;
        std::io::stdout().write_all(&page)?;
        Ok(Exit::Done)
    }
}

fn unknown(command: &Command, name: &str) -> Error {
    let names: Vec<&str> = (command.get_subcommands())
        .filter(|sub| !sub.is_hide_set())
        .map(|sub| sub.get_name())
        .collect();
    Error::usage(format!("there is no command \"{name}\""))
        .with_hint(format!("There are: {}.", names.join(", ")))
}
