//! The proxy rejects the login of the set's client (407): what its callers get until the login is tried again.

use domo_token_protocol::BootTime;

use super::{DENIED_RETRY, OutageCause, Rejected, Schedule, State};

/// A rejected proxy login.
#[derive(Clone, Debug)]
pub(super) struct LoginBlock {
    pub(super) message: String,
    /// When the proxy rejected it.
    pub(super) at: BootTime,
    /// When the login may be tried again.
    pub(super) until: BootTime,
}

impl Schedule {
    /// Applies the proxy's rejection of this request: the next one is due as soon as the login may be tried again.
    pub(super) fn login_rejected(&mut self, message: &str, now: BootTime) {
        self.state = State::Idle;
        if self.login_block(now).is_none() {
            self.set_login_block(message, now + DENIED_RETRY, now);
        }
    }

    /// Records that the proxy rejected the login, which may be tried again at `until`. The scheduler starts no request
    /// before that.
    pub fn reject_login(&mut self, message: &str, until: BootTime, now: BootTime) {
        self.set_login_block(message, until, now);
        self.report
            .mark_reported(Rejected::ProxyLogin.into(), message);
        self.report_outage(false, now);
        self.decide_all(now);
        self.notify_watchers(now);
    }

    /// Ends the rejection: the login works, was replaced, or is tried again before its time.
    pub fn accept_login(&mut self, now: BootTime) {
        self.failure
            .take_if(|failure| failure.cause == OutageCause::ProxyLogin);
        if self.login_rejection.take().is_some() {
            self.decide_all(now);
        }
    }

    /// Sets whether another request tries the login first.
    pub fn await_login_check(&mut self, waits: bool) {
        self.change.awaits_login_check = waits;
    }

    /// Marks the outage as reported, because it was reported for another scope set.
    pub fn mark_outage_reported(&mut self, now: BootTime) {
        if self.token(now).is_none() {
            self.outage_at(now, now);
        }
    }

    pub(super) fn set_login_block(&mut self, message: &str, until: BootTime, now: BootTime) {
        self.login_rejection = Some(LoginBlock {
            message: message.to_owned(),
            at: now,
            until,
        });
    }

    /// Returns whether the last error is the proxy's rejection.
    pub(super) fn is_login_rejected(&self) -> bool {
        let failure = self.failure.as_ref().map(|failure| failure.cause);
        self.login_rejection.is_some() || failure == Some(OutageCause::ProxyLogin)
    }

    /// Returns the rejection while the login may not be tried.
    pub(super) fn login_block(&self, now: BootTime) -> Option<&LoginBlock> {
        self.login_rejection
            .as_ref()
            .filter(|block| now < block.until)
    }
}
