//! The commands that run and end, beside the daemon itself.
//!
//! - [`check`]: validates the config and the credentials.
//! - [`init`]: writes a first config and secret file.

pub mod check;
pub mod init;
