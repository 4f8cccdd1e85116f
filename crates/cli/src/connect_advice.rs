//! Suggests the command that helps a caller that cannot reach a broker.

#[cfg(unix)]
mod unix;
#[cfg(windows)]
mod windows;

#[cfg(unix)]
pub(crate) use unix::advice;
#[cfg(windows)]
pub(crate) use windows::advice;
