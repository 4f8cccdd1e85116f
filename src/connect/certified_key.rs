//! A certificate with its private key, from two files in PEM: that of a client, or that of the gateway.

use rustls::InconsistentKeys;
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject;
use rustls::sign::CertifiedKey;

use super::ca_file;
use super::trust::provider;

/// The keys of the config that name the files.
#[derive(Clone, Copy)]
pub(crate) struct PairNames {
    pub(crate) certificate: &'static str,
    pub(crate) private_key: &'static str,
}

/// Parses a certificate, with those of CAs after it, and its private key.
///
/// # Errors
///
/// What is wrong with them.
pub(crate) fn certified_key(
    certificate: &[u8],
    key: &[u8],
    names: PairNames,
) -> Result<CertifiedKey, String> {
    let PairNames {
        certificate: certificate_name,
        private_key: key_name,
    } = names;
    let chain = ca_file::certificates(certificate, certificate_name)
        .map_err(|problem| format!("cannot use {certificate_name}: {problem}"))?;
    let unusable = |problem: &str| format!("cannot use {key_name}: {problem}");
    let key = PrivateKeyDer::from_pem_slice(key).map_err(|_| {
        unusable(&format!(
            "it has no private key in PEM without a passphrase; \
             remove the passphrase: openssl pkey -in {key_name} -out {key_name}.pem"
        ))
    })?;
    let pair = CertifiedKey::from_der(chain, key, &provider());
    let mismatch = rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch);
    pair.map_err(|error| {
        if error == mismatch {
            return unusable(&format!(
                "it is not the key of the certificate in {certificate_name}"
            ));
        }
        if matches!(error, rustls::Error::InvalidCertificate(_)) {
            return format!(
                "cannot use {certificate_name}: its first certificate is malformed or not of X.509 \
                 version 3; openssl x509 -req creates version 3 with -extfile"
            );
        }
        unusable(&format!(
            "{error}; supported are RSA, P-256, P-384 and Ed25519"
        ))
    })
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair};

    use super::*;

    /// By `openssl x509 -req` without `-extfile`.
    const VERSION_1: &str = "\
-----BEGIN CERTIFICATE-----\n\
MIIBFDCBuwIUHFBn1nr929Wa2drJdBeWo1/aeMcwCgYIKoZIzj0EAwIwDTELMAkG\n\
A1UEAwwCdjEwHhcNMjYxMTMwMjMwMTA4WhcNMzYxMTI3MjMwMTA4WjANMQswCQYD\n\
VQQDDAJ2MTBZMBMGByqGSM49AgEGCCqGSM49AwEHA0IABB8RQeijoJ3JW940jSbC\n\
2Bki1BlK2sSISbfubmoQemuiEjLcKcMC8pQduDRIpBWNZvJhRuDgigONgP9NjS4F\n\
dVUwCgYIKoZIzj0EAwIDSAAwRQIgeNaOoSGKEylp5UxmoXym9z6dPoPQzn7IXsvG\n\
IhlyHaMCIQDkPIAmmLZ5z6hasTRlXinTpAJcGLZf/bfUy3GbQJFKXw==\n\
-----END CERTIFICATE-----";

    #[test]
    fn pair_that_is_unusable_is_explained() {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec!["host.example".to_owned()]).unwrap();
        let certificate = params.self_signed(&key).unwrap().pem();
        let key = key.serialize_pem();
        let other = KeyPair::generate().unwrap().serialize_pem();
        let parse = |certificate: &str, key: &str| {
            let names = PairNames {
                certificate: "client_certificate_file",
                private_key: "client_key_file",
            };
            certified_key(certificate.as_bytes(), key.as_bytes(), names).map(|_| ())
        };
        assert_eq!(parse(&certificate, &key), Ok(()));
        for (certificate, key, expected) in [
            ("", key.as_str(), "cannot use client_certificate_file: "),
            (&certificate, "", "it has no private key in PEM"),
            (&certificate, &other, "it is not the key of the certificate"),
            (
                VERSION_1,
                &key,
                "openssl x509 -req creates version 3 with -extfile",
            ),
        ] {
            let problem = parse(certificate, key).unwrap_err();
            assert!(problem.contains(expected), "{problem}");
        }
    }
}
