//! The commands that run and end, beside the daemon itself.
//!
//! - [`check`]: validates the config and the credentials.
//! - [`init`]: writes a first config and secret file.
//! - [`app`]: creates and removes the secrets of the gateway's applications.
//! - `new_file`: creates and replaces files.

pub mod app;
pub mod check;
pub mod init;
mod new_file;
