//! Validates access tables and the socket's group.

use std::collections::BTreeMap;

use domo_token_protocol::scope::ScopeSet;
use toml::Spanned;

use super::{Validator, listed};
use crate::config::ConfigError;
use crate::config::parse::{RawPrincipal, RawRule};
use domo_token_core::access_policy::{Access, Principal, Rule};

impl Validator<'_> {
    pub(in crate::config) fn access(
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
                let known: Vec<&str> = tokens.iter().map(ScopeSet::as_str).collect();
                let known = listed(&known);
                return fail(&format!(
                    "no such scope set in tokens; configured scope sets: {known}"
                ));
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
        if rule.users.is_empty() && rule.groups.is_empty() && rule.units.is_empty() {
            return fail("grants it to nobody: list users, groups or units");
        }
        if !rule.users.iter().chain(&rule.groups).all(can_be) {
            return fail(
                "a user or group must be a name that is not empty, or a number below 4294967295",
            );
        }
        if rule
            .units
            .iter()
            .any(|unit| unit.strip_suffix(".slice").is_some())
        {
            return fail("processes do not run in a slice directly: list services or scopes");
        }
        if !rule.units.iter().all(|unit| runs_processes(unit)) {
            return fail("must be the full name of a service or a scope, like report.service");
        }
        Ok(rule)
    }

    pub(in crate::config) fn socket_group(
        &self,
        written: Option<Spanned<RawPrincipal>>,
    ) -> Result<Option<Principal>, ConfigError> {
        let Some(written) = written else {
            return Ok(None);
        };
        let span = written.span();
        let group = principal(written.into_inner());
        if !can_be(&group) {
            let problem = "must be a group, by name or number".to_owned();
            return Err(self.error(Some(span), "broker.socket_group", problem));
        }
        Ok(Some(group))
    }
}

fn principal(written: RawPrincipal) -> Principal {
    match written {
        RawPrincipal::Id(id) => Principal::Id(id),
        RawPrincipal::Name(name) => Principal::Name(name),
    }
}

/// Returns whether a user or group can exist. To the system, the highest number means none.
fn can_be(principal: &Principal) -> bool {
    match principal {
        Principal::Name(name) => !name.is_empty(),
        Principal::Id(id) => *id != u32::MAX,
    }
}

/// Returns whether a unit of that name can have processes. systemd.unit(5) lists the allowed characters; a
/// template without an instance is not a unit.
fn runs_processes(unit: &str) -> bool {
    let name = unit
        .strip_suffix(".service")
        .or_else(|| unit.strip_suffix(".scope"));
    let allowed = |c: char| c.is_ascii_alphanumeric() || ":-_.\\@".contains(c);
    name.is_some_and(|name| !name.is_empty() && !name.ends_with('@') && name.chars().all(allowed))
}
