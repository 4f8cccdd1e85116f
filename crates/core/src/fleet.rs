//! What one fetch does where hosts share tokens through a store, and the records that they share. Pure: answers of the
//! store, times and random numbers are arguments, and steps are results.
//!
//! - `records`: the token and the note of a failure, as they are sealed.
//! - `clocks`: when a record's token expires on this host's clock.
//! - `timing`: leases, waits and the renewal, each with its reason.
//! - `breaker`: how long the store is not used after a failure.
//! - `notes`: which failures hosts share, and which of them bind others.
//! - `memory`: what is kept of a scope set between two fetches.
//! - `fetch`: one fetch.

mod records;
mod clocks;
mod timing;
mod breaker;
mod notes;
mod memory;
mod fetch;
#[cfg(test)]
mod document;

pub use breaker::Breaker;
pub use clocks::StoreTime;
pub use fetch::{End, FleetFetch, Looked, ObtainedToken, Publication, Step, StoreFailed};
pub use memory::SetMemory;
pub use notes::{MAX_NOTE_MESSAGE, NOTE_MAX, Report};
pub use records::{HostId, NoteRecord, NotedFailure, TokenRecord};
pub use timing::{EXTEND_EVERY, HURRY, LEASE, is_shared};
