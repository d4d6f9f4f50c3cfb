use clap::{Args, ValueEnum};
use sequin_client::Result;

use crate::app::Exit;

#[derive(Args)]
#[command(after_help = "Examples:
  sequin completions bash > sequin.bash
  sequin completions zsh > _sequin
  sequin completions fish > sequin.fish

bash reads them from ~/.local/share/bash-completion/completions/sequin, zsh from a folder in $fpath, fish from
~/.config/fish/completions.

Names of streams, consumers and sources are those of the database that the command line connects to.")]
pub struct Completions {
    shell: Shell,
}

#[derive(Clone, Copy, ValueEnum)]
enum Shell {
    Bash,
    Zsh,
    Fish,
}

impl Completions {
    pub fn run(self) -> Result<Exit> {
        print!(
            "{}",
            match self.shell {
                Shell::Bash => include_str!("../../shell/sequin.bash"),
                Shell::Zsh => include_str!("../../shell/_sequin"),
                Shell::Fish => include_str!("../../shell/sequin.fish"),
            }
        );
        Ok(Exit::Done)
    }
}
