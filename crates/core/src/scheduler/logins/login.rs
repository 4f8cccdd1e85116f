//! One login at a proxy: what is known of it.

use std::collections::VecDeque;
use std::time::Duration;

use crate::schedule::ChangeLimit;
use crate::scheduler::{ClientId, SetId};
use domo_token_protocol::BootTime;

/// For how long after it has opened a tunnel a login counts as working: long enough for all requests that
/// begin together, and a password that has changed meanwhile is found out by one request.
pub const LOGIN_WORKS: Duration = Duration::from_secs(60);

/// Identifies a proxy together with the login that is sent to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProxyLoginId {
    number: u64,
    /// Whether a login is sent, so that an account can be locked.
    has_login: bool,
}

impl ProxyLoginId {
    /// Two are the same login if their numbers are.
    #[must_use]
    pub const fn new(number: u64) -> Self {
        Self {
            number,
            has_login: true,
        }
    }

    /// The proxy of that number, to which no login is sent.
    #[must_use]
    pub const fn without_login(number: u64) -> Self {
        Self {
            number,
            has_login: false,
        }
    }
}

/// What is known of a login.
#[derive(Debug)]
pub(in crate::scheduler) struct Login {
    /// Whether an account can be locked.
    pub(super) is_limited: bool,
    /// Until when it counts as working.
    pub(super) works_until: Option<BootTime>,
    /// The scope set whose request tries it.
    pub(super) tried_by: Option<SetId>,
    /// When it may be tried, if not now.
    pub(super) not_before: Option<BootTime>,
    /// What the proxy answered when it rejected the login last.
    pub(super) rejection: Option<String>,
    /// How often config changes and reloads have had it rejected again.
    pub(super) changes: ChangeLimit,
    /// Whether they are why it is tried next.
    pub(super) is_changed: bool,
    /// Clients that wait until it may be used.
    pub(super) waiting: VecDeque<ClientId>,
    /// When it was last reported that callers fail because the proxy rejects it.
    pub(super) outage_reported: Option<BootTime>,
}

impl Login {
    pub(super) fn new(id: ProxyLoginId) -> Self {
        Self {
            is_limited: id.has_login,
            works_until: None,
            tried_by: None,
            not_before: None,
            rejection: None,
            changes: ChangeLimit::default(),
            is_changed: false,
            waiting: VecDeque::new(),
            outage_reported: None,
        }
    }

    /// Whether it may not be used because the proxy rejected it.
    pub(super) fn is_rejected(&self) -> bool {
        self.rejection.is_some() && self.not_before.is_some()
    }

    /// Whether the next request tries it, and the others wait until that one has opened a tunnel or ended.
    pub(super) fn is_tried_next(&self, now: BootTime) -> bool {
        self.is_limited && self.works_until.is_none_or(|until| until <= now)
    }

    /// Whether a request may start.
    pub(super) fn is_open(&self, now: BootTime) -> bool {
        let is_free = self.tried_by.is_none() || !self.is_tried_next(now);
        is_free && self.not_before.is_none()
    }
}
