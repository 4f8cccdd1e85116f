#![doc = include_str!("../README.md")]
//!
//! # The parts, leaves first
//!
//! - [`clock`]: the boot clock, which runs in suspend.
//! - [`duration`]: durations as people write them.
//! - [`scope`]: scope sets.
//! - [`wire`]: the messages.
//! - [`frame`]: messages as bytes.
//! - `error`, `address`, `token`, `connection`, `exchange`, `watch`, `broker`: what an app uses, [`Broker`] first.

pub mod clock;
pub mod duration;
pub mod scope;
pub mod wire;
pub mod frame;
mod error;
mod address;
mod token;
mod connection;
mod exchange;
mod watch;
mod broker;

pub use broker::{Ask, Broker, DEFAULT_TIMEOUT, Status};
pub use error::Error;
pub use scope::{ScopeError, ScopeSet};
pub use token::Token;
pub use watch::Watch;
