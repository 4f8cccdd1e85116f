#![doc = include_str!("../README.md")]
//!
//! # The parts, leaves first
//!
//! What apps use is named at the top of the crate, [`Broker`] first. The modules `clock`, `duration`,
//! `frame` and `wire` are shared with the daemon and the helper, and outside semantic versioning.
//!
//! - `clock`: the boot clock, which runs in suspend.
//! - `duration`: durations as people write them.
//! - `scope`: scope sets.
//! - `wire`: the messages.
//! - `frame`: messages as bytes.
//! - `error`, `address`, `token`: why there is none, where to ask, what comes.
//! - `connection`, `hangup`, `exchange`: one connection; ending it; questions and answers over what is free.
//! - `held`, `flight`: tokens in memory; requests under way, each made once.
//! - `watch`: each new token as it comes.
//! - `process`: what a process has of these and a forked child must not use.
//! - `broker`: the face of it all; [`tokio`](https://docs.rs/tokio) and
//!   [`reqwest`](https://docs.rs/reqwest) apps have one more each, by feature.

#[doc(hidden)]
pub mod clock;
#[doc(hidden)]
pub mod duration;
#[doc(hidden)]
pub mod scope;
#[doc(hidden)]
pub mod wire;
#[doc(hidden)]
pub mod frame;
mod error;
mod address;
mod token;
mod connection;
mod hangup;
mod exchange;
mod held;
mod flight;
mod watch;
mod process;
mod broker;
#[cfg(feature = "tokio")]
pub mod tokio;
#[cfg(any(feature = "reqwest", feature = "reqwest-blocking"))]
pub mod reqwest;

pub use broker::{Ask, Broker, DEFAULT_TIMEOUT, Status};
pub use clock::BootTime;
pub use error::Error;
pub use scope::{MAX_SCOPE_BYTES, ScopeError, ScopeSet};
pub use token::{Authorization, Token};
pub use watch::Watch;

pub use wire::{BrokerStatus, Explanation, RefusalKind, ScopeState, ScopeStatus};
