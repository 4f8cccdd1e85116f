//! Explains why a TLS connection failed, and what to do.

#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "the TLS library has many errors, and may have more"
)]

use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use rustls::pki_types::UnixTime;
use rustls::{AlertDescription, CertificateError, Error, InvalidMessage};

use super::client_certificate::ClientCertificate;
use super::trust::{OwnCertificate, UntrustedIssuer};
use crate::config::{Naming, Setting};

/// What to do if the server supports nothing that is supported here.
const NOTHING_IN_COMMON: &str = "no TLS version, cipher suite, group or key type in common; older TLS is not supported, only \
                                 1.2 and 1.3 with ECDHE (X25519, P-256, P-384), AES-GCM or ChaCha20-Poly1305, and keys \
                                 of RSA, P-256, P-384 or Ed25519";

const UNTRUSTED_ISSUER: &str = "its certificate was issued by a CA that is not trusted here";

const TRUST_ISSUER: &str =
    "must contain the certificate of the CA, and the server must send the intermediate ones";

/// The most names of a certificate in a message.
const MAX_NAMES: usize = 3;

/// Returns whether the other side sent something other than TLS.
pub(super) fn is_plain_text(error: &Error) -> bool {
    matches!(
        error,
        Error::InvalidMessage(InvalidMessage::InvalidContentType)
    )
}

/// Returns what failed on a TLS connection to `server_name`, and what to do. The server may have requested
/// a client certificate without requiring one.
pub(super) fn message(
    error: &Error,
    server_name: &str,
    client_certificate: &ClientCertificate,
    naming: Naming,
) -> String {
    if let Error::InvalidCertificate(problem) = error {
        return format!(
            "cannot verify {server_name}: {}",
            certificate(problem, naming.name(Setting::CA_FILE))
        );
    }
    let message = protocol(error, client_certificate);
    format!("no TLS connection to {server_name}: {message}")
}

fn protocol(error: &Error, client_certificate: &ClientCertificate) -> String {
    if is_plain_text(error) {
        return "it responds in plain text, as an http port does; check scheme and port".to_owned();
    }
    match error {
        Error::AlertReceived(AlertDescription::CertificateRequired) => {
            format!("the server {}", client_certificate.advice())
        }
        Error::AlertReceived(alert)
            if client_certificate.was_requested() && is_about_certificate(*alert) =>
        {
            format!("the server {}", client_certificate.advice())
        }
        Error::PeerIncompatible(_)
        | Error::AlertReceived(
            AlertDescription::HandshakeFailure
            | AlertDescription::ProtocolVersion
            | AlertDescription::InsufficientSecurity,
        ) => NOTHING_IN_COMMON.to_owned(),
        Error::AlertReceived(AlertDescription::UnrecognisedName) => {
            "the server does not recognize this host name; check the host".to_owned()
        }
        Error::NoApplicationProtocol
        | Error::AlertReceived(AlertDescription::NoApplicationProtocol) => {
            "the server does not speak HTTP/1.1, and HTTP/2 is not supported".to_owned()
        }
        Error::AlertReceived(alert) => {
            let number = u8::from(*alert);
            format!("the server ended the handshake with TLS alert {number}; ask its operator")
        }
        other => format!("{other}; check scheme, host and port"),
    }
}

/// Returns whether servers send that alert to a client whose certificate is missing or not accepted.
fn is_about_certificate(alert: AlertDescription) -> bool {
    matches!(
        alert,
        AlertDescription::HandshakeFailure
            | AlertDescription::NoCertificate
            | AlertDescription::BadCertificate
            | AlertDescription::UnsupportedCertificate
            | AlertDescription::CertificateUnknown
            | AlertDescription::CertificateExpired
            | AlertDescription::UnknownCA
            | AlertDescription::AccessDenied
    )
}

fn certificate(problem: &CertificateError, ca_file: &str) -> String {
    match problem {
        CertificateError::UnknownIssuer => format!("{UNTRUSTED_ISSUER}; {ca_file} {TRUST_ISSUER}"),
        CertificateError::ExpiredContext { time, not_after } => format!(
            "its certificate expired on {}, and it is {} by the clock of this machine; renew the certificate or \
             set the clock",
            date(*not_after),
            date(*time)
        ),
        CertificateError::NotValidYetContext { time, not_before } => format!(
            "its certificate is valid only from {}, and it is {} by the clock of this machine; set the clock",
            date(*not_before),
            date(*time)
        ),
        CertificateError::NotValidForNameContext {
            expected,
            presented,
        } => other_name(&expected.to_str(), presented),
        CertificateError::UnsupportedSignatureAlgorithmContext { .. }
        | CertificateError::UnsupportedSignatureAlgorithmForPublicKeyContext { .. } => {
            "its certificate, or a CA's above it, is signed in a way that is not supported; supported are RSA with \
             SHA-256, SHA-384 and SHA-512, P-256 and P-384 with SHA-256 and SHA-384, and Ed25519"
                .to_owned()
        }
        CertificateError::BadSignature => {
            format!(
                "its certificate is not signed by the known certificate of the CA that it names: \
                 {ca_file} must contain the issuer's current certificate, and RSA keys below 2048 bits \
                 are not supported"
            )
        }
        CertificateError::Revoked => "its certificate was revoked".to_owned(),
        CertificateError::BadEncoding | CertificateError::Expired | CertificateError::NotValidYet => {
            MALFORMED.to_owned()
        }
        CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
            "its certificate, or a CA's above it, is not for servers (extended key usage)".to_owned()
        }
        CertificateError::Other(other) if other.0.is::<OwnCertificate>() => {
            format!("{ca_file} must contain the issuer's certificate, not the server's own")
        }
        CertificateError::Other(other) if other.0.is::<UntrustedIssuer>() => {
            format!("{UNTRUSTED_ISSUER} ({}); {ca_file} {TRUST_ISSUER}", other.0)
        }
        CertificateError::Other(other) => of_verifier(&other.0.to_string()),
        other => format!("its certificate is not accepted ({other})"),
    }
}

