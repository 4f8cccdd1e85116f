#![doc = include_str!("../README.md")]
//!
//! # Modules
//!
//! - [`boot_time`]: a moment on the boot clock.
//! - [`duration`]: durations such as `1h30m`.
//! - [`scope`]: scope sets.
//! - [`messages`]: requests and responses.
//! - [`frame`]: messages as bytes.
//! - [`versions`]: responses in older protocol versions.
//! - [`greeting`]: what each side sends first.
//! - [`json`]: the JSON of the helper's output and of HTTP.

#![warn(missing_docs)]

pub mod boot_time;
pub mod duration;
pub mod scope;
pub mod messages;
pub mod frame;
pub mod versions;
pub mod greeting;
pub mod json;

pub use boot_time::BootTime;
pub use scope::{DOMO_SCOPE_NAMES, DOMO_SCOPES, MAX_SCOPE_BYTES, ScopeError, ScopeSet};
