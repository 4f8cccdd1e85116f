//! A store on a server that speaks the Redis protocol.

mod settings;

pub use settings::{Address, ClientIdentity, Login, Place, Settings, TlsSettings};
