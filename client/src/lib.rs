//! Client for the domo-token broker.

pub mod clock;
pub mod frame;
pub mod scope;
pub mod wire;