/// Returns the problem of a certificate for other hosts than `expected`.
fn other_name(expected: &str, presented: &[String]) -> String {
    if presented.is_empty() {
        return format!(
            "its certificate names no host, and not {expected}; a name only in the CN is not supported"
        );
    }
    let shown = presented.iter().take(MAX_NAMES);
    let mut shown = shown
        .map(|name| plain_name(name))
        .collect::<Vec<_>>()
        .join(", ");
    if presented.len() > MAX_NAMES {
        let more = presented.len() - MAX_NAMES;
        shown = format!("{shown} and {more} more");
    }
    format!("its certificate is for {shown}, and not for {expected}; check the host")
}

const MALFORMED: &str = "its certificate is malformed";

/// Explains what the verifier reports only as text.
fn of_verifier(message: &str) -> String {
    let message = match message {
        "CaUsedAsEndEntity" => {
            "it presents a CA certificate as its own, which is not supported; give it a certificate with CA:FALSE"
        }
        "UnsupportedCertVersion" => {
            "its certificate has X.509 version 1, which is not supported; give it one of version 3"
        }
        "UnsupportedCriticalExtension" => {
            "its certificate, or a CA's above it, has a critical extension that is not supported; give it one without"
        }
        "EndEntityUsedAsCa" => {
            "its certificate was issued with one that is not for a CA; it must be issued by a CA (CA:TRUE)"
        }
        "PathLenConstraintViolated" => {
            "there are more CAs above its certificate than one of them allows (path length)"
        }
        "NameConstraintViolation" => {
            "a CA above its certificate must not issue certificates for its names (name constraints)"
        }
        _ if message.starts_with("Maximum") => "its chain of certificates is too long",
        _ if message.starts_with("Malformed") || message.starts_with("Invalid") => MALFORMED,
        _ => return format!("its certificate is not accepted ({message})"),
    };
    message.to_owned()
}

/// Returns a name without the TLS library's `DnsName("…")` or `IpAddress(…)`. An address counts only as the latter.
fn plain_name(name: &str) -> String {
    let inner = name
        .split_once('(')
        .and_then(|(_, rest)| rest.strip_suffix(')'));
    let inner = inner.unwrap_or(name);
    match inner
        .strip_prefix('"')
        .and_then(|text| text.strip_suffix('"'))
    {
        Some(dns) if dns.parse::<IpAddr>().is_ok() => format!("the DNS name {dns}"),
        Some(dns) => dns.to_owned(),
        None => inner.to_owned(),
    }
}

fn date(time: UnixTime) -> String {
    let since = Duration::from_secs(time.as_secs());
    let time = SystemTime::UNIX_EPOCH.checked_add(since);
    time.map_or_else(|| "an unknown date".to_owned(), httpdate::fmt_http_date)
}

#[cfg(test)]
mod tests {
    use rustls::client::ResolvesClientCert;

    use super::super::client_certificate::Offer;
    use super::*;

    const CLIENT_CERTIFICATE: &str =
        "the server requires a client certificate, which is not supported";

    #[test]
    fn only_alerts_about_certificates_are_blamed_on_one_that_was_requested() {
        let of = |alert, was_requested| {
            let error = Error::AlertReceived(alert);
            let client_certificate = ClientCertificate::new(Offer::Unsupported);
            if was_requested {
                assert!(client_certificate.resolve(&[], &[]).is_none());
            }
            message(&error, "domo.example", &client_certificate, Naming::Keys)
        };
        for alert in [
            AlertDescription::BadCertificate,
            AlertDescription::HandshakeFailure,
        ] {
            assert!(of(alert, true).ends_with(CLIENT_CERTIFICATE), "{alert:?}");
            assert!(!of(alert, false).contains("client certificate"));
        }
        let required = AlertDescription::CertificateRequired;
        assert!(of(required, false).ends_with(CLIENT_CERTIFICATE));
        for alert in [
            AlertDescription::InternalError,
            AlertDescription::ProtocolVersion,
        ] {
            assert_eq!(of(alert, true), of(alert, false));
        }
    }

    #[test]
    fn problem_in_the_chain_is_named_in_plain_words() {
        for (problem, message) in [
            ("UnsupportedCriticalExtension", "a critical extension"),
            ("EndEntityUsedAsCa", "it must be issued by a CA"),
            ("PathLenConstraintViolated", "(path length)"),
            ("NameConstraintViolation", "(name constraints)"),
            ("MaximumPathDepthExceeded", "is too long"),
            ("MalformedExtensions", "is malformed"),
        ] {
            let shown = of_verifier(problem);
            assert!(
                shown.contains(message) && !shown.contains(problem),
                "{shown}"
            );
        }
    }
}
