//! How long the answer to a failed login is delayed, so that secrets cannot be tried at full speed, and how often it is
//! logged. Pure: time is an argument. A login with correct credentials is never delayed.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::platform::clock::BootTime;

/// The delay after the first failure. It doubles with each failure.
const FIRST: Duration = Duration::from_millis(100);

/// The longest delay.
const MAX: Duration = Duration::from_secs(1);

/// The failures of a name are forgotten when this time passes without one.
const FORGET: Duration = Duration::from_secs(60);

/// The time between two log lines about a name.
const LOG_PERIOD: Duration = Duration::from_secs(60);

/// The failed logins of all applications.
#[derive(Debug, Default)]
pub struct LoginDelays {
    /// By the name of an application of the config, so that there are not more.
    apps: BTreeMap<String, Failures>,
    /// Those with any other name.
    unknown: Failures,
}

/// What happens after a failed login.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FailedLogin {
    /// How long the answer is delayed.
    pub delay: Duration,
    /// If it is logged: the failures since the last line, including this one.
    pub log: Option<u64>,
}

#[derive(Debug, Default)]
struct Failures {
    delay: Duration,
    last: Option<BootTime>,
    last_line: Option<BootTime>,
    unlogged: u64,
}

impl LoginDelays {
    /// Counts a failed login with the name of an application; `None` stands for a name that no application has.
    pub fn failed(&mut self, app: Option<&str>, now: BootTime) -> FailedLogin {
        let Some(app) = app else {
            return self.unknown.count(now);
        };
        if let Some(failures) = self.apps.get_mut(app) {
            return failures.count(now);
        }
        self.apps.entry(app.to_owned()).or_default().count(now)
    }

    /// Forgets the failures of applications that were removed from the config.
    pub fn retain(&mut self, is_app: impl Fn(&str) -> bool) {
        self.apps.retain(|app, _| is_app(app));
    }
}

impl Failures {
    fn count(&mut self, now: BootTime) -> FailedLogin {
        let passed = |since: Option<BootTime>| since.map(|since| now.saturating_since(since));
        let is_recent = passed(self.last).is_some_and(|passed| passed < FORGET);
        self.delay = if is_recent {
            (self.delay * 2).min(MAX)
        } else {
            FIRST
        };
        self.last = Some(now);
        self.unlogged = self.unlogged.saturating_add(1);
        let is_logged = passed(self.last_line).is_none_or(|passed| passed >= LOG_PERIOD);
        let log = is_logged.then(|| {
            self.last_line = Some(now);
            std::mem::take(&mut self.unlogged)
        });
        FailedLogin {
            delay: self.delay,
            log,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> BootTime {
        BootTime::from_millis(millis)
    }

    fn delays(logins: &mut LoginDelays, app: Option<&str>, times: &[u64]) -> Vec<u128> {
        let delay = |time: &u64| logins.failed(app, at(*time)).delay.as_millis();
        times.iter().map(delay).collect()
    }

    #[test]
    fn delay_doubles_up_to_a_second_and_is_reset_after_a_minute() {
        let mut logins = LoginDelays::default();
        let times = [0, 1, 2, 3, 4, 5, 60_004, 120_004];
        let expected = [100, 200, 400, 800, 1000, 1000, 1000, 100];
        assert_eq!(delays(&mut logins, Some("etl"), &times), expected);
    }

    #[test]
    fn applications_have_own_delays_and_unknown_names_share_one() {
        let mut logins = LoginDelays::default();
        assert_eq!(delays(&mut logins, Some("etl"), &[0, 0]), [100, 200]);
        assert_eq!(delays(&mut logins, Some("bi"), &[0]), [100]);
        assert_eq!(delays(&mut logins, None, &[0, 0, 0]), [100, 200, 400]);
        logins.retain(|app| app == "bi");
        assert_eq!(delays(&mut logins, Some("etl"), &[0]), [100]);
        assert_eq!(delays(&mut logins, Some("bi"), &[0]), [200]);
        assert_eq!(delays(&mut logins, None, &[0]), [800]);
        assert_eq!(logins.apps.len(), 2);
    }

    #[test]
    fn one_failure_a_minute_is_logged_with_the_number_since_the_last_line() {
        let mut logins = LoginDelays::default();
        let mut log = |app, time| logins.failed(app, at(time)).log;
        assert_eq!(log(Some("etl"), 0), Some(1));
        assert_eq!(log(Some("etl"), 1), None);
        assert_eq!(log(Some("etl"), 59_999), None);
        assert_eq!(log(None, 59_999), Some(1));
        assert_eq!(log(Some("etl"), 60_000), Some(3));
        assert_eq!(log(Some("etl"), 60_001), None);
        assert_eq!(log(Some("etl"), 500_000), Some(2));
    }
}
