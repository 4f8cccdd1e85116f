//! The app of the README: calls a URL of Domo's from eight threads, and says how each call went.
//!
//!     cargo run --features reqwest-blocking --example datasets -- URL

#![expect(clippy::print_stdout, reason = "it is what a reader would write")]

use domo_token_client::{Broker, reqwest::blocking::Authorizer};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let domo = Authorizer::new(&Broker::connect()?, "data")?;
    let http = reqwest::blocking::Client::new();
    let url = std::env::args().nth(1).ok_or("which URL?")?;
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                loop {
                    println!(
                        "{:?}",
                        domo.send(http.get(&url)).map(|answer| answer.status())
                    );
                }
            });
        }
    });
    Ok(())
}
