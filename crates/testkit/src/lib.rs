//! PostgreSQL clusters for tests and benchmarks, and their processes.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // how a test fails

pub mod cluster;
pub mod process;
