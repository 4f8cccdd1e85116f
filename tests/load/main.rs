//! Many callers, many scope sets, and everything that fails at once.

#![cfg(unix)]
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a panic fails the test, and a skipped test prints why"
)]

mod callers;
mod chaos;
#[path = "../common/mod.rs"]
mod common;
mod scale;
