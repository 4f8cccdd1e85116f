//! Asks the broker, as long and as often as was said.

use std::path::Path;
use std::time::Duration;

use domo_token_client::clock::boot_now;
use domo_token_client::{Broker, DEFAULT_TIMEOUT, Error, Token};
use domo_token_protocol::BootTime;
use domo_token_protocol::messages::Renew;

use crate::args::{ExecInstead, Get};
use crate::error::CliError;

/// The pause between two attempts of `--wait` if the broker names no next attempt.
const PAUSE: Duration = Duration::from_millis(200);

/// The longest pause. The broker's next attempt may come much earlier than it announced: after a
/// change of the config or of a file, or a success of another client.
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// Connects for a question to which no time was set.
pub(crate) fn connect(socket: Option<&Path>) -> Result<Broker, Error> {
    Broker::connect_by(boot_now() + DEFAULT_TIMEOUT, socket)
}

/// A token with all that was asked for, and the broker that it is from.
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

/// Asks until the time is up if that was said, else once.
pub(crate) fn with_retry<T>(
    get: &Get,
    ask: impl Fn(&Broker) -> Result<T, Error>,
) -> Result<(Broker, T), CliError> {
    let deadline = boot_now() + get.timeout;
    loop {
        let error = match once(get, deadline, &ask) {
            Ok(answered) => return Ok(answered),
            Err(error) => error,
        };
        if !get.wait || !error.is_temporary() || boot_now() >= deadline {
            return Err(problem(&error, get));
        }
        let rest = pause_after(next_attempt(&error), fastrand::f64());
        pause(rest.min(deadline.saturating_since(boot_now())));
    }
}

/// What an error means to a caller that asked for this, and that it did not name the client itself.
fn problem(error: &Error, get: &Get) -> CliError {
    let problem = CliError::of(error, &get.scopes);
    let (Error::Unknown { cause, .. } | Error::NotPermitted { cause, .. }) = error else {
        return problem;
    };
    let exec = get.exec_instead.as_ref();
    let problem = match exec.and_then(ExecInstead::advice) {
        Some(advice) => problem.with_suffix(&advice),
        None => problem,
    };
    match get.client.as_ref().filter(|_| get.is_client_variable) {
        Some(client) if cause.contains(&format!("client {client:?}")) => {
            problem.with_prefix(&format!("$DOMO_TOKEN_CLIENT is {client:?}: "))
        }
        Some(_) | None => problem,
    }
}

fn once<T>(
    get: &Get,
    deadline: BootTime,
    ask: &impl Fn(&Broker) -> Result<T, Error>,
) -> Result<(Broker, T), Error> {
    let broker = Broker::connect_by(deadline, get.socket.as_deref())?;
    let broker = match &get.client {
        Some(name) => broker.with_client(name),
        None => broker,
    };
    let answer = ask(&broker)?;
    Ok((broker, answer))
}

/// The time until the broker's next attempt, if it names one.
fn next_attempt(error: &Error) -> Option<Duration> {
    if let Error::TryLater { next_attempt, .. } = error {
        return *next_attempt;
    }
    None
}

/// The pause before the next question; `chance` is from 0 to 1 and spreads callers that failed together.
fn pause_after(next_attempt: Option<Duration>, chance: f64) -> Duration {
    match next_attempt {
        None => PAUSE,
        Some(wait) if wait < PAUSE_MAX => PAUSE.max(wait),
        Some(_) => PAUSE_MAX.mul_f64(0.75 + 0.25 * chance),
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "neither a broker that isn't there nor its state can be waited for"
)]
pub(crate) fn pause(span: Duration) {
    std::thread::sleep(span);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pause_is_the_announced_one_but_a_second_at_most() {
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
