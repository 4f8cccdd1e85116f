//! The app of the client's README, `readme.rs`: calls a URL of Domo's from eight threads for as long as it runs,
//! and prints the result of each call.
//!
//!     DOMO_TOKEN_SOCKET=… cargo run --example app -- http://127.0.0.1:8630/v1/datasets
//!
//! Apps with reqwest's default TLS need none of the code around it: this workspace chooses another provider.

#![expect(clippy::print_stdout, reason = "it is what a reader would write")]

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
        .map_err(|_| "it is there already")?;
    app::run()
}
