#![doc = include_str!("../README.md")]
//!
//! # Versions
//!
//! What is named here follows semantic versioning. [`BrokerStatus`], [`ScopeStatus`], [`ScopeState`],
//! [`Explanation`] and [`RefusalKind`] are messages of the broker's, and grow with its protocol. The
//! modules that are left out of these pages are shared with the daemon and its helper, and change
//! with them.
//!
//! # The parts, leaves first
//!
//! - `clock`: the boot clock, which runs in suspend.
//! - `owner`, `pipe`, on Windows: whose a thing is; named pipes.
//! - `socket_path`: how the path of a socket is written.
//! - `error`, `stream`, `address`, `token`: why there is none, bytes by a deadline, where to ask, what
//!   comes.
//! - `connection`, `hangup`, `exchange`: one connection; how it is ended; questions and answers over
//!   whichever is free.
//! - `process_identity`: which process this is, also after a fork.
//! - `held`, `flight`: tokens in memory; requests under way, each made once.
//! - `watch`: each new token as it comes.
//! - `process`: what a process has of all this, and a forked child must not use.
//! - `broker`, and by feature `tokio` and `reqwest`: what apps see.

#[doc(hidden)]
pub mod clock;
#[cfg(windows)]
#[doc(hidden)]
pub mod owner;
#[cfg(windows)]
#[doc(hidden)]
pub mod pipe;
#[doc(hidden)]
pub mod socket_path;
mod error;
mod stream;
mod address;
mod token;
mod connection;
mod shutdown;
mod process_identity;
mod transport;
mod token_cache;
mod in_flight;
mod watch;
mod process;
mod broker;
#[cfg(feature = "tokio")]
pub mod tokio;
#[cfg(any(feature = "reqwest", feature = "reqwest-blocking"))]
pub mod reqwest;

pub use broker::{Ask, Broker, DEFAULT_TIMEOUT, Status};
pub use error::Error;
#[doc(hidden)]
pub use error::{HOST_SOCKET, SocketOrigin};
pub use token::{Authorization, Token};
pub use watch::Watch;

pub use domo_token_protocol::messages::{
    BrokerStatus, Explanation, RefusalKind, ScopeState, ScopeStatus,
};
pub use domo_token_protocol::{BootTime, MAX_SCOPE_BYTES, ScopeError, ScopeSet};
