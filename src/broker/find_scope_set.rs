//! Finds the scope set that a request is about, and whether the caller may have it. Policy comes before
//! existence: a caller that an access table denies gets the same message whether or not there is such a
//! set.

use std::borrow::Cow;

use domo_token_protocol::messages::{
    Explanation, NO_CLIENT_GIVEN, Refusal, RefusalKind, TokenSubject,
};
use domo_token_protocol::scope::{DOMO_SCOPE_NAMES, MAX_SCOPE_BYTES, ScopeSet};

use super::{State, did_you_mean, log};
use crate::config::{MAX_NAME, listed};
use crate::platform::clock::BootTime;
use domo_token_core::access_policy::{Access, Caller, Decision};
use domo_token_core::scheduler::{NotFound, SetId};

/// A request that is not admitted.
#[derive(Debug)]
pub(super) struct Denial {
    pub(super) refusal: Refusal,
    /// The requested client and the scopes, as they may be shown.
    pub(super) subject: TokenSubject,
    /// What denies it to the caller, for the log.
    rule: Option<String>,
}

impl Denial {
    fn new(refusal: Refusal, client: Option<&str>, scope: &str, rule: Option<String>) -> Self {
        let subject = TokenSubject {
            client: client.map(str::to_owned),
            scope: scope_shown(scope).into_owned(),
        };
        Self {
            refusal,
            subject,
            rule,
        }
    }
}

impl State {
    /// Returns the set, if the caller may have it. A denial is logged, with the client's name.
    pub(super) fn admit(
        &mut self,
        subject: &TokenSubject,
        caller: &Caller,
        now: BootTime,
    ) -> Result<SetId, Denial> {
        let found = self.find(subject, caller).map(|(set, _)| set);
        found.inspect_err(|denial| self.log_denial(denial, caller, now))
    }

    /// Returns the set of a watch, if the caller may still have it; `None` if it has been removed.
    pub(super) fn confirm(
        &mut self,
        set: SetId,
        caller: &Caller,
        now: BootTime,
    ) -> Option<Result<SetId, Denial>> {
        let (client, scope) = self.scheduler.name_of(set)?;
        let access = self.table(client, caller);
        let decision = access.map(|access| access.decide(scope, caller));
        let Some(decision) = decision.filter(|decision| !decision.is_granted()) else {
            return Some(Ok(set));
        };
        let rule = decision.to_string();
        let refusal = self.not_permitted(client, true, scope, caller, &rule);
        let denial = Denial::new(refusal, Some(client), scope.as_str(), Some(rule));
        self.log_denial(&denial, caller, now);
        Some(Err(denial))
    }

    fn log_denial(&mut self, denial: &Denial, caller: &Caller, now: BootTime) {
        if let Some(rule) = &denial.rule
            && denial.refusal.kind == RefusalKind::NotPermitted
        {
            let TokenSubject { client, scope } = &denial.subject;
            let text = denial_text(caller, &described(client.as_deref(), scope));
            log::not_permitted(&mut self.denial_log, &text, rule, now);
        }
    }

    /// Returns the access table that decides for this caller.
    fn table(&self, client: &str, caller: &Caller) -> Option<&Access> {
        let is_app = caller.app.is_some();
        self.config.access.get(client).filter(|_| !is_app)
    }

    /// Returns the client that a caller names, or the default. A name beyond the maximum length is cut, so
    /// that answers and log lines stay within their bounds; a cut name matches no client.
    fn requested_client<'a>(&'a self, subject: &'a TokenSubject) -> Option<Cow<'a, str>> {
        let default = self.config.default_client.as_deref();
        let client = subject.client.as_deref().or(default)?;
        Some(cut(client, MAX_NAME))
    }

