//! The app of the client's README, `readme.rs`. It calls a URL from eight threads until it is stopped, and prints the
//! result of each call.
//!
//!     DOMO_TOKEN_SOCKET=… cargo run --example app -- http://127.0.0.1:8630/v1/datasets
//!
//! Apps with reqwest's default TLS do not need the code in this file: this workspace uses another TLS provider.

#![expect(clippy::print_stdout, reason = "an app prints to standard output")]

mod app {
    include!("readme.rs");

    pub(super) fn run() -> Result<(), Box<dyn std::error::Error>> {
        main()
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let provider = rustls::crypto::ring::default_provider();
    provider
        .install_default()
        .map_err(|_| "a TLS provider is already installed")?;
    app::run()
}
