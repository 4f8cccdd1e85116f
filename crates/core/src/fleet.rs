//! What one fetch does where hosts share tokens through a store, and the records that they share. Pure: answers of the
//! store, times and random numbers are arguments, and steps are results.
//!
//! - `records`: the token and the note of a failure, as they are sealed.

mod records;

pub use records::{HostId, NoteRecord, NotedFailure, TokenRecord};
