//! The retry loop of `--wait`.

use std::time::Duration;

use domo_token_client::clock::boot_now;
use domo_token_client::{Broker, Error, Token};
use domo_token_protocol::messages::Renew;

use crate::args::Get;
use crate::connect::{connect_for, request_error};
use crate::error::CliError;

/// The pause between two attempts of `--wait` if the broker names no next attempt.
const PAUSE: Duration = Duration::from_millis(200);

/// The longest pause. The broker's next attempt may be much earlier than announced: after a change of
/// the config or of a file, or a success of another client.
const MAX_PAUSE: Duration = Duration::from_secs(1);

/// Requests a token that meets all options, and returns it with the broker that it is from.
pub(crate) fn token(get: &Get) -> Result<(Broker, Token), CliError> {
    with_retry(get, |broker| {
        let mut request = broker.request(&get.scopes);
        if let Some(least) = get.min_ttl {
            request = request.min_ttl(least);
        }
        match get.renew {
            Some(Renew::Current) => request = request.renew(),
            Some(Renew::Rejected(generation)) => request = request.rejected(generation),
            None => {}
        }
        request.send()
    })
}

/// Sends a request; with `--wait` again until the timeout.
pub(crate) fn with_retry<T>(
    get: &Get,
    send: impl Fn(&Broker) -> Result<T, Error>,
) -> Result<(Broker, T), CliError> {
    let deadline = boot_now() + get.timeout;
    let attempt = || {
        let broker = connect_for(get, deadline)?;
        let answer = send(&broker)?;
        Ok((broker, answer))
    };
    loop {
        let error: Error = match attempt() {
            Ok(answered) => return Ok(answered),
            Err(error) => error,
        };
        if !get.wait || !error.is_retryable() || boot_now() >= deadline {
            return Err(request_error(&error, get));
        }
        let wait = pause_after(error.retry_after(), fastrand::f64());
        pause(wait.min(deadline.saturating_since(boot_now())));
    }
}

/// Returns the pause before the next attempt; `jitter`, from 0 to 1, spreads callers that failed together.
fn pause_after(next_attempt: Option<Duration>, jitter: f64) -> Duration {
    match next_attempt {
        None => PAUSE,
        Some(wait) if wait < MAX_PAUSE => PAUSE.max(wait),
        Some(_) => MAX_PAUSE.mul_f64(0.75 + 0.25 * jitter),
    }
}

#[expect(clippy::disallowed_methods, reason = "there is no event to wait for")]
pub(crate) fn pause(span: Duration) {
    std::thread::sleep(span);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pause_is_the_announced_one_capped_at_one_second() {
        let millis = Duration::from_millis;
        assert_eq!(pause_after(None, 1.0), PAUSE);
        assert_eq!(pause_after(Some(millis(1)), 1.0), PAUSE);
        assert_eq!(pause_after(Some(millis(600)), 0.0), millis(600));
        for seconds in [1, 50, 3600] {
            let announced = Some(Duration::from_secs(seconds));
            assert_eq!(pause_after(announced, 0.0), millis(750));
            assert_eq!(pause_after(announced, 1.0), millis(1000));
        }
    }
}
