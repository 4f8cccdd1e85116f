#![doc = include_str!("../README.md")]
//!
//! # Versions
//!
//! The items documented here follow semantic versioning, and none of them is a message of the protocol.
//! Hidden items are shared with the daemon and the helper, and change with them.
//!
//! # Modules, leaves first
//!
//! - `clock`: reads the boot clock, which also runs during suspend.
//! - `windows_owner`, `pipe`, on Windows: owners of processes and pipes; constants of named pipes.
//! - `parse_socket_path`: parses the path of a socket.
//! - `error`: the error type.
//! - `stream`: a Unix socket or named pipe, with time limits.
//! - `find_broker`: finds the socket, and checks its server.
//! - `token`: the token type.
//! - `connection`: the protocol of one connection, without I/O.
//! - `blocking`, `shutdown`: drives a connection over a stream; shuts it down from another thread.
//! - `asynchronous`, by feature `tokio`: drives a connection on a runtime.
//! - `process_identity`: detects a forked child.
//! - `retry`: decides whether and when a failed attempt is repeated.
//! - `transport`: sends requests, reconnects and retries.
//! - `token_cache`, `in_flight`: cached tokens; one request for all threads that need its answer.
//! - `watch`: receives each new token.
//! - `process`: the state that a forked child must not use.
//! - `broker`, and by feature `tokio` and `reqwest`: the API.
//! - `status`: what a broker reports about itself.
//! - `queries`: the calls of both brokers about the broker itself: status, metrics, explain.
//! - `testing`, a feature: a broker inside a test.

#![warn(missing_docs)]
// On docs.rs, whose compiler is a nightly one, the documentation names the feature of each item.
#![cfg_attr(docsrs, feature(doc_cfg))]

#[doc(hidden)]
pub mod clock;
#[cfg(windows)]
#[doc(hidden)]
pub mod windows_owner;
#[cfg(windows)]
#[doc(hidden)]
pub mod pipe;
#[doc(hidden)]
pub mod parse_socket_path;
mod error;
#[cfg_attr(windows, path = "stream_windows.rs")]
mod stream;
mod find_broker;
mod token;
mod connection;
mod blocking;
#[cfg(feature = "tokio")]
mod asynchronous;
mod shutdown;
mod process_identity;
mod retry;
mod transport;
mod token_cache;
mod in_flight;
mod watch;
mod process;
mod broker;
#[cfg(feature = "tokio")]
pub mod tokio;
mod status;
mod queries;
#[cfg(any(feature = "reqwest-0-13", feature = "reqwest-0-13-blocking"))]
pub mod reqwest;
#[cfg(feature = "testing")]
pub mod testing;

pub use broker::{Broker, DEFAULT_TIMEOUT, TokenRequest};
pub use error::{Error, ErrorKind};
#[doc(hidden)]
pub use error::{ErrorDetails, HOST_SOCKET, SocketOrigin};
pub use status::{
    AppStatus, BrokerInstant, BrokerStatus, Explanation, FleetStatus, ScopeState, ScopeStatus,
    Status, TokenOrigin,
};
pub use token::{Authorization, Token};
pub use watch::Watch;
