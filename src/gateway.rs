//! The gateway: applications use Domo's own SDKs with local credentials, and the daemon forwards their requests to Domo
//! with the real token.
//!
//! - `target`: checks the target of a request.
//! - `chunked`: bodies in chunks.
//! - `local_token`: the tokens of applications.
//! - `login_delay`: delays answers to failed logins.

pub mod chunked;
pub mod local_token;
pub mod login_delay;
pub mod target;
