//! Parses the certificates of a `ca_file`, and explains why a file has none.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;

/// The labels of blocks with a certificate.
const LABELS: [&str; 2] = ["CERTIFICATE", "X509 CERTIFICATE"];

/// The label of blocks with OpenSSL's trust settings besides the certificate.
const TRUSTED: &str = "TRUSTED CERTIFICATE";

/// The type "signed data", near the start of a DER file of PKCS#7.
const PKCS7: &[u8] = &[
    0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x07, 0x02,
];

/// The length of the start in which it is searched.
const DER_START: usize = 32;

/// A PEM block.
struct Block {
    label: String,
    /// The number of its first line, from 1.
    line: usize,
    base64: Vec<u8>,
    is_complete: bool,
}

/// Returns the certificates of a file, which commands name `shown`. As OpenSSL does, accepts text around the blocks,
/// indentation, CRLF and a byte order mark.
///
/// # Errors
///
/// What is wrong with the file, with the command that fixes it.
pub(super) fn certificates(
    content: &[u8],
    shown: &str,
) -> Result<Vec<CertificateDer<'static>>, String> {
    let blocks = blocks(content);
    let mut found = Vec::new();
    for block in &blocks {
        match block.label.as_str() {
            label if LABELS.contains(&label) => {
                found.push(certificate(block, found.len() + 1)?);
            }
            TRUSTED => {
                return Err(format!(
                    "a certificate with OpenSSL's trust settings (BEGIN TRUSTED CERTIFICATE) is not supported; \
                     convert it: openssl x509 -in {shown} -out {shown}.pem"
                ));
            }
            "PKCS7" | "PKCS #7 SIGNED DATA" | "CMS" => {
                return Err(format!(
                    "it is PKCS#7; convert it: openssl pkcs7 -print_certs -in {shown} -out {shown}.pem"
                ));
            }
            _ => {}
        }
    }
    if found.is_empty() {
        return Err(without_certificate(content, &blocks, shown));
    }
    Ok(found)
}

/// Returns the certificates of a file of the system's trust store in DER, and whether these are all that it has.
/// Blocks that are no base64 are left out.
#[cfg(not(any(windows, target_vendor = "apple")))]
pub(super) fn plain_certificates(content: &[u8]) -> (Vec<Vec<u8>>, bool) {
    let blocks = blocks(content);
    let is_complete = blocks.iter().all(|block| block.label != TRUSTED);
    let plain = blocks
        .iter()
        .filter(|block| block.is_complete && LABELS.contains(&block.label.as_str()));
    let certificates = plain.filter_map(|block| STANDARD.decode(&block.base64).ok());
    (certificates.collect(), is_complete)
}

fn blocks(content: &[u8]) -> Vec<Block> {
    let mut blocks: Vec<Block> = Vec::new();
    let mut is_open = false;
    for (number, line) in content.split(|byte| *byte == b'\n').enumerate() {
        // Files with a byte order mark may have been concatenated.
        let line = line.strip_prefix(b"\xef\xbb\xbf").unwrap_or(line);
        let line = line.trim_ascii();
        if let Some(label) = label(line, b"-----BEGIN ") {
            is_open = true;
            blocks.push(Block {
                label,
                line: number + 1,
                base64: Vec::new(),
                is_complete: false,
            });
            continue;
        }
        let Some(open) = blocks.last_mut().filter(|_| is_open) else {
            continue;
        };
        if label(line, b"-----END ").is_some_and(|end| end == open.label) {
            open.is_complete = true;
            is_open = false;
        } else {
            open.base64.extend_from_slice(line);
        }
    }
    blocks
}

fn label(line: &[u8], begin: &[u8]) -> Option<String> {
    let label = line.strip_prefix(begin)?.strip_suffix(b"-----")?;
    Some(String::from_utf8_lossy(label).into_owned())
}

fn certificate(block: &Block, number: usize) -> Result<CertificateDer<'static>, String> {
    let line = block.line;
    let broken = |why: &str| {
        format!(
            "certificate {number} (line {line}) is malformed: {why}; remove it, or get it again from \
             its issuer"
        )
    };
    if !block.is_complete {
        return Err(broken("its END line is missing"));
    }
    let der = STANDARD.decode(&block.base64);
    let der = der.map_err(|_| broken("its text is not base64"))?;
    let certificate = CertificateDer::from(der);
    // The TLS library decides what a certificate is.
    let added = RootCertStore::empty().add(certificate.clone());
    added.map_err(|_| broken("it is not an X.509 certificate"))?;
    Ok(certificate)
}

