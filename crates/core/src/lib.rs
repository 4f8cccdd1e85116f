//! The decisions of `domo-tokend`, without their effects. Pure: time, random numbers and the results of token requests
//! are arguments, and commands are results. The crate has no runtime, no I/O and no clock among its dependencies.
//!
//! - [`masking`]: names in messages; secrets in their place are masked.
//! - [`access_policy`]: access tables: may this caller have this token?
//! - [`api_rules`]: which scopes a request to Domo's API needs.
//! - [`token`]: one access token, encoded once, shared, wiped.
//! - [`fetch_result`]: the result of a token request.
//! - [`fetch`]: one fetch of a token: what it is for, and how it ends.
//! - [`schedule`]: when one scope set's token is requested, served or refused.
//! - [`scheduler`]: all schedules together, and what one's result means for the others.
//! - [`fleet`]: what one fetch does where hosts share tokens, and the records that they share.

pub mod masking;
pub mod access_policy;
pub mod api_rules;
pub mod token;
pub mod fetch_result;
pub mod fetch;
pub mod schedule;
pub mod scheduler;
pub mod fleet;
