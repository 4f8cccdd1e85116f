//! The proxy rejects the login of the set's client: what its callers get until the login is tried again.

use super::Schedule;
use crate::clock::BootTime;

/// A rejected proxy login.
#[derive(Clone, Debug)]
pub(super) struct LoginBlock {
    pub(super) words: String,
    /// When the login may be tried again.
    pub(super) until: BootTime,
}

impl Schedule {
    /// The proxy rejected the login, with this message; it may be tried again at `until`. The roster lets no
    /// request start before that.
    pub fn reject_login(&mut self, words: &str, until: BootTime, now: BootTime) {
        self.set_login_block(words, until);
        self.report.mark_login_rejected(words);
        self.report_outage(false, now);
        self.judge_all(now);
        self.announce(now);
    }

    /// The login works, is another one, or is tried again before its time.
    pub fn accept_login(&mut self, now: BootTime) {
        if self.login.take().is_some() {
            self.judge_all(now);
        }
    }

    pub(super) fn set_login_block(&mut self, words: &str, until: BootTime) {
        let words = words.to_owned();
        self.login = Some(LoginBlock { words, until });
    }

    /// The rejection, while the login may not be tried.
    pub(super) fn login_block(&self, now: BootTime) -> Option<&LoginBlock> {
        self.login.as_ref().filter(|block| now < block.until)
    }
}
