//! Requests a token twice and prints how long it is valid. The second call is a lookup in memory.
//!
//!     cargo run --example blocking --features testing             from a broker inside this process
//!     cargo run --example blocking --features testing -- data     from the broker of this host

#![expect(clippy::print_stdout, reason = "its result")]

use domo_token_client::Broker;
use domo_token_client::testing::FakeBroker;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let fake = FakeBroker::start()?;
    let (broker, scopes) = match std::env::args().nth(1) {
        Some(scopes) => (Broker::connect()?, scopes),
        None => (fake.broker(), "data".to_owned()),
    };
    for _ in 0..2 {
        let token = broker.token(&scopes)?;
        let left = token.expires_in().as_secs();
        println!("{}: valid for {left} s", token.scope());
    }
    Ok(())
}
