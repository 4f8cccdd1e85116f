//! Servers whose certificate or TLS is not accepted.

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, SanType};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig, ServerConnection, StreamOwned};

use super::*;

/// A server's certificate, and that of its CA.
pub(crate) struct Identity {
    pub(crate) ca: String,
    /// The server's own.
    pub(crate) own: String,
    pub(crate) config: ServerConfig,
}

/// Returns a certificate for localhost and 127.0.0.1, as adjusted.
pub(crate) fn identity(adjust: impl FnOnce(&mut CertificateParams)) -> Identity {
    let mut authority = CertificateParams::new(Vec::new()).unwrap();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    // Else all have the same.
    let name = format!("CA {}", fastrand::u64(..));
    authority.distinguished_name.push(DnType::CommonName, name);
    let key = KeyPair::generate().unwrap();
    let authority = CertifiedIssuer::self_signed(authority, key).unwrap();
    let names = ["localhost", "127.0.0.1"].map(str::to_owned);
    let mut own = CertificateParams::new(names).unwrap();
    adjust(&mut own);
    let key = KeyPair::generate().unwrap();
    let own = own.signed_by(&key, &authority).unwrap();
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let config = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![own.der().clone()], key)
        .unwrap();
    Identity {
        ca: authority.pem(),
        own: own.pem(),
        config,
    }
}

/// Requests a certificate of the CA from clients, and requires it or not.
pub(crate) fn with_client_certificates(
    identity: &mut Identity,
    version: &'static rustls::SupportedProtocolVersion,
    is_required: bool,
) {
    let mut roots = RootCertStore::empty();
    for certificate in ca_file::certificates(identity.ca.as_bytes(), "ca").unwrap() {
        roots.add(certificate).unwrap();
    }
    let roots = Arc::new(roots);
    let mut verifier = WebPkiClientVerifier::builder_with_provider(roots, provider());
    if !is_required {
        verifier = verifier.allow_unauthenticated();
    }
    let builder = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[version])
        .unwrap()
        .with_client_cert_verifier(verifier.build().unwrap());
    let resolver = Arc::clone(&identity.config.cert_resolver);
    identity.config = builder.with_cert_resolver(resolver);
}

/// Lets `serve` have each connection, after TLS. Returns the URL.
pub(crate) fn tls_server(
    config: ServerConfig,
    serve: impl Fn(&mut StreamOwned<ServerConnection, TcpStream>) -> io::Result<()> + Send + 'static,
) -> String {
    let config = Arc::new(config);
    let address = server(move |stream| {
        let connection = ServerConnection::new(Arc::clone(&config)).unwrap();
        // Clients that end the handshake are what is tested.
        let _ = serve(&mut StreamOwned::new(connection, stream));
    });
    format!("https://{address}/oauth/token")
}

/// Returns the error of connecting to a server with this TLS config, with `ca` as the CA file.
fn refusal(config: ServerConfig, ca: &str) -> String {
    let url = tls_server(config, Write::flush);
    let error = failure(&connector(Some(ca), None), &url);
    assert!(matches!(error.failure, ConnectFailure::Tls), "{error:?}");
    let address = url
        .strip_prefix("https://")
        .unwrap()
        .strip_suffix("/oauth/token");
    error.message.replace(address.unwrap(), "ADDRESS")
}

