//! PURE. May this caller have this token?
//!
//! A rule asks *who* (users or groups) and *where* (systemd units), both if both are given.

use std::collections::BTreeMap;
use std::fmt;

use domo_token_protocol::scope::ScopeSet;

use crate::masking::ShownName;

/// The access table of one API client. A scope set that isn't in it is nobody's.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Access(pub BTreeMap<ScopeSet, Rule>);

/// Who may have a scope set.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rule {
    /// Any of these users,
    pub users: Vec<Principal>,
    /// or whoever is in any of these groups,
    pub groups: Vec<Principal>,
    /// from any of these systemd units.
    pub units: Vec<String>,
}

/// A user or a group as the config names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Principal {
    /// By its name.
    Name(String),
    /// By its number.
    Id(u32),
}

/// A caller, as far as the kernel and the user database tell.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Caller {
    /// The user; `None` for the overflow uid, which is anyone of another user namespace.
    pub uid: Option<u32>,
    /// The process, for people.
    pub pid: Option<u32>,
    /// Name and groups; looked up only where there are access tables or an audit file.
    pub identity: Identity,
    /// Whether the user database has not answered, so that there may be more groups.
    pub lacks_groups: bool,
    /// The systemd unit; looked up under the same condition.
    pub unit: Option<String>,
    /// Whether it is root or the daemon's own user, who see all there is.
    pub privileged: bool,
}

/// Who a user is by name, and in which groups.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    /// The user's name, if the database has one.
    pub user: Option<String>,
    /// The groups, with their names if the database has them.
    pub groups: Vec<(u32, Option<String>)>,
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
    /// What grants `scope` to `caller`, in words.
    ///
    /// # Errors
    ///
    /// What denies it, in words for the operator: they tell of what there is.
    pub fn decide(&self, scope: &ScopeSet, caller: &Caller) -> Result<String, String> {
        let Some(rule) = self.0.get(scope) else {
            return Err(format!("no rule for \"{scope}\""));
        };
        match (rule.who(caller), rule.place(caller)) {
            (Some(who), Some(place)) => Ok(format!(
                "the rule for \"{scope}\" grants it to {who}{place}"
            )),
            (None, _) | (_, None) => Err(format!("the rule for \"{scope}\" is for {rule} alone")),
        }
    }

    /// Whether a rule of it is about what the user database alone knows: a user's name, or a group.
    #[must_use]
    pub fn needs_user_database(&self) -> bool {
        let is_name = |user: &Principal| matches!(user, Principal::Name(_));
        let mut rules = self.0.values();
        rules.any(|rule| !rule.groups.is_empty() || rule.users.iter().any(is_name))
    }

    /// Whether `caller` may have `scope`.
    #[must_use]
    pub fn grants(&self, scope: &ScopeSet, caller: &Caller) -> bool {
        self.decide(scope, caller).is_ok()
    }
}

impl Rule {
    fn who(&self, caller: &Caller) -> Option<String> {
        if self.users.is_empty() && self.groups.is_empty() {
            return Some("everyone".to_owned());
        }
        let uid = caller.uid?;
        let user = caller.identity.user.as_deref();
        if let Some(wanted) = self.users.iter().find(|wanted| wanted.is(uid, user)) {
            return Some(format!("user {wanted}"));
        }
        let mut groups = self.groups.iter();
        let wanted = groups.find(|wanted| {
            let mut held = caller.identity.groups.iter();
            held.any(|(gid, name)| wanted.is(*gid, name.as_deref()))
        });
        wanted.map(|wanted| format!("group {wanted}"))
    }

    fn named(&self) -> impl Iterator<Item = String> {
        let users = self.users.iter().map(|user| format!("user {user}"));
        users.chain(self.groups.iter().map(|group| format!("group {group}")))
    }

    fn place(&self, caller: &Caller) -> Option<String> {
        if self.units.is_empty() {
            return Some(String::new());
        }
        let unit = caller.unit.as_ref()?;
        let found = self.units.contains(unit);
        found.then(|| format!(" in unit {unit}"))
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let who: Vec<String> = self.named().collect();
        match who.as_slice() {
            [] => f.write_str("everyone")?,
            who => f.write_str(&who.join(", "))?,
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
        match self.uid {
            Some(uid) => write!(f, "uid {uid}")?,
            None => f.write_str("an unknown user")?,
        }
        // Names come from outside: nothing in them may look like a line of ours.
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
    fn a_user_or_a_group_is_known_by_name_and_number() {
        let by = |users: Vec<Principal>, groups: Vec<Principal>| {
            let rule = Rule {
                users,
                groups,
                units: Vec::new(),
            };
            access(rule).decide(&scope("data"), &caller()).ok()
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
    fn who_and_where_must_both_hold() {
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
    fn what_is_not_known_grants_nothing() {
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
        let why = |set: &str| access.decide(&scope(set), &caller()).unwrap_err();
        assert_eq!(
            why("data"),
            "the rule for \"data\" is for user ann\\n, group 9 in unit a.service alone"
        );
        assert_eq!(why("user"), "no rule for \"user\"");
    }

    #[test]
    fn a_callers_names_cannot_break_a_line() {
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
