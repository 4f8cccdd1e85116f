//! Access tables: may this caller have this token?
//!
//! A rule names users or groups, systemd units, or both; if both, both must match.

use std::collections::BTreeMap;
use std::fmt;

use domo_token_protocol::scope::ScopeSet;

use crate::masking::ShownName;

/// The access table of one API client. A scope set without a rule is denied to everyone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Access(pub BTreeMap<ScopeSet, Rule>);

/// Which callers may have a scope set.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rule {
    /// The users.
    pub users: Vec<Principal>,
    /// The groups. A caller matches if it is one of the users or in one of the groups.
    pub groups: Vec<Principal>,
    /// The systemd units, of which a caller must be in one unless there are none.
    pub units: Vec<String>,
}

/// A user or a group of the config.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Principal {
    /// A name.
    Name(String),
    /// A uid or gid.
    Id(u32),
}

/// A caller, as the kernel and the user database identify it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Caller {
    /// The user; `None` for the overflow uid, which stands for any user of another user namespace.
    pub uid: Option<u32>,
    /// The process, for messages.
    pub pid: Option<u32>,
    /// Name and groups; looked up only if there are access tables or an audit file.
    pub identity: Identity,
    /// Whether the user database did not answer, so that the user may be in more groups.
    pub lacks_groups: bool,
    /// The systemd unit; looked up under the same condition.
    pub unit: Option<String>,
    /// Whether it is root or the daemon's own user, who see all clients and scope sets.
    pub privileged: bool,
    /// The application of the gateway, if it is one instead of a local process. Its own table decides which scope
    /// sets it may have, not the access tables of clients.
    pub app: Option<String>,
}

/// A user's name and groups.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    /// The user's name, if the database has one.
    pub user: Option<String>,
    /// The groups, with their names if the database has them.
    pub groups: Vec<(u32, Option<String>)>,
}

/// What an access table decides for a caller. The texts name rules, so they are for the operator and for callers
/// that the table grants the scope set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision<'a> {
    /// The scope set's rule grants it.
    Granted {
        /// The scope set.
        scope: &'a ScopeSet,
        /// The part of the rule that the caller matches.
        grantee: Grantee<'a>,
        /// The caller's unit, if the rule names units.
        unit: Option<&'a str>,
    },
    /// The scope set's rule names other callers.
    OtherCallers {
        /// The scope set.
        scope: &'a ScopeSet,
        /// Its rule.
        rule: &'a Rule,
    },
    /// The table has no rule for the scope set, so nobody may have it.
    NoRule {
        /// The scope set.
        scope: ScopeSet,
    },
}

/// The part of a rule that a caller matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Grantee<'a> {
    /// The rule names neither users nor groups.
    Everyone,
    /// A user.
    User(&'a Principal),
    /// A group.
    Group(&'a Principal),
}

impl Principal {
    fn is(&self, id: u32, name: Option<&str>) -> bool {
        match self {
            Self::Name(wanted) => name == Some(wanted),
            Self::Id(wanted) => id == *wanted,
        }
    }
}

impl Access {
    /// Decides whether `caller` may have `scope`.
    #[must_use]
    pub fn decide(&self, scope: &ScopeSet, caller: &Caller) -> Decision<'_> {
        let Some((scope, rule)) = self.0.get_key_value(scope) else {
            let scope = scope.clone();
            return Decision::NoRule { scope };
        };
        match rule.matched_by(caller) {
            Some((grantee, unit)) => Decision::Granted {
                scope,
                grantee,
                unit,
            },
            None => Decision::OtherCallers { scope, rule },
        }
    }

    /// Returns whether any rule names a user by name, or a group, which the user database alone can resolve.
    #[must_use]
    pub fn needs_user_database(&self) -> bool {
        let is_name = |user: &Principal| matches!(user, Principal::Name(_));
        let mut rules = self.0.values();
        rules.any(|rule| !rule.groups.is_empty() || rule.users.iter().any(is_name))
    }

    /// Returns whether `caller` may have `scope`.
    #[must_use]
    pub fn grants(&self, scope: &ScopeSet, caller: &Caller) -> bool {
        let rule = self.0.get(scope);
        rule.is_some_and(|rule| rule.matched_by(caller).is_some())
    }
}

