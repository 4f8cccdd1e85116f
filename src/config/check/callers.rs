//! What is true of callers: access tables, limits, the socket's group.

use std::collections::BTreeMap;

use domo_token_client::scope::ScopeSet;
use toml::Spanned;

use super::Checker;
use crate::config::raw::{RawLimits, RawPrincipal, RawRule};
use crate::config::{ConfigError, Limits};
use crate::policy::{Access, Principal, Rule};

/// More than any system has descriptors.
const LIMIT_MAX: i64 = 1_000_000;

impl Checker<'_> {
    pub(super) fn access(
        &self,
        written: BTreeMap<Spanned<String>, Spanned<RawRule>>,
        tokens: &[ScopeSet],
        key: &str,
    ) -> Result<Access, ConfigError> {
        let mut access = Access::default();
        for (sets, rule) in written {
            let fail = |problem: &str| Err(self.error(Some(sets.span()), key, problem.to_owned()));
            let scope = match ScopeSet::parse(sets.get_ref()) {
                Ok(scope) => scope,
                Err(error) => return fail(&error.to_string()),
            };
            if !tokens.contains(&scope) {
                let known: Vec<String> = tokens.iter().map(|set| format!("\"{set}\"")).collect();
                let known = known.join(", ");
                return fail(&format!("no such scope set in tokens; there is {known}"));
            }
            let rule = self.rule(rule, key)?;
            if access.0.insert(scope, rule).is_some() {
                return fail("the same scope set twice, written in two ways");
            }
        }
        Ok(access)
    }

    fn rule(&self, written: Spanned<RawRule>, key: &str) -> Result<Rule, ConfigError> {
        let span = written.span();
        let fail = |problem: &str| Err(self.error(Some(span.clone()), key, problem.to_owned()));
        let RawRule {
            users,
            groups,
            units,
        } = written.into_inner();
        let principals = |written: Vec<RawPrincipal>| written.into_iter().map(principal).collect();
        let rule = Rule {
            users: principals(users),
            groups: principals(groups),
            units,
        };
        let named = rule.users.iter().chain(&rule.groups);
        let mut named =
            named.map(|principal| matches!(principal, Principal::Name(name) if name.is_empty()));
        if named.any(|empty| empty) {
            return fail("an empty name");
        }
        if rule.users.is_empty() && rule.groups.is_empty() && rule.units.is_empty() {
            return fail("grants it to nobody: name users, groups or units");
        }
        let is_unit = |unit: &String| unit.contains('.') && !unit.contains(['/', ' ']);
        if !rule.units.iter().all(is_unit) {
            return fail("a unit is named like report.service");
        }
        let is_slice = |unit: &String| {
            unit.rsplit_once('.')
                .is_some_and(|(_, kind)| kind == "slice")
        };
        if rule.units.iter().any(is_slice) {
            return fail("a slice is no unit that a process runs in: name services or scopes");
        }
        Ok(rule)
    }

    pub(super) fn limits(&self, written: RawLimits) -> Result<Limits, ConfigError> {
        let usual = Limits::default();
        let limit = |written: Option<Spanned<i64>>, key: &str, usual: usize| {
            let Some(written) = written else {
                return Ok(usual);
            };
            let found = Some(*written.get_ref()).filter(|limit| (1..=LIMIT_MAX).contains(limit));
            found
                .and_then(|limit| usize::try_from(limit).ok())
                .ok_or_else(|| {
                    let problem = format!("a number from 1 to {LIMIT_MAX}");
                    self.error(Some(written.span()), &format!("limits.{key}"), problem)
                })
        };
        let per_user = written.connections_per_user;
        Ok(Limits {
            connections: limit(written.connections, "connections", usual.connections)?,
            connections_per_user: limit(
                per_user,
                "connections_per_user",
                usual.connections_per_user,
            )?,
            watchers_per_user: limit(
                written.watchers_per_user,
                "watchers_per_user",
                usual.watchers_per_user,
            )?,
        })
    }

    pub(super) fn socket_group(
        &self,
        written: Option<Spanned<RawPrincipal>>,
    ) -> Result<Option<Principal>, ConfigError> {
        let Some(written) = written else {
            return Ok(None);
        };
        let span = written.span();
        match principal(written.into_inner()) {
            Principal::Name(name) if name.is_empty() => {
                let problem = "a group, by name or number".to_owned();
                Err(self.error(Some(span), "broker.socket_group", problem))
            }
            group @ (Principal::Name(_) | Principal::Id(_)) => Ok(Some(group)),
        }
    }
}

fn principal(written: RawPrincipal) -> Principal {
    match written {
        RawPrincipal::Id(id) => Principal::Id(id),
        RawPrincipal::Name(name) => Principal::Name(name),
    }
}
