//! `sequin consumer`

mod ack;
mod add;
mod dead;
pub mod edit;
mod info;
mod ls;
mod nack;
mod pause;
mod peek;
mod receive;
mod redeliver;
mod redrive;
mod reject;
mod rewind;
mod rm;
mod settings;
mod target;

use clap::Subcommand;
use sequin_client::Result;

use crate::app::{App, Exit};

#[derive(Subcommand)]
pub enum Command {
    /// Create a consumer of a stream
    #[command(visible_alias = "create")]
    Add(add::Add),
    /// List the consumers
    #[command(visible_alias = "list")]
    Ls(ls::Ls),
    /// All about a consumer
    #[command(visible_alias = "show")]
    Info(info::Info),
    /// Change settings of a consumer; shows the difference
    Edit(edit::Edit),
    /// Drop a consumer, with its place in the stream
    #[command(visible_aliases = ["remove", "drop"])]
    Rm(rm::Rm),
    /// Stop delivering
    Pause(pause::Pause),
    /// Deliver again
    Resume(pause::Resume),
    /// Receive messages: they are leased until they are acked
    #[command(visible_alias = "next")]
    Receive(receive::Receive),
    /// Finish messages
    Ack(ack::Ack),
    /// Give messages back, now or after a delay
    Nack(nack::Nack),
    /// Keep messages for longer
    Extend(ack::Extend),
    /// Give up on messages: they become dead letters
    Reject(reject::Reject),
    /// Show what is in flight and what is to come; leases nothing
    Peek(peek::Peek),
    /// Move a consumer to another place in its stream
    #[command(visible_aliases = ["seek", "reset"])]
    Rewind(rewind::Rewind),
    /// Deliver finished messages once more, just these
    Redeliver(redeliver::Redeliver),
    /// Deliver dead letters again
    Redrive(redrive::Redrive),
    /// Show the dead letters
    Dead(dead::Dead),
}

pub async fn run(command: Command, app: &mut App) -> Result<Exit> {
    match command {
        Command::Add(add) => add.run(app).await,
        Command::Ls(ls) => ls.run(app).await,
        Command::Info(info) => info.run(app).await,
        Command::Edit(edit) => edit.run(app).await,
        Command::Rm(rm) => rm.run(app).await,
        Command::Pause(pause) => pause.run(app).await,
        Command::Resume(resume) => resume.run(app).await,
        Command::Receive(receive) => receive.run(app).await,
        Command::Ack(ack) => ack.run(app).await,
        Command::Nack(nack) => nack.run(app).await,
        Command::Extend(extend) => extend.run(app).await,
        Command::Reject(reject) => reject.run(app).await,
        Command::Peek(peek) => peek.run(app).await,
        Command::Rewind(rewind) => rewind.run(app).await,
        Command::Redeliver(redeliver) => redeliver.run(app).await,
        Command::Redrive(redrive) => redrive.run(app).await,
        Command::Dead(dead) => dead.run(app).await,
    }
}
