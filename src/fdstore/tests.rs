//! What is handed over comes back, and nothing else does.

use super::*;

const NOW: BootTime = BootTime::from_millis(1_000_000);

fn origin() -> Origin {
    Origin {
        client_id: "id".to_owned(),
        token_url: "https://api.domo.com/oauth/token".to_owned(),
    }
}

fn held(scope: &str) -> StoredToken {
    let life = Life {
        generation: 7,
        obtained: BootTime::from_millis(900_000),
        lifetime: Duration::from_secs(3599),
        expires: BootTime::from_millis(4_499_000),
    };
    let scope = ScopeSet::parse(scope).unwrap();
    let text: SecretString = "c4nary-token".into();
    StoredToken {
        client: "acme".to_owned(),
        origin: origin(),
        kept: TokenSnapshot {
            token: Token::new("acme", &scope, &text, life).unwrap(),
            renew_at: Some(BootTime::from_millis(3_000_000)),
        },
        scope,
    }
}

fn page_of(held: Vec<StoredToken>, written: u64) -> Snapshot {
    Snapshot {
        form: FORM,
        boot: boot_id().unwrap(),
        written: BootTime::from_millis(written),
        tokens: held.into_iter().map(Record::of).collect(),
    }
}

fn file_of(page: &Snapshot) -> File {
    sealed(&serde_json::to_vec(page).unwrap()).unwrap()
}

fn back(files: Vec<File>, now: BootTime) -> Vec<StoredToken> {
    StoredTokens::read(files).tokens(now)
}

#[test]
fn what_was_handed_over_comes_back_as_it_was() {
    let file = file_of(&page_of(vec![held("data"), held("data user")], 1));
    let back = back(vec![file], NOW);
    assert_eq!(back.len(), 2);
    for scope in ["data", "data user"] {
        let held = held(scope);
        let found = back.iter().find(|found| found.scope == held.scope).unwrap();
        assert_eq!((&found.client, &found.origin), (&held.client, &held.origin));
        assert_eq!(found.kept, held.kept);
        assert_eq!(found.kept.token.life(), held.kept.token.life());
    }
}

#[test]
fn the_dead_stay_dead_and_nothing_lives_longer_than_it_can() {
    let file = || file_of(&page_of(vec![held("data")], 1));
    for now in [0, 899_999, 4_499_000, 9_000_000] {
        let now = BootTime::from_millis(now);
        assert!(back(vec![file()], now).is_empty(), "{now}");
    }
    let mut page = page_of(vec![held("data")], 1);
    for record in &mut page.tokens {
        record.expires = NOW + Duration::from_secs(86_401);
    }
    assert!(back(vec![file_of(&page)], NOW).is_empty());
}

#[test]
fn what_is_of_another_boot_or_form_or_open_to_changes_is_left_out() {
    let mut foreign = page_of(vec![held("data")], 1);
    foreign.boot = "another".to_owned();
    let mut old = page_of(vec![held("data")], 1);
    old.form = 0;
    let garbage = sealed(b"c4nary-garbage").unwrap();
    let text = serde_json::to_vec(&page_of(vec![held("data")], 1)).unwrap();
    let mut open = tempfile::tempfile().unwrap();
    open.write_all(&text).unwrap();
    for file in [file_of(&foreign), file_of(&old), garbage, open] {
        assert!(back(vec![file], NOW).is_empty());
    }
}

#[test]
fn of_two_the_newer_counts() {
    let older = file_of(&page_of(vec![held("data")], 1));
    let newer = file_of(&page_of(vec![held("user")], 2));
    let kept = back(vec![older, newer], NOW);
    let scopes: Vec<&str> = kept.iter().map(|held| held.scope.as_str()).collect();
    assert_eq!(scopes, ["user"]);
}

#[test]
fn nobody_can_change_what_is_sealed() {
    let mut file = file_of(&page_of(vec![held("data")], 1));
    assert!(file.write_all(b"x").is_err() && file.set_len(0).is_err());
}

#[test]
fn a_text_that_no_token_has_is_not_taken_back() {
    let whole = serde_json::to_string(&page_of(vec![held("data")], 1)).unwrap();
    let changed = whole.replace("c4nary-token", "x;id");
    let file = sealed(changed.as_bytes()).unwrap();
    assert!(back(vec![file], NOW).is_empty());
}
