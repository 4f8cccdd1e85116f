//! Receives each new token of a scope set while other tasks use the current one.
//!
//!     cargo run --example tokio --features testing,tokio             from a broker inside this process
//!     cargo run --example tokio --features testing,tokio -- data     from the broker of this host

#![expect(clippy::print_stdout, reason = "its result")]

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
    let (broker, scopes) = match std::env::args().nth(1) {
        Some(scopes) => (Broker::connect().await?, scopes),
        None => (Broker::from(fake.broker()), "data".to_owned()),
    };
    let mut watch = broker.watch(&scopes)?;
    let user = tokio::spawn(async move {
        let token = broker.token(&scopes).await?;
        // Domo has answered 401.
        broker.renew(&token).await
    });
    for _ in 0..2 {
        let token = watch.next().await.ok_or("the watch has ended")??;
        let left = token.expires_in().as_secs();
        println!("generation {}: valid for {left} s", token.generation());
    }
    user.await??;
    Ok(())
}
