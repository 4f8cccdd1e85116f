//! Logins at simulated proxies: which are right, and which must not be used now.

use std::collections::BTreeMap;

use domo_token::platform::clock::BootTime;
use domo_token_core::schedule::DENIED_RETRY;
use domo_token_core::scheduler::{LOGIN_WORKS, ProxyLoginId};

use crate::domo::Changes;

/// Logins of one host.
const OF_HOST: u64 = 4;

/// The proxy of a host to which no login is sent.
const WITHOUT_LOGIN: u64 = 3;

/// Returns the number of a host's login.
pub(crate) fn of_host(login: u64, host: usize) -> u64 {
    host as u64 * OF_HOST + login
}

fn is_limited(login: u64) -> bool {
    login % OF_HOST != WITHOUT_LOGIN
}

/// Returns the broker's id of the login.
pub(crate) fn id_of(login: u64) -> ProxyLoginId {
    if is_limited(login) {
        ProxyLoginId::new(login)
    } else {
        ProxyLoginId::without_login(login)
    }
}

/// The last result of a login.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Known {
    #[default]
    Nothing,
    /// It counts as working until then.
    Works(BootTime),
    Rejected,
}

/// One login, at one proxy.
#[derive(Default)]
struct Login {
    /// Whether the proxy rejects it.
    is_wrong: bool,
    known: Known,
    /// The request that tries it.
    trial: Option<u64>,
    /// Until when it must not be tried.
    not_before: Option<BootTime>,
    /// Whether a reload or a change lets it be tried before.
    is_excused: bool,
    changes: Changes,
}

/// All logins.
#[derive(Default)]
pub(crate) struct Logins(BTreeMap<u64, Login>);

impl Login {
    /// The login was tried once more because of a reload or a change.
    fn count(&mut self, id: u64, now: BootTime) -> Option<String> {
        if self.trial != Some(id) || !self.changes.pending {
            return None;
        }
        self.changes.starts.push(now);
        let problem = self.changes.check()?;
        Some(format!("a login was tried too often: {problem}"))
    }
}

impl Logins {
    /// Sets whether the proxy rejects the login.
    pub(crate) fn set_valid(&mut self, login: u64, valid: bool) {
        self.0.entry(login).or_default().is_wrong = !valid;
    }

    pub(crate) fn all_valid(&mut self) {
        for login in self.0.values_mut() {
            login.is_wrong = false;
        }
    }

    pub(crate) fn is_wrong(&self, login: Option<u64>) -> bool {
        self.of(login).is_some_and(|login| login.is_wrong)
    }

    /// Returns whether the proxy has rejected it.
    pub(crate) fn is_rejected(&self, login: Option<u64>) -> bool {
        self.of(login)
            .is_some_and(|login| login.known == Known::Rejected)
    }

    fn of(&self, login: Option<u64>) -> Option<&Login> {
        self.0.get(&login?)
    }

    /// A reload: a rejected login may be tried, and one that worked is tried again before all use it.
    pub(crate) fn allow_next(&mut self, host: usize) {
        let first = of_host(0, host);
        for found in self
            .0
            .range_mut(first..first + OF_HOST)
            .map(|(_, found)| found)
        {
            match found.known {
                Known::Rejected => {
                    found.is_excused = true;
                    found.changes.pending = true;
                }
                Known::Works(_) => found.known = Known::Nothing,
                Known::Nothing => {}
            }
        }
    }

    /// Returns whether it counts as working.
    pub(crate) fn works(&self, login: Option<u64>, now: BootTime) -> bool {
        let known = self.of(login).map(|login| login.known);
        matches!(known, Some(Known::Works(until)) if now < until)
    }

    /// A request with that login is sent by a fetch, at whose start it worked or not.
    pub(crate) fn start(
        &mut self,
        login: Option<u64>,
        id: u64,
        worked: bool,
        now: BootTime,
    ) -> Option<String> {
        let number = login?;
        if worked {
            return None;
        }
        let login = self.0.entry(number).or_default();
        let is_limited = is_limited(number);
        if let Some(trial) = login.trial.replace(id).filter(|_| is_limited) {
            return Some(format!("requests {trial} and {id} try a login together"));
        }
        if std::mem::take(&mut login.is_excused) {
            login.not_before = None;
        }
        // A request that is due at the time of the rejection may start before it.
        let is_early = |until: &BootTime| now < *until && now > *until - DENIED_RETRY;
        let until = login.not_before.filter(is_early)?;
        Some(format!("a rejected login was tried before {until}"))
    }

    /// The request has opened a tunnel.
    pub(crate) fn opened(&mut self, login: Option<u64>, now: BootTime) {
        let login = login.and_then(|login| self.0.get_mut(&login));
        if let Some(login) = login {
            login.known = Known::Works(now + LOGIN_WORKS);
            login.trial = None;
            login.not_before = None;
            login.is_excused = false;
            login.changes.pending = false;
        }
    }

    /// The request has failed for another reason than the login.
    pub(crate) fn failed_otherwise(&mut self, login: Option<u64>) {
        let login = login.and_then(|login| self.0.get_mut(&login));
        if let Some(login) = login.filter(|login| login.known == Known::Rejected) {
            login.known = Known::Nothing;
            login.changes.pending = false;
        }
    }

    /// The proxy has rejected the request.
    pub(crate) fn rejected(
        &mut self,
        login: Option<u64>,
        id: u64,
        now: BootTime,
    ) -> Option<String> {
        let login = self.0.get_mut(&login?)?;
        let problem = login.count(id, now);
        login.known = Known::Rejected;
        login.not_before = Some(now + DENIED_RETRY);
        login.is_excused = false;
        login.changes.pending = false;
        login.trial = None;
        problem
    }

    /// The request was aborted: the proxy may have rejected its login.
    pub(crate) fn aborted(&mut self, login: Option<u64>, id: u64, now: BootTime) -> Option<String> {
        let login = login.filter(|login| is_limited(*login))?;
        self.0.get_mut(&login)?.count(id, now)
    }

    /// The request has ended.
    pub(crate) fn ended(&mut self, login: Option<u64>, id: u64) {
        let login = login.and_then(|login| self.0.get_mut(&login));
        if let Some(login) = login {
            login.trial.take_if(|trial| *trial == id);
        }
    }
}
