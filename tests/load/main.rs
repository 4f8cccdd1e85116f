//! Many callers, many scope sets, and everything that fails at once.

#![cfg(unix)]
#![cfg(test)]

mod callers;
mod chaos;
#[path = "../common/mod.rs"]
mod common;
mod scale;
