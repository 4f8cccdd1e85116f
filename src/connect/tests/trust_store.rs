//! The system's trust store while it changes, and what is shared.

use std::fs;

use super::super::trust::SystemStore;
use super::*;

#[test]
fn change_of_the_systems_store_counts_from_the_next_attempt_on() {
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().join("store.pem");
    let (sandbox, other) = (https(), https());
    let shared = Shared {
        trust: Arc::new(TrustStores::with_system(SystemStore::of_file(
            store.clone(),
        ))),
        ..Shared::default()
    };
    let connector = Connector::new(&shared, None, None).unwrap();
    let url = sandbox.token_url();
    let refuses = |words: &str| {
        let error = failure(&connector, &url);
        assert!(error.message.contains(words), "{error}");
    };
    let [own, others] = [&sandbox, &other].map(|sandbox| sandbox.ca_pem().unwrap());
    refuses("install ca-certificates");
    fs::write(&store, &others).unwrap();
    refuses("ca_file must hold");
    fs::write(&store, format!("{others}{own}")).unwrap();
    assert_eq!(first_line(&connector, &url), NOT_FOUND);
    assert_eq!(first_line(&connector, &url), NOT_FOUND);
    // Put in its place, as update-ca-certificates does.
    let new = folder.path().join("new.pem");
    fs::write(&new, &others).unwrap();
    fs::rename(&new, &store).unwrap();
    refuses("ca_file must hold");
    fs::remove_file(&store).unwrap();
    refuses("install ca-certificates");
}

fn https() -> Sandbox {
    Sandbox::builder().https(true).start().unwrap()
}

#[test]
fn store_is_read_once_while_it_does_not_change() {
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().join("store.pem");
    fs::write(&store, https().ca_pem().unwrap()).unwrap();
    let system = SystemStore::of_file(store.clone());
    let current = || block_on(system.current()).unwrap();
    let (first, second) = (current(), current());
    assert_eq!(first.0, second.0);
    assert!(Arc::ptr_eq(&first.1.unwrap(), &second.1.unwrap()));
    fs::write(&store, https().ca_pem().unwrap()).unwrap();
    assert_ne!(current().0, first.0);
}

#[test]
fn what_is_trusted_is_kept_once_for_each_ca_file_while_it_is_used() {
    let [one, other] = [https(), https()].map(|sandbox| sandbox.ca_pem().unwrap());
    let shared = Shared::default();
    let connector = |ca: Option<&String>, proxy: Option<&str>| {
        let ca = ca.map(|ca| (ca.as_bytes(), "ca.pem"));
        Connector::new(&shared, ca, proxy.and_then(through)).unwrap()
    };
    let proxied = connector(None, Some("http://proxy.example"));
    let plain: Vec<Connector> = (0..300).map(|_| connector(None, None)).collect();
    assert!(
        plain
            .iter()
            .all(|plain| Arc::ptr_eq(&plain.trust, &proxied.trust))
    );
    let with = connector(Some(&one), None);
    let same = connector(Some(&one), Some("http://proxy.example"));
    assert!(Arc::ptr_eq(&with.trust, &same.trust));
    let with_other = connector(Some(&other), None);
    assert!(!Arc::ptr_eq(&with.trust, &with_other.trust));
    assert_eq!(shared.trust.count(), 3);
    drop((with, same, with_other, plain));
    assert_eq!(shared.trust.count(), 1, "what no client uses is forgotten");
    drop(proxied);
    assert_eq!(shared.trust.count(), 0);
}

#[test]
fn http_and_a_ca_file_need_no_trust_store_and_https_alone_names_the_package() {
    let shared = Shared {
        trust: Arc::new(TrustStores::with_system(SystemStore::of_file(
            "/nonexistent".into(),
        ))),
        ..Shared::default()
    };
    let plain = Sandbox::builder().start().unwrap();
    let https = Sandbox::builder().https(true).start().unwrap();
    let ca = https.ca_pem().unwrap();
    let without = Connector::new(&shared, None, None).unwrap();
    let with = Connector::new(&shared, Some((ca.as_bytes(), "ca.pem")), None).unwrap();
    assert_eq!(first_line(&without, &plain.token_url()), NOT_FOUND);
    assert_eq!(first_line(&with, &https.token_url()), NOT_FOUND);
    let error = failure(&without, &https.token_url());
    assert!(matches!(error.failure, ConnectFailure::Tls));
    assert!(
        error.message.ends_with("; install ca-certificates"),
        "{error}"
    );
}