impl Rule {
    /// Returns the part of the rule that the caller matches, and its unit if the rule names units.
    fn matched_by(&self, caller: &Caller) -> Option<(Grantee<'_>, Option<&str>)> {
        let grantee = self.grantee(caller)?;
        if self.units.is_empty() {
            return Some((grantee, None));
        }
        let mut units = self.units.iter();
        let unit = units.find(|unit| Some(*unit) == caller.unit.as_ref())?;
        Some((grantee, Some(unit)))
    }

    fn grantee(&self, caller: &Caller) -> Option<Grantee<'_>> {
        if self.users.is_empty() && self.groups.is_empty() {
            return Some(Grantee::Everyone);
        }
        let uid = caller.uid?;
        let name = caller.identity.user.as_deref();
        if let Some(user) = self.users.iter().find(|user| user.is(uid, name)) {
            return Some(Grantee::User(user));
        }
        let mut groups = self.groups.iter();
        let group = groups.find(|group| {
            let mut memberships = caller.identity.groups.iter();
            memberships.any(|(gid, name)| group.is(*gid, name.as_deref()))
        });
        group.map(Grantee::Group)
    }

    fn grantees(&self) -> impl Iterator<Item = Grantee<'_>> {
        let users = self.users.iter().map(Grantee::User);
        users.chain(self.groups.iter().map(Grantee::Group))
    }
}

impl Decision<'_> {
    /// Returns whether the caller may have the scope set.
    #[must_use]
    pub fn is_granted(&self) -> bool {
        matches!(self, Self::Granted { .. })
    }
}

impl fmt::Display for Decision<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Granted {
                scope,
                grantee,
                unit,
            } => {
                write!(f, "the rule for \"{scope}\" grants it to {grantee}")?;
                unit.map_or(Ok(()), |unit| write!(f, " in unit {unit}"))
            }
            Self::OtherCallers { scope, rule } => {
                write!(f, "the rule for \"{scope}\" grants it only to {rule}")
            }
            Self::NoRule { scope } => write!(f, "no rule for \"{scope}\""),
        }
    }
}

impl fmt::Display for Grantee<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Everyone => f.write_str("everyone"),
            Self::User(user) => write!(f, "user {user}"),
            Self::Group(group) => write!(f, "group {group}"),
        }
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut grantees = self.grantees();
        grantees.next().unwrap_or(Grantee::Everyone).fmt(f)?;
        for grantee in grantees {
            write!(f, ", {grantee}")?;
        }
        if !self.units.is_empty() {
            write!(f, " in unit {}", self.units.join(", "))?;
        }
        Ok(())
    }
}

impl fmt::Display for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => ShownName(name).fmt(f),
            Self::Id(id) => id.fmt(f),
        }
    }
}

