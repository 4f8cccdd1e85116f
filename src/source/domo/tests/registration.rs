//! Credentials, proxy login and CA file of a source.

use super::*;

#[test]
fn rejection_of_a_login_with_a_paste_mistake_names_it() {
    let mut registration = registration(endpoint("https://domo.example/t")).unwrap();
    registration.proxy_login = Some(ProxyLogin {
        user: "ann".to_owned(),
        password: "c4nary ".into(),
    });
    let message = "the proxy returned 407".to_owned();
    let error = with_paste_mistake(FetchError::ProxyLogin { message }, &registration);
    let message = "the proxy returned 407; the proxy login ends with a space; remove it".to_owned();
    assert_eq!(error, FetchError::ProxyLogin { message });
    // The secret has none.
    let denied = |scope_only| FetchError::Denied {
        scope_only,
        in_domos_form: true,
        message: "Domo returned 401".to_owned(),
    };
    assert_eq!(
        with_paste_mistake(denied(false), &registration),
        denied(false)
    );
    registration.credentials.client_secret = "\"c4nary\"".into();
    assert_eq!(
        with_paste_mistake(denied(true), &registration),
        denied(true)
    );
    assert_ne!(
        with_paste_mistake(denied(false), &registration),
        denied(false)
    );
}

#[test]
fn server_is_trusted_by_the_certificates_of_the_ca_file() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("ca.pem");
    let sandbox = server().https(true).start().unwrap();
    fs::write(&file, sandbox.ca_pem().unwrap()).unwrap();
    let plain = endpoint(&sandbox.token_url());
    let trusting = Endpoint {
        ca_file: Some(file.into()),
        ..plain.clone()
    };
    assert!(fetched_from(trusting).is_ok());
    let Err(FetchError::Transient { cause, message, .. }) = fetched_from(plain) else {
        panic!("it is trusted")
    };
    assert_eq!(cause, Cause::Tls);
    assert!(message.contains("cannot verify 127.0.0.1:"), "{message}");
    assert!(message.contains("ca_file must contain"), "{message}");
}

/// Returns the source of a client whose CA file has that content.
fn source_with_ca(content: &[u8], shared: &Shared) -> Result<DomoSource, SourceError> {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("ca.pem");
    fs::write(&file, content).unwrap();
    let endpoint = Endpoint {
        ca_file: Some(file.into()),
        ..endpoint("https://domo.example/oauth/token")
    };
    DomoSource::new(registration(endpoint).unwrap(), shared)
}

#[test]
fn ca_file_that_is_broken_fails_to_load_and_is_named() {
    let https = Sandbox::builder().https(true).start().unwrap();
    let pem = https.ca_pem().unwrap();
    let shared = Shared::default();
    source_with_ca(pem.as_bytes(), &shared).unwrap();
    let broken = format!("{pem}-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n");
    let error = source_with_ca(broken.as_bytes(), &shared).err().unwrap();
    let (line, message) = (pem.lines().count() + 1, error.to_string());
    let certificate = format!("certificate 2 (line {line}) is malformed");
    assert!(
        message.contains(&certificate) && message.contains("ca.pem"),
        "{message}"
    );
    assert!(!error.is_exhausted());
}

#[test]
fn ca_file_content_is_shared_by_all_clients() {
    let https = Sandbox::builder().https(true).start().unwrap();
    let pem = https.ca_pem().unwrap();
    let shared = Shared::default();
    let [first, second] = [(); 2].map(|()| source_with_ca(pem.as_bytes(), &shared).unwrap());
    let ca = |source: &DomoSource| source.registration().ca.clone().unwrap();
    assert!(Arc::ptr_eq(&ca(&first), &ca(&second)));
    assert_eq!(*ca(&first), *pem.as_bytes());
}
