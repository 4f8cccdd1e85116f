//! What the operating system provides, leaves first: each imports only from those above it.
//!
//! - [`clock`]: the boot clock, and sleeping on it; nothing else reads a clock.
//! - [`logging`]: log lines to standard error or the journal.
//! - [`child_processes`]: the processes of secret commands, and as PID 1 orphans.
//! - [`signals`]: signals as messages.
//! - [`threads`]: jobs that block, each on its own thread.
//! - `symlink_chain`: follows the symlinks in a path.
//! - [`file_watch`]: notices that files change.
//! - [`systemd`]: notifications to systemd, the watchdog, and the descriptors that systemd passes and stores.
//! - [`process_hardening`]: disables core dumps and ptrace.
//! - [`descriptors`]: the limit on open descriptors.
//! - `file_mode`: creates files and directories with a given mode, on Unix.
//! - [`users`]: the user database.
//! - `acl`: access lists of files, on Windows.

pub mod clock;
pub mod logging;
pub mod child_processes;
#[cfg_attr(windows, path = "platform/signals_windows.rs")]
pub mod signals;
pub mod threads;
pub mod symlink_chain;
pub mod file_watch;
#[cfg_attr(windows, path = "platform/systemd_windows.rs")]
pub mod systemd;
#[cfg_attr(windows, path = "platform/process_hardening_windows.rs")]
pub mod process_hardening;
#[cfg_attr(windows, path = "platform/descriptors_windows.rs")]
pub mod descriptors;
#[cfg(unix)]
pub mod file_mode;
#[cfg_attr(windows, path = "platform/users_windows.rs")]
pub mod users;
#[cfg(windows)]
pub mod acl;