impl fmt::Display for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(app) = &self.app {
            return write!(f, "application {}", ShownName(app));
        }
        match self.uid {
            Some(uid) => write!(f, "uid {uid}")?,
            None => f.write_str("an unknown user")?,
        }
        // Callers choose these names, so they are escaped: a newline must not forge a log line.
        if let Some(user) = &self.identity.user {
            write!(f, " ({})", user.escape_debug())?;
        }
        if let Some(pid) = self.pid {
            write!(f, ", pid {pid}")?;
        }
        if let Some(unit) = &self.unit {
            write!(f, ", unit {}", unit.escape_debug())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scope(text: &str) -> ScopeSet {
        ScopeSet::parse(text).unwrap()
    }

    fn names(names: &[&str]) -> Vec<Principal> {
        names
            .iter()
            .map(|name| Principal::Name((*name).to_owned()))
            .collect()
    }

    fn access(rule: Rule) -> Access {
        Access(BTreeMap::from([(scope("data"), rule)]))
    }

    fn caller() -> Caller {
        Caller {
            uid: Some(1004),
            pid: Some(77),
            identity: Identity {
                user: Some("etl".to_owned()),
                groups: vec![(7, Some("analysts".to_owned())), (8, None)],
            },
            unit: Some("report.service".to_owned()),
            ..Caller::default()
        }
    }

    #[test]
    fn rule_matches_users_and_groups_by_name_and_number() {
        let by = |users: Vec<Principal>, groups: Vec<Principal>| {
            let rule = Rule {
                users,
                groups,
                units: Vec::new(),
            };
            let access = access(rule);
            let decision = access.decide(&scope("data"), &caller());
            decision.is_granted().then(|| decision.to_string())
        };
        assert!(
            by(names(&["etl"]), vec![])
                .unwrap()
                .ends_with("to user etl")
        );
        assert!(by(vec![Principal::Id(1004)], vec![]).is_some());
        assert!(
            by(vec![], names(&["analysts"]))
                .unwrap()
                .ends_with("to group analysts")
        );
        assert!(by(vec![], vec![Principal::Id(8)]).is_some());
        assert!(
            by(names(&["nobody"]), names(&["analysts"])).is_some(),
            "either will do"
        );
        assert!(
            by(names(&["1004"]), names(&["7"])).is_none(),
            "a name is no number"
        );
        assert!(by(vec![Principal::Id(7)], vec![Principal::Id(1004)]).is_none());
    }

    #[test]
    fn rule_with_users_and_units_requires_both() {
        let by = |users: &[&str], unit: &str| {
            let rule = Rule {
                users: names(users),
                groups: vec![],
                units: vec![unit.to_owned()],
            };
            access(rule).grants(&scope("data"), &caller())
        };
        assert!(by(&["etl"], "report.service") && by(&[], "report.service"));
        assert!(!by(&["etl"], "other.service") && !by(&["ann"], "report.service"));
    }

    #[test]
    fn decision_names_the_part_of_the_rule_that_the_caller_matches() {
        let rule = |users: &[&str], groups: &[&str], units: &[&str]| Rule {
            users: names(users),
            groups: names(groups),
            units: units.iter().map(|unit| (*unit).to_owned()).collect(),
        };
        for (rule, expected) in [
            (rule(&[], &[], &[]), "everyone"),
            (rule(&["ann", "etl"], &["analysts"], &[]), "user etl"),
            (
                rule(&["ann"], &["staff", "analysts"], &[]),
                "group analysts",
            ),
            (
                rule(&[], &["analysts"], &["a.service", "report.service"]),
                "group analysts in unit report.service",
            ),
        ] {
            let access = access(rule);
            let decision = access.decide(&scope("data"), &caller());
            assert!(decision.is_granted());
            let text = format!("the rule for \"data\" grants it to {expected}");
            assert_eq!(decision.to_string(), text);
        }
    }

    #[test]
    fn unknown_identity_is_granted_nothing() {
        let rule = |users: &[&str], units: Vec<String>| Rule {
            users: names(users),
            groups: vec![],
            units,
        };
        let nobody = Caller {
            uid: None,
            unit: None,
            ..caller()
        };
        assert!(!access(rule(&["etl"], vec![])).grants(&scope("data"), &nobody));
        let units = vec!["report.service".to_owned()];
        assert!(!access(rule(&[], units)).grants(&scope("data"), &nobody));
        assert!(!access(rule(&["etl"], vec![])).grants(&scope("user"), &caller()));
        let root = Caller {
            uid: Some(0),
            privileged: true,
            ..Caller::default()
        };
        assert!(!access(rule(&["etl"], vec![])).grants(&scope("data"), &root));
    }

    #[test]
    fn a_denial_names_the_rule_that_decided() {
        let rule = Rule {
            users: names(&["ann\n"]),
            groups: vec![Principal::Id(9)],
            units: vec!["a.service".to_owned()],
        };
        let access = access(rule);
        let why = |set: &str| access.decide(&scope(set), &caller()).to_string();
        assert_eq!(
            why("data"),
            "the rule for \"data\" grants it only to user ann\\n, group 9 in unit a.service"
        );
        assert_eq!(why("user"), "no rule for \"user\"");
    }

    #[test]
    fn names_of_a_caller_are_shown_on_one_line() {
        let odd = Caller {
            unit: Some("a\n\u{1b}[2J.service".to_owned()),
            ..caller()
        };
        assert_eq!(
            odd.to_string(),
            "uid 1004 (etl), pid 77, unit a\\n\\u{1b}[2J.service"
        );
    }
}
