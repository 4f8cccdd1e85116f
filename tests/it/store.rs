//! Real servers as the store of a fleet.

mod engines;
mod servers;
