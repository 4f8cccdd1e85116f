//! What follows a failed attempt to connect or to send a request: an error, or another attempt after a
//! pause. Reads no clock and does not wait, so that all drivers share it.

use std::hash::{BuildHasher, RandomState};
use std::io;
use std::time::Duration;

use crate::clock::BootTime;
use crate::connection::{Connection, Failure};
use crate::error::Error;
use crate::find_broker::Target;
use domo_token_protocol::messages::VERSION;

/// How long a first connection is retried while the socket refuses: as long as a restart takes.
const RESTART_TIME: Duration = Duration::from_secs(1);

/// The broker answers by the deadline; a call is cancelled this much later.
pub(crate) const GRACE: Duration = Duration::from_millis(200);

/// How long connecting is retried, within the deadline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RetryPolicy {
    /// While the socket does not exist.
    missing: Duration,
    /// While the socket refuses connections.
    refusing: Duration,
}

impl RetryPolicy {
    /// No retries.
    pub(crate) const NONE: Self = Self {
        missing: Duration::ZERO,
        refusing: Duration::ZERO,
    };

    /// Before the first connection: there may be no broker at all.
    pub(crate) const FIRST: Self = Self {
        missing: Duration::ZERO,
        refusing: RESTART_TIME,
    };

    /// After a connection: the broker is restarting.
    pub(crate) const RECONNECT: Self = Self {
        missing: Duration::MAX,
        refusing: Duration::MAX,
    };

    /// Returns the policy before the first connection.
    pub(crate) fn before_first(self) -> Self {
        Self {
            missing: self.missing.min(Self::FIRST.missing),
            refusing: self.refusing.min(Self::FIRST.refusing),
        }
    }

    /// Returns for how long an error of this kind is retried, if it is.
    fn duration_for(self, kind: io::ErrorKind) -> Option<Duration> {
        if kind == io::ErrorKind::NotFound {
            Some(self.missing)
        } else if kind == io::ErrorKind::ConnectionRefused {
            Some(self.refusing)
        } else {
            // The backlog is full: the broker runs and is busy.
            (kind == io::ErrorKind::WouldBlock).then_some(Duration::MAX)
        }
    }
}

/// What a driver does after a failed attempt.
#[derive(Debug)]
pub(crate) enum Decision {
    /// It returns the error.
    Fail(Error),
    /// It tries again after this pause, which may be zero.
    Retry(Duration),
}

/// The attempts to connect for one request or watch.
pub(crate) struct ConnectAttempts {
    start: BootTime,
    deadline: BootTime,
    retry: RetryPolicy,
    backoff: Backoff,
}

impl ConnectAttempts {
    /// Returns those that begin at `start`, and last for as long as `retry` and the deadline allow.
    pub(crate) fn new(start: BootTime, deadline: BootTime, retry: RetryPolicy) -> Self {
        Self {
            start,
            deadline,
            retry,
            backoff: Backoff::default(),
        }
    }

    /// Decides after an attempt to connect to `target` that failed by `now`.
    pub(crate) fn failed(&mut self, error: io::Error, target: &Target, now: BootTime) -> Decision {
        let kind = error.kind();
        let Some(wait) = self.retry.duration_for(kind) else {
            return Decision::Fail(target.error(error));
        };
        let until = self.deadline.min(self.start + wait);
        let pause = self.backoff.next();
        if now + pause < until {
            return Decision::Retry(pause);
        }
        if kind == io::ErrorKind::WouldBlock {
            let busy = Error::busy("the broker is too busy to take a connection");
            return Decision::Fail(busy.without_greeting(&target.path));
        }
        Decision::Fail(target.error(error))
    }
}

/// The attempts to get the response to one request.
pub(crate) struct RequestAttempts {
    deadline: BootTime,
    /// The broker's last answer that it is busy.
    busy: Option<Error>,
    /// The protocol version of the next connection.
    version: u8,
    backoff: Backoff,
}

impl RequestAttempts {
    /// Returns those that last until `deadline`.
    pub(crate) fn new(deadline: BootTime) -> Self {
        Self {
            deadline,
            busy: None,
            version: VERSION,
            backoff: Backoff::default(),
        }
    }

    /// Returns the protocol version of the next connection.
    pub(crate) fn version(&self) -> u8 {
        self.version
    }

    /// Returns the error of a request for which connecting failed. If the broker answered "busy" and has stopped
    /// since, that answer explains more.
    pub(crate) fn not_connected(self, error: Error) -> Error {
        self.busy.unwrap_or(error)
    }

    /// Decides after an attempt that failed by `now`, over a new connection or one that was idle.
    pub(crate) fn failed(&mut self, error: AttemptError, is_new: bool, now: BootTime) -> Decision {
        let error = match error {
            AttemptError::Lost(_) if !is_new => return Decision::Retry(Duration::ZERO),
            AttemptError::OlderVersion(theirs) => {
                self.version = theirs;
                return Decision::Retry(Duration::ZERO);
            }
            AttemptError::Refused(error) | AttemptError::Final(error) => {
                return Decision::Fail(error);
            }
            AttemptError::Lost(error) => error,
            AttemptError::Busy(error) => {
                self.busy = Some(error.clone());
                error
            }
        };
        let pause = self.backoff.next();
        if now + pause < self.deadline {
            return Decision::Retry(pause);
        }
        Decision::Fail(self.busy.take().unwrap_or(error))
    }
}

