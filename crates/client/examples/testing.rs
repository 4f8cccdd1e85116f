//! An app with its unit tests, which need no daemon.
//!
//!     cargo test --example testing --features testing     runs its tests
//!     cargo run --example testing --features testing      runs it with the broker of this host

#![expect(clippy::print_stdout, reason = "its result")]

use domo_token_client::{Broker, Error, ErrorKind};

/// Returns what the app prints.
fn report(broker: &Broker) -> Result<String, Error> {
    match broker.token("data") {
        Ok(token) => Ok(format!("a token with scopes {}", token.scope())),
        Err(error) if error.kind() == ErrorKind::Rejected => {
            Ok("Domo rejects our client; ask its administrator".to_owned())
        }
        Err(error) => Err(error),
    }
}

fn main() -> Result<(), Error> {
    println!("{}", report(&Broker::connect()?)?);
    Ok(())
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;
    use domo_token_client::testing::FakeBroker;

    #[test]
    fn report_names_the_scopes_and_requests_one_token() {
        let fake = FakeBroker::start().unwrap();
        let broker = fake.broker();
        for _ in 0..3 {
            assert_eq!(report(&broker).unwrap(), "a token with scopes data");
        }
        assert_eq!(fake.requests(), 1);
    }

    #[test]
    fn report_of_a_rejected_client_has_advice() {
        let fake = FakeBroker::start().unwrap();
        fake.fail("data", ErrorKind::Rejected);
        assert!(report(&fake.broker()).unwrap().contains("administrator"));
    }

    #[test]
    fn report_without_a_broker_is_an_error() {
        let fake = FakeBroker::start().unwrap();
        let broker = fake
            .broker()
            .with_timeout(std::time::Duration::from_millis(10));
        fake.stop();
        assert_eq!(report(&broker).unwrap_err().kind(), ErrorKind::NotRunning);
    }
}
