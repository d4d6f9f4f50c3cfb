//! The pure code of the extension, as it is, without pgrx.

#![allow(dead_code)] // not all of it is used from here

#[path = "../src/capture/mod.rs"]
pub mod capture;
#[path = "../src/engine/mod.rs"]
pub mod engine;
