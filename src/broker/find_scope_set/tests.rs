use std::collections::BTreeMap;
use std::fs;
use std::sync::Arc;
use std::time::Duration;

use domo_token_protocol::frame::MAX_BODY;
use domo_token_protocol::messages::Response;

use super::super::{AccessTables, Broker, BrokerConfig, Engine};
use super::*;
use crate::audit::Audit;
use crate::platform::clock::SystemClock;
use crate::source::TokenSource;
use domo_token_core::access_policy::{Access, Principal, Rule};
use domo_token_core::fetch::{Fetch, Occasion, Progress};
use domo_token_core::scheduler::ClientSpec;
use domo_token_core::token::{Token, Validity};

/// The source of a broker whose loop does not run, so no token is requested from it.
struct NeverResponds;

impl TokenSource for NeverResponds {
    async fn fetch(&self, _occasion: &Occasion, _: &(dyn Fn(Progress) + Send + Sync)) -> Fetch {
        std::future::pending().await
    }
}

/// Returns a broker with a client `acme`, whose set `data` is open to all or, with `rules`, to nobody.
fn broker(rules: bool) -> Broker<SystemClock> {
    broker_with(rules.then(|| Access(BTreeMap::new())))
}

/// Returns the same with that access table.
fn broker_with(access: Option<Access>) -> Broker<SystemClock> {
    broker_of(&[("acme", &["data"])], access)
}

/// Returns a broker with these clients and their sets, and an access table of `acme`.
fn broker_of(clients: &[(&str, &[&str])], access: Option<Access>) -> Broker<SystemClock> {
    let access = access.map(|access| ("acme".to_owned(), access));
    let config = BrokerConfig {
        access: AccessTables(access.into_iter().collect()),
        ..BrokerConfig::default()
    };
    let broker = Broker::new(SystemClock::new(), 1, config);
    let clients_with_sources = clients.iter().map(|(name, sets)| {
        let sets = sets.iter().map(|set| ScopeSet::parse(set).unwrap());
        let client = ClientSpec {
            name: (*name).to_owned(),
            shown_id: String::new(),
            scopes: sets.collect(),
            renewed: true,
            proxy_login: None,
            loading: None,
            shares: false,
        };
        (client, Some(Arc::new(NeverResponds)))
    });
    let _engine = Engine::new(&broker, clients_with_sources.collect());
    broker
}

fn subject(client: &str, scope: &str) -> TokenSubject {
    TokenSubject {
        client: Some(client.to_owned()),
        scope: scope.to_owned(),
    }
}

/// Returns the cause of a refusal.
#[track_caller]
fn cause(broker: &Broker<SystemClock>, subject: &TokenSubject, caller: &Caller) -> String {
    broker.watch(subject, caller).unwrap_err().cause
}

#[test]
fn unknown_scope_set_is_refused_with_a_suggestion() {
    let broker = broker_of(&[("acme", &["data", "data user", "sales"])], None);
    let cause = |scope| cause(&broker, &subject("acme", scope), &Caller::default());
    let has = "it has \"data\", \"data user\", \"sales\"";
    for (scope, meant) in [
        ("Data", "data"),
        ("USER,Data", "data user"),
        ("dta", "data"),
    ] {
        let cause = cause(scope);
        let end = format!("{has}; did you mean \"{meant}\"?");
        assert!(cause.ends_with(&end), "{cause}");
    }
    for plausible in ["audit", "data workflow", "sales user"] {
        let cause = cause(plausible);
        let advice = format!("{has}; to add it, put \"{plausible}\" into tokens of [clients.acme]");
        assert!(cause.contains(&advice), "{cause}");
    }
    for other in ["list", "curl data", "--", "data https://api.domo.com/v1"] {
        let cause = cause(other);
        assert!(
            cause.contains(has) && cause.contains("account, audit"),
            "{cause}"
        );
        assert!(
            !cause.contains("tokens") && !cause.contains("did you"),
            "{cause}"
        );
    }
}

