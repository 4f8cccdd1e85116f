//! A caller's connection, as a session reads and writes it.

#[cfg(not(unix))]
mod other;
#[cfg(unix)]
mod unix;

#[cfg(not(unix))]
pub(super) use other::Line;
#[cfg(unix)]
pub(super) use unix::Line;
