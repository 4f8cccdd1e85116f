use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::sync::Arc;
use std::time::Duration;

use domo_token_client::frame::MAX_BODY;
use domo_token_client::wire::Response;

use super::super::{About, Broker, Engine};
use super::*;
use crate::audit::Audit;
use crate::clock::SystemClock;
use crate::policy::{Access, Principal, Rule};
use crate::roster::Wanted;
use crate::source::{FetchError, Fetched, TokenSource};
use crate::token::{Life, Token};

/// Of a broker whose loop doesn't run, so nobody asks it.
struct Unasked;

impl TokenSource for Unasked {
    async fn fetch(&self, _scope: &ScopeSet) -> Result<Fetched, FetchError> {
        std::future::pending().await
    }
}

/// A broker with a client `acme`, whose set `data` is open to all or, with `rules`, to nobody.
fn broker(rules: bool) -> Broker<SystemClock> {
    broker_with(rules.then(|| Access(BTreeMap::new())))
}

/// The same with that access table.
fn broker_with(access: Option<Access>) -> Broker<SystemClock> {
    let access = access.map(|access| ("acme".to_owned(), access));
    let about = About {
        access: access.into_iter().collect(),
        ..About::default()
    };
    let broker = Broker::new(SystemClock::new(), 1, about);
    let acme = Wanted {
        name: "acme".to_owned(),
        shown_id: String::new(),
        scopes: BTreeSet::from([ScopeSet::parse("data").unwrap()]),
        renewed: true,
        loading: None,
    };
    let _engine = Engine::new(&broker, vec![(acme, Some(Arc::new(Unasked)))]);
    broker
}

fn asked(client: &str, scope: &str) -> Asked {
    Asked {
        client: Some(client.to_owned()),
        scope: scope.to_owned(),
    }
}

/// Names and scopes as long as a frame lets them be, plain and such as grow when they are shown.
fn endless() -> [Asked; 4] {
    let plain = "x".repeat(65_400);
    let control = "\u{1}".repeat(65_400);
    [
        asked(&plain, "data"),
        asked(&control, "data"),
        asked("acme", &plain),
        asked("acme", &control),
    ]
}

#[test]
fn whatever_is_asked_the_answer_fits_a_frame_and_a_line() {
    // A name's characters take ten bytes at most when they are shown, so far beyond each of these
    // bounds is what isn't cut.
    const LINE: usize = 4096;
    for (rules, kind) in [
        (false, RefusalKind::UnknownClient),
        (true, RefusalKind::NotPermitted),
    ] {
        let broker = broker(rules);
        for (number, asked) in endless().iter().enumerate() {
            let refusal = broker.watch(asked, &Caller::default()).unwrap_err();
            let expected = if number < 2 {
                kind
            } else {
                RefusalKind::UnknownScope
            };
            assert_eq!(refusal.kind, expected);
            assert!(refusal.cause.len() < LINE, "{}", refusal.cause.len());
            assert_eq!(refusal.cause.contains('…'), number < 2, "{}", refusal.cause);
            let explained = broker.explain(asked, &Caller::default());
            let shown = [
                explained.client.as_deref().unwrap_or_default(),
                &explained.scope,
            ];
            let ends = shown.map(|text| text.ends_with('…'));
            assert_eq!(ends, [number < 2, number >= 2], "{shown:?}");
            let frame = domo_token_client::frame::encode(&Response::Explanation(explained));
            assert!(frame.unwrap().len() < 2 * LINE && 2 * LINE < MAX_BODY);
        }
    }
}

#[tokio::test]
async fn whatever_is_asked_its_line_in_the_audit_file_is_short() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("audit");
    let (audit, writer) = Audit::open(&path).unwrap();
    let broker = broker(false);
    broker.audit_to(audit.clone());
    for asked in endless() {
        let refusal = Refusal::new(RefusalKind::UnknownClient, "");
        broker.record_audit(&Caller::default(), &asked, Err(&refusal));
    }
    audit.finish(tokio::spawn(writer.run())).await;
    let text = fs::read_to_string(path).unwrap();
    assert_eq!(text.matches('…').count(), 4);
    // Six bytes for each control character (RFC 8259 §7).
    let longest = text.lines().map(str::len).max().unwrap();
    assert!(longest < 6 * MAX_SCOPE_BYTES + 512, "{longest} bytes");
}

#[test]
fn a_name_that_is_cut_is_nobodys_and_ends_with_a_whole_character() {
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
fn caller_without_groups_is_asked_to_try_again_where_it_would_be_denied() {
    let caller = |lacks_groups| Caller {
        uid: Some(1004),
        lacks_groups,
        ..Caller::default()
    };
    let kind = |access, scope, lacks_groups| {
        let refused = broker_with(access).watch(&asked("acme", scope), &caller(lacks_groups));
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
        let refused = broker.watch(&asked(client, scope), &caller(uid));
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

/// A table with that rule for `data`.
fn table(rule: Rule) -> Access {
    Access(BTreeMap::from([(ScopeSet::parse("data").unwrap(), rule)]))
}

#[test]
fn watcher_without_groups_is_asked_to_try_again_where_it_would_be_denied() {
    let scope = ScopeSet::parse("data").unwrap();
    let life = Life {
        generation: 1,
        obtained: BootTime::from_millis(0),
        lifetime: Duration::from_secs(3600),
        expires: BootTime::from_millis(u64::MAX),
    };
    let token = Token::new("acme", &scope, &"text".into(), life).unwrap();
    let caller = |lacks_groups| Caller {
        uid: Some(1004),
        lacks_groups,
        ..Caller::default()
    };
    let broker = broker(false);
    let watch = broker.watch(&asked("acme", "data"), &caller(false));
    let watch = watch.unwrap();
    let kind = |lacks_groups| {
        let reply = watch.confirm(token.clone(), &caller(lacks_groups));
        reply.err().map(|refusal| refusal.kind)
    };
    assert_eq!(kind(false), None);
    let [others, _] = by_name_or_group().map(table);
    broker
        .state()
        .about
        .access
        .insert("acme".to_owned(), others);
    assert_eq!(kind(false), Some(RefusalKind::NotPermitted));
    assert_eq!(kind(true), Some(RefusalKind::Busy));
}
