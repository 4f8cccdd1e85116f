//! PURE. Why a TLS connection failed, in plain words and with what helps.

#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "the TLS library has many errors, and may have more"
)]

use std::time::{Duration, SystemTime};

use rustls::pki_types::UnixTime;
use rustls::{AlertDescription, CertificateError, Error, InvalidMessage};

use super::trust::OwnCertificate;

/// What servers offer that is not supported.
const OLD_TLS: &str = "the server offers only old TLS, which is not supported (below 1.2, or CBC or RSA key \
                       exchange alone), or only a certificate with a P-521 key";

/// That a client certificate is wanted.
pub(super) const CLIENT_CERTIFICATE: &str =
    "the server wants a client certificate, which is not supported";

/// Whether the other side sent something that is no TLS.
pub(super) fn is_plain_text(error: &Error) -> bool {
    matches!(
        error,
        Error::InvalidMessage(InvalidMessage::InvalidContentType)
    )
}

/// Returns what failed on a TLS connection to `place`, and what to do. `wants_certificate` is whether the
/// server has requested a client certificate.
pub(super) fn message(error: &Error, place: &str, wants_certificate: bool) -> String {
    if let Error::InvalidCertificate(problem) = error {
        return format!("{place} can't be trusted: {}", certificate(problem));
    }
    let words = protocol(error, wants_certificate);
    format!("no TLS connection to {place}: {words}")
}

fn protocol(error: &Error, wants_certificate: bool) -> String {
    if is_plain_text(error) {
        return "it answers in plain text, as a port that speaks http does; check scheme and port"
            .to_owned();
    }
    match error {
        Error::AlertReceived(AlertDescription::CertificateRequired) => {
            CLIENT_CERTIFICATE.to_owned()
        }
        Error::AlertReceived(_) if wants_certificate => CLIENT_CERTIFICATE.to_owned(),
        Error::PeerIncompatible(_)
        | Error::AlertReceived(
            AlertDescription::HandshakeFailure
            | AlertDescription::ProtocolVersion
            | AlertDescription::InsufficientSecurity,
        ) => OLD_TLS.to_owned(),
        Error::AlertReceived(AlertDescription::UnrecognisedName) => {
            "the server does not know this host name; check the host".to_owned()
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

fn certificate(problem: &CertificateError) -> String {
    match problem {
        CertificateError::UnknownIssuer => {
            "its certificate was issued by a CA that is not trusted here; ca_file must hold the certificate of \
             the issuer (the CA), and the server must send those in between"
                .to_owned()
        }
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
        } => {
            let expected = expected.to_str();
            if presented.is_empty() {
                return format!(
                    "its certificate is for no host, and not for {expected}; a name in the CN alone is not supported"
                );
            }
            let presented = presented.iter().map(|name| plain_name(name));
            let presented: Vec<String> = presented.collect();
            format!(
                "its certificate is for {}, and not for {expected}; check the host",
                presented.join(", ")
            )
        }
        CertificateError::UnsupportedSignatureAlgorithmContext { .. }
        | CertificateError::UnsupportedSignatureAlgorithmForPublicKeyContext { .. } => {
            "its certificate is signed in a way that is not supported (such as ECDSA with P-521, P-256 with \
             SHA-512, or SHA-1)"
                .to_owned()
        }
        CertificateError::BadSignature => {
            "its certificate is not signed by the CA that it names, as far as this CA is known: ca_file must hold \
             the issuer's current certificate, and RSA keys below 2048 bits are not supported"
                .to_owned()
        }
        CertificateError::Revoked => "its certificate was revoked".to_owned(),
        CertificateError::BadEncoding => "its certificate is malformed".to_owned(),
        CertificateError::Other(other) if other.0.is::<OwnCertificate>() => {
            "ca_file must hold the issuer's certificate, not the server's own".to_owned()
        }
        other => of_verifier(&other.to_string()),
    }
}

/// What the verifier reports in its own words. These are no types of the TLS library.
fn of_verifier(words: &str) -> String {
    if words.contains("CaUsedAsEndEntity") {
        return "it presents a CA certificate as its own, which is not supported; give it a certificate with \
                CA:FALSE"
            .to_owned();
    }
    if words.contains("UnsupportedCertVersion") {
        return "its certificate has X.509 version 1, which is not supported; give it one of version 3"
            .to_owned();
    }
    if words.contains("InvalidPurpose") || words.contains("extended key usage") {
        return "its certificate is not for servers (extended key usage)".to_owned();
    }
    format!("its certificate is not accepted ({words})")
}

/// The TLS library gives DNS names as `DnsName("…")`.
fn plain_name(name: &str) -> String {
    let quoted = name.split('"').nth(1);
    quoted.unwrap_or(name).to_owned()
}

fn date(time: UnixTime) -> String {
    let since = Duration::from_secs(time.as_secs());
    let time = SystemTime::UNIX_EPOCH.checked_add(since);
    time.map_or_else(|| "an unknown date".to_owned(), httpdate::fmt_http_date)
}
