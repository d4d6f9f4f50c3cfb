use clap::{Args, ValueEnum};
use sequin_client::Result;

use crate::app::Exit;

#[derive(Args)]
#[command(after_help = "Examples:
  sequin completions bash > /etc/bash_completion.d/sequin
  sequin completions zsh > /usr/share/zsh/vendor-completions/_sequin
  sequin completions fish > ~/.config/fish/completions/sequin.fish

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
