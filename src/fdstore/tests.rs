//! Stored tokens are restored, and nothing else is.

use super::*;

const NOW: BootTime = BootTime::from_millis(1_000_000);

fn origin() -> Origin {
    Origin {
        client_id: "id".to_owned(),
        token_url: "https://api.domo.com/oauth/token".to_owned(),
    }
}

fn stored(scope: &str) -> StoredToken {
    let validity = Validity {
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
        snapshot: TokenSnapshot {
            token: Token::new("acme", &scope, &text, validity).unwrap(),
            renew_at: Some(BootTime::from_millis(3_000_000)),
        },
        scope,
    }
}

fn snapshot_of(stored: Vec<StoredToken>, written: u64) -> Snapshot {
    Snapshot {
        form: FORMAT,
        boot: boot_id().unwrap(),
        written: BootTime::from_millis(written),
        tokens: stored.into_iter().map(Record::of).collect(),
    }
}

fn file_of(snapshot: &Snapshot) -> File {
    sealed_memfd(&serde_json::to_vec(snapshot).unwrap()).unwrap()
}

fn restored(files: Vec<File>, now: BootTime) -> Vec<StoredToken> {
    StoredTokens::read(files).tokens(now)
}

#[test]
fn stored_tokens_are_restored_unchanged() {
    let file = file_of(&snapshot_of(vec![stored("data"), stored("data user")], 1));
    let restored = restored(vec![file], NOW);
    assert_eq!(restored.len(), 2);
    for scope in ["data", "data user"] {
        let stored = stored(scope);
        let found = restored
            .iter()
            .find(|found| found.scope == stored.scope)
            .unwrap();
        assert_eq!(
            (&found.client, &found.origin),
            (&stored.client, &stored.origin)
        );
        assert_eq!(found.snapshot, stored.snapshot);
        assert_eq!(
            found.snapshot.token.validity(),
            stored.snapshot.token.validity()
        );
    }
}

#[test]
fn expired_or_implausible_tokens_are_not_restored() {
    let file = || file_of(&snapshot_of(vec![stored("data")], 1));
    for now in [0, 899_999, 4_499_000, 9_000_000] {
        let now = BootTime::from_millis(now);
        assert!(restored(vec![file()], now).is_empty(), "{now}");
    }
    let mut snapshot = snapshot_of(vec![stored("data")], 1);
    for record in &mut snapshot.tokens {
        record.expires = NOW + Duration::from_secs(86_401);
    }
    assert!(restored(vec![file_of(&snapshot)], NOW).is_empty());
}

#[test]
fn snapshots_of_another_boot_or_format_or_unsealed_are_ignored() {
    let mut foreign = snapshot_of(vec![stored("data")], 1);
    foreign.boot = "another".to_owned();
    let mut old = snapshot_of(vec![stored("data")], 1);
    old.form = 0;
    let garbage = sealed_memfd(b"c4nary-garbage").unwrap();
    let text = serde_json::to_vec(&snapshot_of(vec![stored("data")], 1)).unwrap();
    let mut open = tempfile::tempfile().unwrap();
    open.write_all(&text).unwrap();
    for file in [file_of(&foreign), file_of(&old), garbage, open] {
        assert!(restored(vec![file], NOW).is_empty());
    }
}

#[test]
fn newest_snapshot_is_restored() {
    let older = file_of(&snapshot_of(vec![stored("data")], 1));
    let newer = file_of(&snapshot_of(vec![stored("user")], 2));
    let newest = restored(vec![older, newer], NOW);
    let scopes: Vec<&str> = newest.iter().map(|stored| stored.scope.as_str()).collect();
    assert_eq!(scopes, ["user"]);
}

#[test]
fn nobody_can_change_what_is_sealed_memfd() {
    let mut file = file_of(&snapshot_of(vec![stored("data")], 1));
    assert!(file.write_all(b"x").is_err() && file.set_len(0).is_err());
}

#[test]
fn text_that_is_not_a_valid_token_is_not_restored() {
    let whole = serde_json::to_string(&snapshot_of(vec![stored("data")], 1)).unwrap();
    let changed = whole.replace("c4nary-token", "x;id");
    let file = sealed_memfd(changed.as_bytes()).unwrap();
    assert!(restored(vec![file], NOW).is_empty());
}