#[test]
fn certificate_that_is_not_accepted_is_named_with_what_helps() {
    let past = |params: &mut CertificateParams| params.not_after = rcgen::date_time_ymd(2020, 1, 1);
    let future =
        |params: &mut CertificateParams| params.not_before = rcgen::date_time_ymd(2099, 1, 1);
    let is_ca =
        |params: &mut CertificateParams| params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let names = |names: &[&str]| {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        move |params: &mut CertificateParams| {
            params.subject_alt_names = CertificateParams::new(names).unwrap().subject_alt_names;
        }
    };
    let by_address = |params: &mut CertificateParams| {
        let address = "127.0.0.1".try_into().unwrap();
        params.subject_alt_names = vec![
            SanType::DnsName(address),
            SanType::IpAddress([10, 0, 0, 1].into()),
        ];
    };
    for (identity, expected) in [
        (
            identity(past),
            "its certificate expired on Wed, 01 Jan 2020 00:00:00 GMT",
        ),
        (
            identity(future),
            "its certificate is valid only from Thu, 01 Jan 2099 00:00:00 GMT",
        ),
        (
            identity(is_ca),
            "it presents a CA certificate as its own, which is not supported",
        ),
        (
            identity(names(&["elsewhere.example", "other.example"])),
            "its certificate is for elsewhere.example, other.example, and not for 127.0.0.1; check the host",
        ),
        (
            identity(names(&[
                "a.example",
                "b.example",
                "c.example",
                "d.example",
                "e.example",
            ])),
            "its certificate is for a.example, b.example, c.example and 2 more, and not for 127.0.0.1; check the host",
        ),
        (
            identity(by_address),
            "its certificate is for the DNS name 127.0.0.1, 10.0.0.1, and not for 127.0.0.1; check the host",
        ),
    ] {
        let message = refusal(identity.config, &identity.ca);
        let start = format!("cannot verify ADDRESS: {expected}");
        assert!(message.starts_with(&start), "{message}");
    }
}

#[test]
fn unknown_issuer_and_the_servers_own_certificate_in_ca_file_differ() {
    let other = identity(|_| ()).ca;
    let Identity { config, own, .. } = identity(|_| ());
    let message = refusal(config.clone(), &other);
    assert!(
        message.contains("issued by a CA that is not trusted here")
            && message.contains("; ca_file must contain"),
        "{message}"
    );
    let message = refusal(config, &own);
    let expected = "cannot verify ADDRESS: ca_file must contain the issuer's certificate, not the server's own";
    assert_eq!(message, expected);
}

#[test]
fn server_without_http_1_1_is_named() {
    let Identity { ca, mut config, .. } = identity(|_| ());
    config.alpn_protocols = vec![b"h2".to_vec()];
    let message = refusal(config, &ca);
    assert!(
        message.ends_with("the server does not speak HTTP/1.1, and HTTP/2 is not supported"),
        "{message}"
    );
}

#[test]
fn client_certificate_that_is_required_is_named_with_tls_1_2() {
    let mut identity = identity(|_| ());
    with_client_certificates(&mut identity, &rustls::version::TLS12, true);
    let message = refusal(identity.config, &identity.ca);
    assert!(
        message.ends_with("requires a client certificate, which is not supported"),
        "{message}"
    );
}

#[test]
fn non_tls_and_old_tls_are_distinguished() {
    for (answer, expected) in [
        (
            &b"HTTP/1.1 400 Bad Request\r\n\r\n"[..],
            "it responds in plain text, as an http port does",
        ),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "it responds in plain text"),
        (
            b"\x15\x03\x03\0\x02\x02\x28",
            "no TLS version, cipher suite, group or key type in common; older TLS is not supported",
        ),
        (
            b"\x15\x03\x01\0\x02\x02\x46",
            "no TLS version, cipher suite, group or key type in common; older TLS is not supported",
        ),
        (
            b"\x15\x03\x03\0\x02\x02\x70",
            "the server does not recognize this host name",
        ),
    ] {
        let address = server(move |mut stream| {
            let _ = stream.read(&mut [0; 4096]);
            let _ = stream.write_all(answer);
        });
        let error = failure(&connector(None, None), &format!("https://{address}/"));
        let start = format!("no TLS connection to {address}: {expected}");
        assert!(error.message.starts_with(&start), "{error}");
        assert!(matches!(error.failure, ConnectFailure::Tls), "{error:?}");
    }
}

#[test]
fn connection_closed_during_the_handshake_is_not_a_trust_error() {
    let address = server(|mut stream| {
        let _ = stream.read(&mut [0; 4096]);
    });
    let error = failure(&connector(None, None), &format!("https://{address}/"));
    let expected =
        format!("the connection to {address} ended during the TLS handshake: closed by the peer");
    assert_eq!(error.message, expected);
    assert!(matches!(error.failure, ConnectFailure::Unreachable));
}