#[test]
fn no_set_is_suggested_to_a_caller_that_may_not_have_it() {
    let user = Rule {
        users: vec![Principal::Id(1004)],
        ..Rule::default()
    };
    let broker = broker_with(Some(table(user)));
    let caller = |uid, privileged| Caller {
        uid: Some(uid),
        privileged,
        ..Caller::default()
    };
    let refused = |scope, caller: &Caller| {
        let refusal = broker.watch(&subject("acme", scope), caller).unwrap_err();
        (refusal.kind, refusal.cause.replace(scope, "SCOPES"))
    };
    let unmatched = caller(1005, false);
    let hidden = refused("data", &unmatched);
    assert_eq!(hidden.0, RefusalKind::NotPermitted);
    for scope in ["Data", "dta", "audit", "nosuch"] {
        assert_eq!(refused(scope, &unmatched), hidden, "{scope}");
    }
    // A caller that a rule grants another set gets the same message.
    assert_eq!(
        refused("Data", &caller(1004, false)).0,
        RefusalKind::NotPermitted
    );
    let (kind, cause) = refused("Data", &caller(1004, true));
    assert_eq!(kind, RefusalKind::UnknownScope);
    assert!(cause.ends_with("did you mean \"data\"?"), "{cause}");
    // Root sees every scope set, also those that only other users may have.
    let (_, cause) = refused("Data", &caller(0, true));
    assert!(cause.ends_with("did you mean \"data\"?"), "{cause}");
}

/// Returns a broker with `acme` and `beta`, whose access tables grant `acme`'s `data user` to user 1004 and
/// `beta`'s `data` to user 1005. The default client is `beta`.
fn two_restricted_clients() -> Broker<SystemClock> {
    let rule = |uid| Rule {
        users: vec![Principal::Id(uid)],
        ..Rule::default()
    };
    let wide = ScopeSet::parse("data user").unwrap();
    let acme = Access(BTreeMap::from([(wide, rule(1004))]));
    let broker = broker_of(&[("acme", &["data user"]), ("beta", &["data"])], Some(acme));
    let mut state = broker.state();
    let access = &mut state.config.access.0;
    access.insert("beta".to_owned(), table(rule(1005)));
    state.config.default_client = Some("beta".to_owned());
    drop(state);
    broker
}

fn user(uid: u32) -> Caller {
    Caller {
        uid: Some(uid),
        ..Caller::default()
    }
}

fn of_default(scope: &str) -> TokenSubject {
    TokenSubject {
        client: None,
        scope: scope.to_owned(),
    }
}

#[test]
fn default_client_is_not_named_to_a_caller_from_which_it_is_hidden() {
    let broker = two_restricted_clients();
    let end = "may not have scope set \"data\" of the default client; ask the operator of the broker \
               for access";
    let hidden = cause(&broker, &of_default("data"), &user(1004));
    assert!(hidden.ends_with(end), "{hidden}");
    // A scope set that does not exist has the same message.
    let absent = cause(&broker, &of_default("audit"), &user(1004));
    assert_eq!(absent.replace("audit", "data"), hidden);
    let explained = broker.explain(&of_default("data"), &user(1004));
    assert_eq!(explained.client, None);
    assert!(!explained.rule.contains("beta"), "{}", explained.rule);
    // The message has what the caller named.
    let named = cause(&broker, &subject("beta", "data"), &user(1004));
    assert!(named.contains("client \"beta\""), "{named}");
    let without_groups = Caller {
        lacks_groups: true,
        ..user(1004)
    };
    broker.state().config.access.0.insert(
        "beta".to_owned(),
        table(by_name_or_group().into_iter().next().unwrap()),
    );
    let undecided = cause(&broker, &of_default("data"), &without_groups);
    assert!(undecided.contains("cannot decide"), "{undecided}");
    assert!(!undecided.contains("beta"), "{undecided}");
}

#[test]
fn default_client_is_named_to_callers_that_may_see_it() {
    let broker = two_restricted_clients();
    let root = Caller {
        privileged: true,
        ..user(0)
    };
    for caller in [user(1005), root.clone()] {
        let scope = if caller.privileged { "data" } else { "audit" };
        let cause = cause(&broker, &of_default(scope), &caller);
        assert!(cause.contains("client \"beta\""), "{cause}");
        let explained = broker.explain(&of_default(scope), &caller);
        assert_eq!(explained.client.as_deref(), Some("beta"));
    }
    let cause = cause(&broker, &of_default("data"), &root);
    let end = "the rule for \"data\" grants it only to user 1005; to grant it, extend \
               [clients.beta.access] in the broker's config";
    assert!(cause.ends_with(end), "{cause}");
}

