//! The daemon's parts, leaves first: each imports only from those above it.
//!
//! - [`clock`]: the boot clock, and waiting on it; the only file that reads a clock.
//! - [`logging`]: log lines to standard error.
//! - [`children`]: the processes of secret commands, and as PID 1 orphans.
//! - [`signals`]: signals as messages.
//! - [`threads`]: jobs that block, each on a thread of its own.
//! - [`watch`]: notices that files change.
//! - [`systemd`]: what systemd hears of the service.
//! - [`hygiene`]: what keeps the memory closed.
//! - [`descriptors`]: the limit on open descriptors.
//! - `file_mode`: files and directories with the mode asked for, on Unix.
//! - [`users`]: the user database.
//! - `acl`: access lists of files, on Windows.
//! - [`flags`]: what the daemon can be told on its command line.
//! - [`config`]: TOML text → what was written → what is true; every default and bound.
//! - [`credentials`]: finds client id and secret.
//! - [`connect`]: connections to servers: name lookup, TCP, proxy, TLS.
//! - [`source`]: the border to the outside world, and Domo's token endpoint over HTTP.
//! - [`audit`]: who was given which token when, in a file.
//! - [`broker`]: the face for sessions, and the loop that carries out what the scheduler decides.
//! - [`keep`]: tokens over a restart of the service.
//! - [`health`]: metrics and health over HTTP, for this machine alone.
//! - [`ipc`]: the door: socket, sessions, who is the peer.
//! - [`daemon`]: wiring, loading of clients, reload, and an orderly end.
//! - [`check`]: whether config and credentials would do.
//! - [`init`]: a first config and secret file.
//! - `fuzzing`: what fuzzers call; not there otherwise.
//!
//! What Windows has instead of a module stands in `windows/`.
//!
//! `docs/architecture.md` has the picture; callers use the crate `domo-token-client`.

pub mod clock;
pub mod logging;
pub mod children;
#[cfg_attr(windows, path = "windows/signals.rs")]
pub mod signals;
pub mod threads;
pub mod watch;
#[cfg_attr(windows, path = "windows/systemd.rs")]
pub mod systemd;
#[cfg_attr(windows, path = "windows/hygiene.rs")]
pub mod hygiene;
#[cfg_attr(windows, path = "windows/descriptors.rs")]
pub mod descriptors;
#[cfg(unix)]
pub mod file_mode;
#[cfg_attr(windows, path = "windows/users.rs")]
pub mod users;
#[cfg(windows)]
#[path = "windows/acl.rs"]
pub mod acl;
pub mod flags;

pub mod config;
pub mod credentials;
pub mod connect;
pub mod source;
pub mod audit;
pub mod broker;
#[cfg_attr(windows, path = "windows/keep.rs")]
pub mod keep;
pub mod health;
pub mod ipc;
pub mod daemon;
pub mod check;
pub mod init;

#[cfg(all(unix, any(test, fuzzing)))]
#[doc(hidden)]
pub mod fuzzing;
