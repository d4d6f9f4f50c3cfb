//! Clusters of their own for tests and benchmarks, and the processes in them.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // how a test fails

pub mod cluster;
pub mod process;