    /// Returns the set, and the decision that grants it if there is an access table.
    fn find(
        &self,
        subject: &TokenSubject,
        caller: &Caller,
    ) -> Result<(SetId, Option<Decision<'_>>), Denial> {
        let Some(client) = self.requested_client(subject) else {
            let refusal = self.no_client_named(caller);
            return Err(Denial::new(refusal, None, &subject.scope, None));
        };
        let client = client.as_ref();
        let refused = |refusal| Denial::new(refusal, Some(client), &subject.scope, None);
        let known = self.scheduler.find_by_text(client, &subject.scope);
        let (scope, found) = if let Some((set, scope)) = known {
            (Cow::Borrowed(scope), Ok(set))
        } else {
            let scope = read_scope(&subject.scope).map_err(refused)?;
            let found = self.scheduler.find(client, &scope);
            (Cow::Owned(scope), found)
        };
        let denial = |rule: String| {
            let is_shown = self.shows_client(subject, client, caller);
            let refusal = self.not_permitted(client, is_shown, &scope, caller, &rule);
            Denial::new(refusal, Some(client), &subject.scope, Some(rule))
        };
        let Some(access) = self.table(client, caller) else {
            return match found {
                Ok(set) => Ok((set, None)),
                Err(NotFound::Scope(known)) => Err(refused(unknown_scope(client, &scope, &known))),
                Err(NotFound::Client) if self.hides_any(caller) => {
                    Err(denial("there is no such client".to_owned()))
                }
                Err(NotFound::Client) => Err(refused(self.unknown_client(client, caller))),
            };
        };
        let decision = access.decide(&scope, caller);
        match (decision.is_granted(), found) {
            (true, Ok(set)) => Ok((set, Some(decision))),
            (true, Err(_)) => Err(denial("there is no such scope set".to_owned())),
            (false, Err(NotFound::Scope(known))) if caller.privileged => {
                Err(refused(unknown_scope(client, &scope, &known)))
            }
            (false, _) => Err(denial(decision.to_string())),
        }
    }

    /// Returns what is decided for a caller, and why: a client that could not be loaded counts like a rule.
    pub(super) fn explain(
        &self,
        subject: &TokenSubject,
        caller: &Caller,
        now: BootTime,
    ) -> Explanation {
        let client = self.requested_client(subject);
        let client = client.filter(|client| self.shows_client(subject, client, caller));
        let scope = ScopeSet::parse(&subject.scope);
        let (refused, rule) = match self.find(subject, caller) {
            Ok((set, decision)) => {
                let rule = decision.map_or_else(
                    || "there is no access table: every caller that can open the socket may have it".to_owned(),
                    |decision| decision.to_string(),
                );
                match self.scheduler.load_refusal(set, now) {
                    Some(refusal) => {
                        let refusal = self.with_load_error(set, caller, refusal);
                        (Some(refusal.kind), format!("{rule}; {}", refusal.cause))
                    }
                    None => (None, rule),
                }
            }
            Err(Denial { refusal, .. }) => (Some(refusal.kind), refusal.cause),
        };
        Explanation {
            client: client.map(Cow::into_owned),
            scope: match scope {
                Ok(scope) => scope.as_str().to_owned(),
                Err(_) => scope_shown(&subject.scope).into_owned(),
            },
            peer: caller.to_string(),
            refused,
            rule,
        }
    }

    /// Returns whether status shows a set to this caller.
    pub(super) fn may_see(&self, client: &str, scope: &ScopeSet, caller: &Caller) -> bool {
        let access = self.config.access.get(client);
        caller.privileged || access.is_none_or(|access| access.grants(scope, caller))
    }

    pub(super) fn may_see_client(&self, client: &str, caller: &Caller) -> bool {
        let access = self.config.access.get(client);
        let granted = |scope| access.is_some_and(|access| access.grants(scope, caller));
        access.is_none_or(|access| caller.privileged || access.0.keys().any(granted))
    }

    pub(super) fn hides_any(&self, caller: &Caller) -> bool {
        let mut clients = self.config.access.clients();
        clients.any(|client| !self.may_see_client(client, caller))
    }

    fn visible_clients(&self, caller: &Caller) -> Vec<&str> {
        let names = self.scheduler.client_names();
        let names = names.filter(|name| self.may_see_client(name, caller));
        names.collect()
    }

    fn no_client_named(&self, caller: &Caller) -> Refusal {
        let names = listed(&self.visible_clients(caller));
        let names = if names.is_empty() {
            String::new()
        } else {
            format!(" (clients: {names})")
        };
        let cause =
            format!("{NO_CLIENT_GIVEN}{names}; name a client, or set broker.default_client");
        Refusal::new(RefusalKind::UnknownClient, cause)
    }

    fn unknown_client(&self, client: &str, caller: &Caller) -> Refusal {
        let known = self.visible_clients(caller);
        let cause = match did_you_mean::client(client, known.iter().copied()) {
            Some(suggestion) => format!("no client {client:?}; did you mean \"{suggestion}\"?"),
            None => format!(
                "no client {client:?}; configured clients: {}; to add one, write a [clients.NAME] table in \
                 the broker's config",
                listed(&known)
            ),
        };
        Refusal::new(RefusalKind::UnknownClient, cause)
    }

