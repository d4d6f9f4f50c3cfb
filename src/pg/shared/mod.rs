//! Shared memory: an entry for each session, database and source, and what they say to each other.

pub mod bounds;
pub mod capturers;
pub mod database;
pub mod helper;
pub mod lwlock;
pub mod session_entry;
pub mod shmem;
pub mod status;
pub mod stream_counts;
