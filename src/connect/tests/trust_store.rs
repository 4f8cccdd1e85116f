//! The system's trust store while it changes, and what is shared.

use std::fs;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, mpsc};

use super::super::trust::SystemStore;
use super::*;

#[test]
fn change_of_the_system_store_applies_to_the_next_attempt() {
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().join("store.pem");
    let (sandbox, other) = (https(), https());
    let shared = Shared {
        trust: Arc::new(TrustStores::with_system(SystemStore::of_file(
            store.clone(),
        ))),
        ..Shared::default()
    };
    let connector = Connector::new(&shared, None, None, Naming::Keys).unwrap();
    let url = sandbox.token_url();
    let fails_with = |message: &str| {
        let error = failure(&connector, &url);
        assert!(error.message.contains(message), "{error}");
    };
    let [own, others] = [&sandbox, &other].map(|sandbox| sandbox.ca_pem().unwrap());
    fails_with("install ca-certificates");
    fs::write(&store, &others).unwrap();
    fails_with("ca_file must contain");
    fs::write(&store, format!("{others}{own}")).unwrap();
    assert_eq!(first_line(&connector, &url), NOT_FOUND);
    assert_eq!(first_line(&connector, &url), NOT_FOUND);
    // Put in its place, as update-ca-certificates does.
    let new = folder.path().join("new.pem");
    fs::write(&new, &others).unwrap();
    fs::rename(&new, &store).unwrap();
    fails_with("ca_file must contain");
    fs::remove_file(&store).unwrap();
    fails_with("install ca-certificates");
}

#[test]
fn hanging_store_uses_one_thread_and_keeps_the_certificates_already_read() {
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().join("store.pem");
    let sandbox = https();
    let ca = sandbox.ca_pem().unwrap();
    fs::write(&store, &ca).unwrap();
    for was_read in [false, true] {
        let readings = Arc::new(AtomicUsize::new(0));
        let (go, gone) = mpsc::channel::<()>();
        let (gone, counted) = (Mutex::new(gone), Arc::clone(&readings));
        let system = SystemStore::of_file_after(store.clone(), move || {
            let count = counted.fetch_add(1, Ordering::Relaxed);
            if count > 0 || !was_read {
                let _ = gone.lock().unwrap().recv();
            }
        });
        let trust = TrustStores::with_system(system);
        let alone = trust.with_ca(None).unwrap();
        let with = trust.with_ca(Some((ca.as_bytes(), "ca.pem"))).unwrap();
        block_on(async {
            if was_read {
                until(async || alone.config().await.is_ok()).await;
            }
            for _ in 0..64 {
                let result = alone.config().await;
                let problem = "it could not be read within 0 s";
                let is_expected = match result {
                    Ok(_) => was_read,
                    Err(error) => !was_read && error.starts_with(problem),
                };
                assert!(is_expected);
                with.config().await.unwrap();
            }
            let hung = usize::from(was_read) + 1;
            until(async || readings.load(Ordering::Relaxed) == hung).await;
            drop(go);
            until(async || alone.config().await.is_ok()).await;
        });
    }
}

async fn until(condition: impl AsyncFn() -> bool) {
    while !condition().await {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[test]
fn unknown_issuer_names_a_store_that_cannot_be_used() {
    let sandbox = https();
    // Sandboxes' CAs have the same name.
    let ca = tls::identity(|_| ()).ca;
    let shared = Shared {
        trust: Arc::new(TrustStores::with_system(SystemStore::of_file(
            "/nonexistent".into(),
        ))),
        ..Shared::default()
    };
    let connector =
        Connector::new(&shared, Some((ca.as_bytes(), "ca.pem")), None, Naming::Keys).unwrap();
    let error = failure(&connector, &sandbox.token_url());
    let message =
        "that is not trusted here (cannot use the system's trust store: it has no certificate";
    assert!(error.message.contains(message), "{error}");
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
    assert!(Arc::ptr_eq(&first.1.verifier, &second.1.verifier));
    fs::write(&store, https().ca_pem().unwrap()).unwrap();
    assert_ne!(current().0, first.0);
}

#[test]
fn trust_roots_are_shared_per_ca_file_while_in_use() {
    let [one, other] = [https(), https()].map(|sandbox| sandbox.ca_pem().unwrap());
    let shared = Shared::default();
    let connector = |ca: Option<&String>, proxy: Option<&str>| {
        let ca = ca.map(|ca| (ca.as_bytes(), "ca.pem"));
        Connector::new(&shared, ca, proxy.and_then(through), Naming::Keys).unwrap()
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
    let without = Connector::new(&shared, None, None, Naming::Keys).unwrap();
    let with =
        Connector::new(&shared, Some((ca.as_bytes(), "ca.pem")), None, Naming::Keys).unwrap();
    assert_eq!(first_line(&without, &plain.token_url()), NOT_FOUND);
    assert_eq!(first_line(&with, &https.token_url()), NOT_FOUND);
    let error = failure(&without, &https.token_url());
    assert!(matches!(error.failure, ConnectFailure::Tls));
    assert!(
        error.message.ends_with("; install ca-certificates"),
        "{error}"
    );
}
