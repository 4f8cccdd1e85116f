//! Applications that call Domo through the gateway of a daemon: Domo's SDKs, and requests as bytes.

mod certificate;
mod refusals;
mod renewal;
mod sdks;
mod secrecy;
mod soak;