/// Returns what a file without a certificate is instead.
fn without_certificate(content: &[u8], blocks: &[Block], shown: &str) -> String {
    let has = |part: &[u8]| content.windows(part.len()).any(|window| window == part);
    let start = content.get(..DER_START).unwrap_or(content);
    if start.starts_with(b"\xff\xfe") || start.starts_with(b"\xfe\xff") || start.get(1) == Some(&0)
    {
        return format!("it is UTF-16; convert it: iconv -f UTF-16 -t UTF-8 {shown} > {shown}.pem");
    }
    if blocks
        .iter()
        .any(|block| block.label.ends_with("PRIVATE KEY"))
    {
        return "it contains a private key and no certificate; replace it with the certificate of the \
                CA, and keep the key secret"
            .to_owned();
    }
    if has(b"-----BEGIN ") && has(b"\\n") {
        return format!(
            "its line breaks are written as \\n; convert it: sed 's/\\\\n/\\n/g' {shown} > {shown}.pem"
        );
    }
    if start.first() == Some(&0x30) {
        let form = if start.windows(PKCS7.len()).any(|window| window == PKCS7) {
            format!(
                "it is PKCS#7 in DER; convert it: openssl pkcs7 -inform der -print_certs -in {shown}"
            )
        } else {
            format!("it is DER, not PEM; convert it: openssl x509 -inform der -in {shown}")
        };
        return format!("{form} -out {shown}.pem");
    }
    "it contains no certificate in PEM; it must have a line -----BEGIN CERTIFICATE-----".to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(label: &str, content: &[u8]) -> String {
        let base64 = STANDARD.encode(content);
        format!("-----BEGIN {label}-----\n{base64}\n-----END {label}-----\n")
    }

    fn certificate() -> (Vec<u8>, String) {
        let key = rcgen::KeyPair::generate().unwrap();
        let params = rcgen::CertificateParams::new(vec!["ca.example".to_owned()]).unwrap();
        let certificate = params.self_signed(&key).unwrap();
        (certificate.der().to_vec(), certificate.pem())
    }

    #[test]
    fn forms_that_openssl_reads_are_read() {
        let (der, pem) = certificate();
        let indented = format!("    {}", pem.replace('\n', "\n    "));
        let bom = format!("\u{feff}{pem}");
        let old = pem.replace("CERTIFICATE", "X509 CERTIFICATE");
        let text = format!("Certificate:\n    Data:\n{pem}trailing");
        let key = format!("{}{pem}", block("PRIVATE KEY", b"key"));
        for content in [
            pem.clone(),
            pem.replace('\n', "\r\n"),
            indented,
            bom,
            old,
            text,
            key,
        ] {
            let found = certificates(content.as_bytes(), "F").unwrap();
            assert_eq!(found, [CertificateDer::from(der.clone())], "{content}");
        }
        let two = certificates(format!("{pem}{}", certificate().1).as_bytes(), "F");
        assert_eq!(two.unwrap().len(), 2);
    }

    #[test]
    fn broken_block_is_named_with_its_number_and_line() {
        let (_, good) = certificate();
        let line = good.lines().count() + 1;
        for (broken, why) in [
            (
                block("CERTIFICATE", b"0\x03no"),
                "it is not an X.509 certificate",
            ),
            (
                "-----BEGIN CERTIFICATE-----\n%%\n-----END CERTIFICATE-----\n".to_owned(),
                "its text is not base64",
            ),
            (
                "-----BEGIN CERTIFICATE-----\nMIIB\n".to_owned(),
                "its END line is missing",
            ),
        ] {
            let error = certificates(format!("{good}{broken}{good}").as_bytes(), "F").unwrap_err();
            let start = format!("certificate 2 (line {line}) is malformed: ");
            assert!(error.starts_with(&start), "{error}");
            if broken.contains("END") {
                assert!(error.contains(why), "{error}");
            }
        }
    }

    #[test]
    fn other_forms_are_named_with_what_converts_them() {
        let (der, good) = certificate();
        let mut pkcs7 = vec![0x30, 0x82, 1, 1];
        pkcs7.extend_from_slice(PKCS7);
        let utf16: Vec<u8> = good.encode_utf16().flat_map(u16::to_le_bytes).collect();
        let with_bom = [b"\xff\xfe".to_vec(), utf16.clone()].concat();
        for (content, message) in [
            (der, "convert it: openssl x509 -inform der -in F -out F.pem"),
            (
                pkcs7.clone(),
                "convert it: openssl pkcs7 -inform der -print_certs -in F -out F.pem",
            ),
            (
                block("PKCS7", &pkcs7).into_bytes(),
                "convert it: openssl pkcs7 -print_certs -in F -out F.pem",
            ),
            (
                block("TRUSTED CERTIFICATE", b"0").into_bytes(),
                "convert it: openssl x509 -in F -out F.pem",
            ),
            (utf16, "convert it: iconv -f UTF-16 -t UTF-8 F > F.pem"),
            (with_bom, "convert it: iconv -f UTF-16 -t UTF-8 F > F.pem"),
            (
                good.replace('\n', "\\n").into_bytes(),
                "convert it: sed 's/\\\\n/\\n/g' F > F.pem",
            ),
            (
                block("EC PRIVATE KEY", b"key").into_bytes(),
                "it contains a private key and no certificate",
            ),
            (b"# nothing\n".to_vec(), "it contains no certificate in PEM"),
            (Vec::new(), "it contains no certificate in PEM"),
        ] {
            let error = certificates(&content, "F").unwrap_err();
            assert!(error.contains(message), "{error}");
        }
    }
}
