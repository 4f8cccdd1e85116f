//! Many callers, many scope sets, and repeated failures.

#![cfg(unix)]
#![cfg(test)]

mod callers;
mod chaos;
#[path = "../common/mod.rs"]
mod common;
mod scale;
