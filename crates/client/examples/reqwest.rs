//! Calls an API with a token. The first token is rejected, so the request is sent again with another one.
//!
//!     cargo run --example reqwest --features testing,reqwest-0-13
//!         from a broker inside this process, to a server in it
//!     cargo run --example reqwest --features testing,reqwest-0-13 -- data http://127.0.0.1:8630/v1/datasets
//!         from the broker of this host, to that URL; https needs one of reqwest's TLS features, which an app chooses

#![expect(clippy::print_stdout, reason = "its result")]

mod fake_domo;

use domo_token_client::reqwest::Authorizer;
use domo_token_client::testing::FakeBroker;
use domo_token_client::tokio::Broker;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    // An app has `#[tokio::main]`.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(run())
}

async fn run() -> Result<(), Box<dyn std::error::Error>> {
    let fake = FakeBroker::start()?;
    fake.grant("data", fake_domo::REJECTED);
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (broker, scopes, url) = match &arguments[..] {
        [scopes, url] => (Broker::connect().await?, scopes.as_str(), url.clone()),
        [] => (Broker::from(fake.broker()), "data", fake_domo::start()?),
        _ => return Err("usage: reqwest [SCOPES URL]".into()),
    };
    let domo = Authorizer::new(&broker, scopes)?;
    let http = reqwest::Client::builder().no_proxy().build()?;
    let response = domo.send(http.get(url)).await?;
    println!("{}", response.status());
    Ok(())
}
