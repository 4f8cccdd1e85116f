//! What `domo-tokend` decides, apart from everything that carries it out. Pure: time, chance and the results of token
//! requests come in as arguments, and commands go out. The crate has no runtime, no I/O and no clock among its
//! dependencies.
//!
//! - [`masking`]: names in messages, without secrets that took their place.
//! - [`policy`]: may this caller have this token?
//! - [`token`]: one access token, encoded once, shared, wiped.
//! - [`fetch`]: what a token request results in.
//! - [`schedule`]: when one scope set's token is fetched, served or refused.
//! - [`scheduler`]: all schedules together, and what one's result means for the others.

pub mod masking;
pub mod policy;
pub mod token;
pub mod fetch;
pub mod schedule;
pub mod scheduler;