#[test]
fn denied_caller_is_suggested_the_scope_set_that_it_may_have_itself() {
    let broker = two_restricted_clients();
    let refused = |client, scope, uid| {
        let refusal = broker
            .watch(&subject(client, scope), &user(uid))
            .unwrap_err();
        assert_eq!(refusal.kind, RefusalKind::NotPermitted);
        refusal.cause
    };
    for scope in ["Data user", "USER,data", "data uesr"] {
        let cause = refused("acme", scope, 1004);
        let end = "; did you mean \"data user\"?";
        assert!(cause.ends_with(end), "{cause}");
    }
    for (client, scope, uid) in [
        ("acme", "Data user", 1005),
        ("acme", "Data", 1004),
        ("beta", "Data", 1004),
    ] {
        let hidden = refused(client, scope, uid);
        assert!(!hidden.contains("did you mean"), "{hidden}");
        let absent = refused("none", scope, uid).replace("none", client);
        assert_eq!(absent, hidden);
    }
}

#[test]
fn unknown_client_is_refused_with_a_suggestion() {
    let broker = broker_of(&[("acme", &["data"]), ("beta", &["data"])], None);
    let caller = Caller::default();
    let cause = |client| cause(&broker, &subject(client, "data"), &caller);
    assert_eq!(cause("acm"), "no client \"acm\"; did you mean \"acme\"?");
    let other = cause("gamma");
    assert!(
        other.contains("configured clients: \"acme\", \"beta\""),
        "{other}"
    );
    let unnamed = TokenSubject {
        client: None,
        ..subject("", "data")
    };
    let refusal = broker.watch(&unnamed, &caller).unwrap_err();
    assert_eq!(refusal.kind, RefusalKind::UnknownClient);
    assert_eq!(
        refusal.cause,
        "no client given and no default_client configured (clients: \"acme\", \"beta\"); name a client, \
         or set broker.default_client"
    );
}

/// Names and scopes as long as a frame lets them be, plain and such as grow when they are shown.
fn endless() -> [TokenSubject; 4] {
    let plain = "x".repeat(65_400);
    let control = "\u{1}".repeat(65_400);
    [
        subject(&plain, "data"),
        subject(&control, "data"),
        subject("acme", &plain),
        subject("acme", &control),
    ]
}

#[test]
fn refusal_of_any_request_fits_a_frame_and_a_line() {
    // A name's characters take ten bytes at most when they are shown, so far beyond each of these
    // bounds is what isn't cut.
    const LINE: usize = 4096;
    for (rules, kind) in [
        (false, RefusalKind::UnknownClient),
        (true, RefusalKind::NotPermitted),
    ] {
        let broker = broker(rules);
        for (number, subject) in endless().iter().enumerate() {
            let refusal = broker.watch(subject, &Caller::default()).unwrap_err();
            let expected = if number < 2 {
                kind
            } else {
                RefusalKind::UnknownScope
            };
            assert_eq!(refusal.kind, expected);
            assert!(refusal.cause.len() < LINE, "{}", refusal.cause.len());
            assert_eq!(refusal.cause.contains('…'), number < 2, "{}", refusal.cause);
            let explained = broker.explain(subject, &Caller::default());
            let shown = [
                explained.client.as_deref().unwrap_or_default(),
                &explained.scope,
            ];
            let ends = shown.map(|text| text.ends_with('…'));
            assert_eq!(ends, [number < 2, number >= 2], "{shown:?}");
            let frame = domo_token_protocol::frame::encode(&Response::Explanation(explained));
            assert!(frame.unwrap().len() < 2 * LINE && 2 * LINE < MAX_BODY);
        }
    }
}

#[tokio::test]
async fn audit_line_of_any_request_is_short() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("audit");
    let (audit, writer) = Audit::open(&path).unwrap();
    let broker = broker(false);
    broker.audit_to(audit.clone());
    for subject in endless() {
        broker.watch(&subject, &Caller::default()).unwrap_err();
    }
    audit.finish(tokio::spawn(writer.run())).await;
    let text = fs::read_to_string(path).unwrap();
    assert_eq!(text.matches('…').count(), 4);
    // Six bytes for each control character (RFC 8259 §7).
    let longest = text.lines().map(str::len).max().unwrap();
    assert!(longest < 6 * MAX_SCOPE_BYTES + 512, "{longest} bytes");
}

