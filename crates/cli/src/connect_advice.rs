//! The command that helps a caller that gets no answer from a broker.

#[cfg(unix)]
mod unix;
#[cfg(windows)]
mod windows;

#[cfg(unix)]
pub(crate) use unix::advice;
#[cfg(windows)]
pub(crate) use windows::advice;
