//! The SQL functions. Each checks its arguments, calls one thing, and shapes the row. Their documentation for users is
//! their COMMENT, in sql/comments.sql.

mod capturable;
mod check;
mod consumer_stats;
mod consumers;
mod dead_letters;
mod keys;
mod publishing;
mod receiving;
mod rights;
mod source_stats;
mod sources;
mod stats;
mod streams;