#[test]
fn truncated_name_matches_no_client_and_ends_with_a_whole_character() {
    let name = "n".repeat(MAX_NAME);
    assert_eq!(cut(&name, MAX_NAME), name);
    assert_eq!(cut(&format!("{name}n"), MAX_NAME), format!("{name}…"));
    let odd = format!("{}é", "n".repeat(MAX_NAME - 1));
    assert_eq!(
        cut(&odd, MAX_NAME),
        format!("{}…", "n".repeat(MAX_NAME - 1))
    );
    assert_eq!(cut("é", 1), "…");
}

#[test]
fn caller_without_groups_is_asked_to_retry_where_it_would_be_denied() {
    let caller = |lacks_groups| Caller {
        uid: Some(1004),
        lacks_groups,
        ..Caller::default()
    };
    let kind = |access, scope, lacks_groups| {
        let refused = broker_with(access).watch(&subject("acme", scope), &caller(lacks_groups));
        refused.err().map(|refusal| refusal.kind)
    };
    for rule in by_name_or_group() {
        let access = || Some(table(rule.clone()));
        assert_eq!(
            kind(access(), "data", false),
            Some(RefusalKind::NotPermitted)
        );
        for scope in ["data", "user"] {
            assert_eq!(kind(access(), scope, true), Some(RefusalKind::Busy));
        }
    }
    assert_eq!(kind(None, "data", true), None);
}

#[test]
fn caller_without_groups_is_denied_where_rules_name_numbers_of_users_alone() {
    let caller = |uid| Caller {
        uid: Some(uid),
        lacks_groups: true,
        ..Caller::default()
    };
    let rule = Rule {
        users: vec![Principal::Id(1004)],
        ..Rule::default()
    };
    let broker = broker_with(Some(table(rule)));
    let kind = |client, scope, uid| {
        let refused = broker.watch(&subject(client, scope), &caller(uid));
        refused.err().map(|refusal| refusal.kind)
    };
    assert_eq!(kind("acme", "data", 1004), None);
    for (client, scope) in [("acme", "data"), ("acme", "user"), ("none", "data")] {
        assert_eq!(
            kind(client, scope, 1005),
            Some(RefusalKind::NotPermitted),
            "{client} {scope}"
        );
    }
}

/// Rules that cannot be decided without the user database.
fn by_name_or_group() -> [Rule; 2] {
    let name = || vec![Principal::Name("ann".to_owned())];
    let user = Rule {
        users: name(),
        ..Rule::default()
    };
    let group = Rule {
        groups: name(),
        ..Rule::default()
    };
    [user, group]
}

/// Returns a table with that rule for `data`.
fn table(rule: Rule) -> Access {
    Access(BTreeMap::from([(ScopeSet::parse("data").unwrap(), rule)]))
}

#[test]
fn watcher_without_groups_is_asked_to_retry_where_it_would_be_denied() {
    let scope = ScopeSet::parse("data").unwrap();
    let validity = Validity {
        generation: 1,
        obtained: BootTime::from_millis(0),
        lifetime: Duration::from_secs(3600),
        expires: BootTime::from_millis(u64::MAX),
    };
    let token = Token::new("acme", &scope, &"text".into(), validity).unwrap();
    let caller = |lacks_groups| Caller {
        uid: Some(1004),
        lacks_groups,
        ..Caller::default()
    };
    let broker = broker(false);
    let watch = broker.watch(&subject("acme", "data"), &caller(false));
    let watch = watch.unwrap();
    let kind = |lacks_groups| {
        let reply = watch.confirm(token.clone(), &caller(lacks_groups));
        reply.err().map(|refusal| refusal.kind)
    };
    assert_eq!(kind(false), None);
    let [others, _] = by_name_or_group().map(table);
    broker
        .state()
        .config
        .access
        .0
        .insert("acme".to_owned(), others);
    assert_eq!(kind(false), Some(RefusalKind::NotPermitted));
    assert_eq!(kind(true), Some(RefusalKind::Busy));
}
