//! The gateway: applications use Domo's own SDKs with local credentials, and the daemon forwards their requests to Domo
//! with the real token.
//!
//! - `target`: checks the target of a request.
//! - `chunked`: bodies in chunks.
//! - `local_token`: the tokens of applications.
//! - `login_delay`: delays answers to failed logins.
//! - `own_response`: responses of the gateway itself.
//! - `error`: why a request is not forwarded, as a response.
//! - `token_endpoint`: token requests of applications.
//! - `head`: heads of requests.

pub mod chunked;
pub mod error;
pub mod head;
pub mod local_token;
pub mod login_delay;
pub mod own_response;
pub mod target;
pub mod token_endpoint;
