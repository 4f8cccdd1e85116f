//! The byte stream of a connection, with time limits: a Unix socket, or a named pipe on Windows.

#[cfg(unix)]
mod unix;
#[cfg(windows)]
mod windows;

#[cfg(unix)]
pub(crate) use unix::Stream;
#[cfg(windows)]
pub(crate) use windows::Stream;
