//! The background workers. A step of each is bounded; none holds a transaction, a lock or a snapshot while it
//! waits (I10).

pub mod capturer;
pub mod dispatcher;
pub mod janitor;
pub mod launcher;
pub mod scheduler;