/// Why an attempt has no response.
#[derive(Debug)]
pub(crate) enum AttemptError {
    /// The connection ended.
    Lost(Error),
    /// The broker speaks only versions up to this one.
    OlderVersion(u8),
    /// The broker refused the request. Its connection can be used again.
    Refused(Error),
    /// The broker was busy.
    Busy(Error),
    /// Another attempt would fail, too.
    Final(Error),
}

impl AttemptError {
    /// Returns what a failure of this connection means.
    pub(crate) fn of(failure: Failure, connection: &Connection) -> Self {
        if let Failure::OlderVersion(theirs) = failure {
            return Self::OlderVersion(theirs);
        }
        let is_lost = matches!(failure, Failure::Lost);
        let error = connection.error(failure);
        if is_lost {
            return Self::Lost(error);
        }
        Self::Final(error)
    }
}

/// The pauses between retries: random, so that callers do not all reconnect at the same time after a
/// restart, and growing.
#[derive(Default)]
pub(crate) struct Backoff(u32);

impl Backoff {
    /// Returns the next pause: 10 to 50 ms at first, 40 to 200 ms from the third on.
    pub(crate) fn next(&mut self) -> Duration {
        const MAX_DOUBLINGS: u32 = 2;
        let random = RandomState::new().hash_one(0_u8);
        let pause = Duration::from_millis(10 + random % 40) * (1 << self.0);
        self.0 = MAX_DOUBLINGS.min(self.0 + 1);
        pause
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::find_broker::Address;
    use std::path::Path;

    const LONG: Duration = Duration::from_secs(60);

    fn at(millis: u64) -> BootTime {
        BootTime::from_millis(millis)
    }

    /// Returns whether connecting is tried again after such an error, `after` it began.
    fn connects_again(retry: RetryPolicy, kind: io::ErrorKind, after: Duration) -> bool {
        let target = Address::named(Path::new("/nonexistent/broker.sock")).target();
        let start = at(1000);
        let mut attempts = ConnectAttempts::new(start, start + LONG, retry);
        match attempts.failed(kind.into(), &target, start + after) {
            Decision::Retry(pause) => !pause.is_zero(),
            Decision::Fail(_) => false,
        }
    }

    #[test]
    fn missing_and_refusing_sockets_are_retried_by_the_policy() {
        use io::ErrorKind::{ConnectionRefused, NotFound, PermissionDenied, WouldBlock};
        let now = Duration::ZERO;
        assert!(!connects_again(RetryPolicy::FIRST, NotFound, now));
        assert!(connects_again(RetryPolicy::FIRST, ConnectionRefused, now));
        let later = RESTART_TIME;
        assert!(!connects_again(
            RetryPolicy::FIRST,
            ConnectionRefused,
            later
        ));
        for kind in [NotFound, ConnectionRefused] {
            assert!(connects_again(RetryPolicy::RECONNECT, kind, LONG / 2));
            assert!(!connects_again(RetryPolicy::RECONNECT, kind, LONG));
            assert!(!connects_again(RetryPolicy::NONE, kind, now));
        }
        for policy in [
            RetryPolicy::NONE,
            RetryPolicy::FIRST,
            RetryPolicy::RECONNECT,
        ] {
            assert!(connects_again(policy, WouldBlock, LONG / 2));
            assert!(!connects_again(policy, PermissionDenied, now));
        }
    }

    fn retries(decision: Decision) -> Result<Duration, String> {
        match decision {
            Decision::Retry(pause) => Ok(pause),
            Decision::Fail(error) => Err(error.to_string()),
        }
    }

    #[test]
    fn lost_request_is_sent_again_until_the_deadline() {
        let (start, end) = (at(1000), at(1000) + LONG);
        let mut attempts = RequestAttempts::new(end);
        let lost = || AttemptError::Lost(Error::later("lost"));
        let mut failed = |error, is_new, now| retries(attempts.failed(error, is_new, now));
        assert_eq!(failed(lost(), false, start), Ok(Duration::ZERO));
        assert!(failed(lost(), true, start).is_ok_and(|pause| !pause.is_zero()));
        assert_eq!(failed(lost(), true, end), Err("lost".to_owned()));
        let busy = AttemptError::Busy(Error::busy("busy"));
        assert!(failed(busy, true, start).is_ok_and(|pause| !pause.is_zero()));
        assert_eq!(failed(lost(), true, end), Err("busy".to_owned()));
    }

    #[test]
    fn busy_answer_outlasts_a_failed_connection() {
        let mut attempts = RequestAttempts::new(at(1000) + LONG);
        let busy = AttemptError::Busy(Error::busy("busy"));
        assert!(retries(attempts.failed(busy, true, at(1000))).is_ok());
        let error = attempts.not_connected(Error::later("no socket"));
        assert_eq!(error.to_string(), "busy");
        let attempts = RequestAttempts::new(at(1000));
        let error = attempts.not_connected(Error::later("no socket"));
        assert_eq!(error.to_string(), "no socket");
    }

    #[test]
    fn older_version_is_spoken_immediately_and_a_refusal_is_final() {
        let mut attempts = RequestAttempts::new(at(1000) + LONG);
        assert_eq!(attempts.version(), VERSION);
        let older = AttemptError::OlderVersion(1);
        let decision = attempts.failed(older, true, at(1000));
        assert_eq!(retries(decision), Ok(Duration::ZERO));
        assert_eq!(attempts.version(), 1);
        for error in [
            AttemptError::Refused(Error::later("final")),
            AttemptError::Final(Error::later("final")),
        ] {
            let decision = attempts.failed(error, false, at(1000));
            assert_eq!(retries(decision), Err("final".to_owned()));
        }
    }
}