    /// Returns whether a message may name the client meant. A caller that names no client learns no name
    /// that status hides.
    fn shows_client(&self, subject: &TokenSubject, client: &str, caller: &Caller) -> bool {
        subject.client.is_some() || self.may_see_client(client, caller)
    }

    /// Returns the refusal with the caller's identity. It names only what the caller may have. A caller
    /// whose groups are not known may try again, unless no rule is about names or groups. The rules of all
    /// clients count, so that the answer does not reveal which of them is about the caller's request.
    fn not_permitted(
        &self,
        client: &str,
        is_shown: bool,
        scope: &ScopeSet,
        caller: &Caller,
        rule: &str,
    ) -> Refusal {
        let described = described(is_shown.then_some(client), scope.as_str());
        if caller.lacks_groups && self.config.access.need_user_database() {
            let cause = format!(
                "cannot decide whether {caller} may have {described}: the user database of the \
                 broker's host does not respond; try again"
            );
            return Refusal::new(RefusalKind::Busy, cause);
        }
        let text = denial_text(caller, &described);
        let access = self.config.access.get(client);
        let granted = access.into_iter().flat_map(|access| access.0.keys());
        let granted = granted.filter(|set| access.is_some_and(|access| access.grants(set, caller)));
        let cause = if let Some(suggestion) = did_you_mean::scope_set(scope, granted) {
            format!("{text}; did you mean \"{suggestion}\"?")
        } else if caller.privileged {
            format!(
                "{text}: {rule}; to grant it, extend [clients.{client}.access] in the broker's config"
            )
        } else {
            format!("{text}; ask the operator of the broker for access")
        };
        Refusal::new(RefusalKind::NotPermitted, cause)
    }
}

/// Describes a request for messages; without a client it is that of the default client.
fn described(client: Option<&str>, scope: &str) -> String {
    match client {
        Some(client) => format!("client {client:?}, scope set \"{scope}\""),
        None => format!("scope set \"{scope}\" of the default client"),
    }
}

fn denial_text(caller: &Caller, described: &str) -> String {
    format!("{caller} may not have {described}")
}

/// Returns the requested scopes, cut for messages: they can be as long as a frame.
fn scope_shown(scope: &str) -> Cow<'_, str> {
    cut(scope, MAX_SCOPE_BYTES)
}

/// Returns at most that many bytes of it, and a mark if there were more.
fn cut(text: &str, most: usize) -> Cow<'_, str> {
    if text.len() <= most {
        return Cow::Borrowed(text);
    }
    let whole = text.char_indices().map(|(at, c)| at + c.len_utf8());
    let end = whole.take_while(|end| *end <= most).last().unwrap_or(0);
    Cow::Owned(format!("{}…", text.get(..end).unwrap_or_default()))
}

fn read_scope(text: &str) -> Result<ScopeSet, Refusal> {
    ScopeSet::parse(text)
        .map_err(|error| Refusal::new(RefusalKind::UnknownScope, error.to_string()))
}

/// `known` are the client's scope sets, all of which the caller may see. The nearest one is suggested; a
/// new one only if Domo or this client has the scopes.
fn unknown_scope(client: &str, scope: &ScopeSet, known: &[ScopeSet]) -> Refusal {
    let sets: Vec<&str> = known.iter().map(ScopeSet::as_str).collect();
    let sets = listed(&sets);
    let in_use = |part: &str| {
        known
            .iter()
            .any(|set| set.iter().any(|other| other == part))
    };
    let hint = if let Some(suggestion) = did_you_mean::scope_set(scope, known.iter()) {
        format!("did you mean \"{suggestion}\"?")
    } else if scope
        .iter()
        .all(|part| DOMO_SCOPE_NAMES.contains(&part) || in_use(part))
    {
        format!(
            "to add it, put \"{scope}\" into tokens of [clients.{client}] in the broker's config"
        )
    } else {
        format!("Domo's scopes are {}", DOMO_SCOPE_NAMES.join(", "))
    };
    let cause = format!("client \"{client}\" has no scope set \"{scope}\"; it has {sets}; {hint}");
    Refusal::new(RefusalKind::UnknownScope, cause)
}

#[cfg(test)]
mod tests;
