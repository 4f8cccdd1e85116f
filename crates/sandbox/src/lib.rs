//! A server like Domo's, with its OAuth token endpoint, faults on request, and the calls of its API that jobs need: a
//! library for tests, and the program `domo-sandbox` for users without a Domo account.
//!
//! - `clock`: the only file that reads a clock.
//! - `fault`: faults of the token endpoint and of the API.
//! - `record`: the record of requests and responses.
//! - `token`: tokens that look like Domo's.
//! - `limits`: how much is stored.
//! - `api`: datasets, streams, users, groups and pages.
//! - `state`: clients, issued tokens, the script of faults, the record, and the store of the API.
//! - `body`: bodies that hang or end early.
//! - `response`: responses, and errors in Domo's form.
//! - `fault_response`: responses with faults.
//! - `token_endpoint`: the token endpoint.
//! - `resource`: the protected resources.
//! - `service`: routes requests.
//! - `no_continue`: connections without interim responses.
//! - `tls`: a certificate authority created at start.
//! - `server`: listens, on its own thread.
//! - `program`: the arguments and the output of `domo-sandbox`.
//!
//! ```
//! use domo_sandbox::{Fault, Sandbox};
//!
//! let sandbox = Sandbox::builder().client("id", "secret", &["data"]).start()?;
//! sandbox.script([Fault::status(503).retry_after("60")]);
//! println!("{}", sandbox.token_url());
//! assert_eq!(sandbox.requests().len(), 0);
//! # Ok::<(), std::io::Error>(())
//! ```
//!
//! The API has datasets, streams, users, groups and pages; `docs/testing.md` lists its calls. All state is in memory,
//! within [`Limits`]. Each call is recorded as a [`ResourceCall`]. Tokens can be revoked before they expire, by
//! [`Builder::revoke_after`], [`Sandbox::revoke`], [`Sandbox::revoke_all`] and [`Sandbox::revoke_in_upload`].
//!
//! It follows Domo's documentation and SDKs. It has not been compared with Domo itself.

#![warn(missing_docs)]

mod clock;
mod fault;
mod record;
mod token;
mod limits;
mod api;
mod state;
mod body;
mod response;
mod fault_response;
mod token_endpoint;
mod resource;
mod service;
mod no_continue;
mod tls;
mod server;
pub mod program;

pub use fault::{Fault, RejectTiming};
pub use limits::Limits;
pub use record::{Recorded, ResourceCall, TooFew};
pub use server::{Builder, Sandbox};
