//! What runs in users' sessions: their requests, the ends of their transactions, hooks and triggers.

pub mod call;
pub mod caller;
pub mod current;
pub mod hooks;
pub mod installation;
pub mod publish;
pub mod received;
mod schedules;
pub mod stream_commands;
pub mod upsert;
