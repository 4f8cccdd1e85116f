//! A caller's connection, as a session reads and writes it.

#[cfg(unix)]
mod unix;
#[cfg(windows)]
mod windows;

#[cfg(unix)]
pub(super) use unix::{Line, last_words, read_at_once, watched};
#[cfg(windows)]
pub(super) use windows::{Line, last_words, read_at_once};
