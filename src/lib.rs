//! The daemon's parts, leaves first: each imports only from those above it.
//!
//! - [`platform`]: what the operating system provides: clock, signals, users, systemd, files, logs.
//! - [`config`]: TOML text → what was written → what is valid; every default and bound.
//! - [`flags`]: the daemon's command line.
//! - [`credentials`]: finds client id and secret.
//! - [`connect`]: connections to servers: name lookup, TCP, proxy, TLS.
//! - [`store`]: where the hosts of a fleet share tokens: a server that speaks the Redis protocol.
//! - [`source`]: where tokens come from: Domo's token endpoint over HTTP.
//! - [`load`]: loads config, credentials and sources, without running anything on them.
//! - [`audit`]: records in a file which caller was given which token when.
//! - [`broker`]: answers requests, and runs the loop that executes what the scheduler decides.
//! - [`api`]: requests and answers, independent of the protocol.
//! - [`fdstore`]: keeps tokens over a restart of the service, in systemd's file-descriptor store.
//! - [`health`]: metrics and health over HTTP, on a loopback port.
//! - [`request_head`]: parses the heads of HTTP requests, for the socket and the gateway.
//! - [`server`]: the socket: listener, peers, limits, sessions, and the adapters between protocols and the API.
//! - [`gateway`]: forwards requests of applications to Domo's API.
//! - [`daemon`]: wiring, reload, shutdown.
//! - [`commands`]: the commands `check`, `init` and `app`.
//! - `fuzzing`: what fuzzers and their tests call; not in the daemon.
//!
//! The crate `domo-token-core` decides, without I/O: schedules, scheduler, policy. A file `NAME_windows.rs`
//! is what Windows has instead of `NAME.rs`.
//!
//! `docs/architecture.md` has the picture; callers use the crate `domo-token-client`.

#![allow(
    missing_docs,
    reason = "not published: a comment says what a name does not"
)]

pub mod platform;
pub mod config;
pub mod flags;
pub mod credentials;
pub mod connect;
pub mod store;
pub mod source;
pub mod load;
pub mod audit;
pub mod broker;
pub mod api;
#[cfg_attr(windows, path = "fdstore_windows.rs")]
pub mod fdstore;
pub mod health;
pub mod request_head;
pub mod server;
pub mod gateway;
pub mod daemon;
pub mod commands;

#[cfg(all(unix, any(test, fuzzing)))]
#[doc(hidden)]
pub mod fuzzing;
