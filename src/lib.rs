//! Sequin.
#![deny(unsafe_code)]
pgrx::pg_module_magic!(name, version);
mod engine;
