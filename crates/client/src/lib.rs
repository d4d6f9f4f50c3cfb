//! The SQL functions of sequin as typed calls over tokio-postgres, and a connection as psql makes it.
//!
//! - [`sql`], [`calls`]: a call as the SQL text that runs; [`rows`] what comes back, as the server writes it.
//! - [`conninfo`], [`service`], [`pgpass`], [`context`]: the texts that say where to connect to, and [`settings`] which of
//!   them counts. Pure.
//! - [`tls`], [`connect`], [`session`]: the connection itself.

#![forbid(unsafe_code)]

pub mod calls;
pub mod connect;
pub mod conninfo;
pub mod context;
pub mod error;
pub mod pgpass;
pub mod rows;
pub mod service;
pub mod session;
pub mod settings;
pub mod sql;
pub mod tls;

pub use error::{Error, Result};
