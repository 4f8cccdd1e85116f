//! A caller's connection, as a session reads and writes it.

#[cfg(unix)]
mod unix;
#[cfg(windows)]
mod windows;

#[cfg(unix)]
pub(super) use unix::{CallerStream, read_at_once, watched, write_final};
#[cfg(windows)]
pub(super) use windows::{CallerStream, read_at_once, write_final};
