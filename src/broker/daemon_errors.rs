//! Errors of the daemon, and what callers see of them: a config that is not applied, a lost socket,
//! clients that could not be loaded. The reason can contain paths and the output of a command, so only
//! root and the daemon's user see it.

use domo_token_protocol::messages::{BrokerStatus, Refusal, ScopeStatus};

use super::{Broker, State};
use crate::platform::clock::Clock;
use domo_token_core::access_policy::Caller;
use domo_token_core::scheduler::SetId;

/// What a caller can do about a client that could not be loaded.
const ASK_OPERATOR: &str = if cfg!(windows) {
    "; ask the operator to run: domo-tokend check"
} else {
    "; ask the operator to run: sudo domo-tokend check"
};

/// The most errors that one line has.
const MAX_NAMED: usize = 3;

impl<C: Clock> Broker<C> {
    /// Has status show why the config file cannot be applied; `None` once it can be again. Returns
    /// whether that changed.
    #[must_use]
    pub fn set_config_error(&self, error: Option<String>) -> bool {
        let mut state = self.state();
        let known = std::mem::replace(&mut state.config.daemon.status.config_error, error);
        known != state.config.daemon.status.config_error
    }

    /// Has status show why callers cannot connect; `None` once they can again. Returns whether that
    /// changed.
    #[must_use]
    pub fn set_socket_error(&self, error: Option<String>) -> bool {
        let mut state = self.state();
        let known = std::mem::replace(&mut state.socket_error, error);
        known != state.socket_error
    }
}

impl State {
    /// Returns the daemon's status. An error of the config may name what the caller can't see.
    pub(super) fn status_for(&self, caller: &Caller) -> BrokerStatus {
        let mut status = self.config.daemon.status.clone();
        status.fleet = self.fleet_status();
        (status.apps, status.more_apps) = self.apps_for(caller);
        if status.config_error.is_some() && self.hides_any(caller) {
            let message = "the config file is invalid; the previous config is in use";
            status.config_error = Some(message.to_owned());
        }
        status.config_error = status
            .config_error
            .or_else(|| self.load_errors_shown(caller));
        // The frame has no other field for it.
        if let Some(error) = &self.socket_error {
            let config_error = status.config_error.take();
            let others = config_error.map_or(String::new(), |config| format!("; {config}"));
            status.config_error = Some(format!("{error}{others}"));
        }
        status
    }

    /// Returns the refusal, if the set's client could not be loaded with the reason, or for callers that
    /// may not see that, with what to do.
    pub(super) fn with_load_error(&self, set: SetId, caller: &Caller, refusal: Refusal) -> Refusal {
        let Some(client) = self.scheduler.failed_client_of(set) else {
            return refusal;
        };
        let added = match self.config.daemon.load_errors.get(client) {
            _ if !caller.privileged => ASK_OPERATOR.to_owned(),
            Some(error) => format!(": {error}"),
            None => return refusal,
        };
        Refusal {
            cause: format!("{}{added}", refusal.cause),
            ..refusal
        }
    }

    /// Adds to a set's status why its client could not be loaded as the config has it.
    pub(super) fn show_load_error(&self, status: &mut ScopeStatus, caller: &Caller) {
        let Some(error) = self.config.daemon.load_errors.get(&status.client) else {
            return;
        };
        let (shown, what) = if self.config.origins.contains_key(&status.client) {
            let what = "the new credentials could not be loaded; the previous ones are in use";
            (&mut status.credentials_error, what)
        } else {
            (&mut status.last_error, "the client could not be loaded")
        };
        *shown = Some(if caller.privileged {
            format!("{what}: {error}")
        } else {
            what.to_owned()
        });
    }

    /// Returns why the fleet could not be loaded, and the clients that the caller may see and that could not be loaded
    /// or do not share their tokens, in one line.
    pub(super) fn load_errors_shown(&self, caller: &Caller) -> Option<String> {
        let shown = |(name, error): (&String, &String)| {
            if caller.privileged {
                format!("client \"{name}\" could not be loaded: {error}")
            } else {
                format!("client \"{name}\" could not be loaded")
            }
        };
        let errors = self.config.daemon.load_errors.iter();
        let errors = errors.filter(|(name, _)| self.may_see_client(name, caller));
        let not_shared = |(name, error): (&String, &String)| {
            if caller.privileged {
                format!("client \"{name}\": {error}")
            } else {
                format!("client \"{name}\" does not share its tokens")
            }
        };
        let sharing_errors = self.config.daemon.sharing_errors.iter();
        let sharing_errors = sharing_errors.filter(|(name, _)| self.may_see_client(name, caller));
        let fleet = self.config.daemon.fleet_error.iter().map(|error| {
            if caller.privileged {
                format!("fleet could not be loaded: {error}")
            } else {
                "fleet could not be loaded".to_owned()
            }
        });
        let lines = fleet.chain(errors.map(shown));
        let mut lines: Vec<String> = lines.chain(sharing_errors.map(not_shared)).collect();
        let more = lines.len().saturating_sub(MAX_NAMED);
        lines.truncate(MAX_NAMED);
        if more > 0 {
            lines.push(format!("and {more} more"));
        }
        (!lines.is_empty()).then(|| lines.join("; "))
    }
}
