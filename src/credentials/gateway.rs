//! Reads the files of `[gateway]`: this host's key, the hashes of the applications' secrets, and the certificate.

use std::fmt;
use std::hint::black_box;
use std::io;

use ring::digest::{SHA256, digest};
use zeroize::Zeroizing;

use super::checked_file::{self, Readers};
use super::{CredentialsError, MAX_CERTIFICATES, MAX_PRIVATE_KEY, MAX_SECRET, unusable};
use crate::config::GatewayTls;
use crate::config::named_path::NamedPath;

/// The length of this host's key, in bytes.
pub const HOST_KEY_BYTES: usize = 32;

/// The most hashes of one application: that of the new secret, and that of the old one during a rotation.
pub const MAX_HASHES: usize = 2;

const HASH_FILE: &str = "secret_hash_file";
const HOST_KEY: &str = "gateway key_file";

/// The SHA-256 hash of an application's secret. A secret has 256 random bits, so it needs no slow hash.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretHash([u8; 32]);

impl SecretHash {
    #[must_use]
    pub fn of(secret: &[u8]) -> Self {
        let mut hash = [0; 32];
        for (byte, digested) in hash.iter_mut().zip(digest(&SHA256, secret).as_ref()) {
            *byte = *digested;
        }
        Self(hash)
    }

    /// Returns whether this is the hash of that secret, in a time that does not depend on where they differ.
    #[must_use]
    pub fn matches(&self, secret: &[u8]) -> bool {
        let Self(other) = Self::of(secret);
        let differing = self.0.iter().zip(other);
        black_box(differing.fold(0, |bits, (one, other)| bits | (one ^ other))) == 0
    }

    /// Parses 64 hexadecimal digits.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let digits = text.as_bytes();
        if digits.len() != 64 {
            return None;
        }
        let digit = |digit: u8| char::from(digit).to_digit(16);
        let mut hash = [0; 32];
        for (byte, pair) in hash.iter_mut().zip(digits.chunks_exact(2)) {
            let [high, low] = pair else {
                return None;
            };
            *byte = u8::try_from(digit(*high)? * 16 + digit(*low)?).ok()?;
        }
        Some(Self(hash))
    }
}

/// The line of the file, in lower case.
impl fmt::Display for SecretHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for SecretHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretHash")
    }
}

/// Reads the hashes of an application's secrets, the older one first. An empty file has none: the application was
/// removed.
///
/// # Errors
///
/// [`CredentialsError`], with the command that creates the file if it is missing.
pub fn read_hash_file(path: &NamedPath, app: &str) -> Result<Vec<SecretHash>, CredentialsError> {
    let create = format!("; create it: domo-tokend app add {app}");
    let content = checked_file::read(path, HASH_FILE, Readers::All, MAX_SECRET)
        .map_err(|error| if_missing(error, create))?;
    let wrong = |problem: String| unusable(HASH_FILE, &path.shown(), &problem);
    let lines: Vec<&[u8]> = content
        .split(|byte| *byte == b'\n')
        .map(<[u8]>::trim_ascii)
        .filter(|line| !line.is_empty())
        .collect();
    if lines.len() > MAX_HASHES {
        return Err(wrong(format!(
            "must have at most {MAX_HASHES} lines; remove the oldest, which are the first"
        )));
    }
    let hash = |(index, line): (usize, &&[u8])| {
        let hash = str::from_utf8(line).ok().and_then(SecretHash::parse);
        hash.ok_or_else(|| {
            let number = index + 1;
            wrong(format!(
                "line {number} is not a SHA-256 hash in hexadecimal; remove the file, then run: domo-tokend \
                 app add {app}"
            ))
        })
    };
    lines.iter().enumerate().map(hash).collect()
}

/// Reads this host's key.
///
/// # Errors
///
/// [`CredentialsError`], with the command that creates the file if it is missing.
pub fn read_host_key(
    path: &NamedPath,
) -> Result<Zeroizing<[u8; HOST_KEY_BYTES]>, CredentialsError> {
    let create = "; create it: domo-tokend app add NAME".to_owned();
    let content = checked_file::read(path, HOST_KEY, Readers::OwnerAlways, MAX_SECRET)
        .map_err(|error| if_missing(error, create))?;
    let mut key = Zeroizing::new([0; HOST_KEY_BYTES]);
    if content.len() != key.len() {
        let problem = format!(
            "must have {HOST_KEY_BYTES} random bytes; remove it, then create it: domo-tokend app rotate NAME"
        );
        return Err(unusable(HOST_KEY, &path.shown(), &problem));
    }
    key.copy_from_slice(&content);
    Ok(key)
}

/// The certificate and its private key, both in PEM.
pub struct GatewayCertificate {
    pub certificate: Vec<u8>,
    pub private_key: Zeroizing<Vec<u8>>,
}

/// Reads the certificate and its private key.
///
/// # Errors
///
/// [`CredentialsError`] if one of them cannot be read, or if others can change the one or read the other.
pub fn read_gateway_certificate(tls: &GatewayTls) -> Result<GatewayCertificate, CredentialsError> {
    let what = "gateway tls_cert_file";
    let certificate =
        checked_file::read(&tls.certificate_file, what, Readers::All, MAX_CERTIFICATES)?;
    let what = "gateway tls_key_file";
    let private_key =
        checked_file::read(&tls.key_file, what, Readers::OwnerAlways, MAX_PRIVATE_KEY)?;
    Ok(GatewayCertificate {
        certificate: certificate.to_vec(),
        private_key,
    })
}

/// Replaces what to do about a file that does not exist.
fn if_missing(error: CredentialsError, create: String) -> CredentialsError {
    match error {
        CredentialsError::Read {
            what,
            path,
            source,
            advice,
        } => {
            // Otherwise the unit hides it, or its place holds a secret.
            let is_missing =
                source.kind() == io::ErrorKind::NotFound && advice.starts_with("; create it");
            let advice = if is_missing { create } else { advice };
            CredentialsError::Read {
                what,
                path,
                source,
                advice,
            }
        }
        other @ (CredentialsError::Unsafe { .. }
        | CredentialsError::Unusable { .. }
        | CredentialsError::Command { .. }) => other,
    }
}

#[cfg(test)]
#[cfg(unix)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;
    use std::path::Path;

    use super::*;

    /// The hash of `abc`, an example of the standard (FIPS 180-2, B.1).
    const ABC: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

    /// Writes a file with that mode.
    fn file(folder: &Path, content: &[u8], mode: u32) -> NamedPath {
        let path = folder.join("file");
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        path.into()
    }

    #[test]
    fn hash_matches_its_secret_alone() {
        let hash = SecretHash::of(b"abc");
        assert_eq!(hash.to_string(), ABC);
        assert_eq!(SecretHash::parse(ABC), Some(hash.clone()));
        assert_eq!(SecretHash::parse(&ABC.to_uppercase()), Some(hash.clone()));
        assert!(hash.matches(b"abc"));
        for other in [&b""[..], b"abd", b"abcd", ABC.as_bytes()] {
            assert!(!hash.matches(other));
        }
        for wrong in [
            "",
            &ABC[1..],
            &format!("{ABC}0"),
            &ABC.replace('b', "g"),
            &"é".repeat(32),
        ] {
            assert_eq!(SecretHash::parse(wrong), None, "{wrong}");
        }
        assert_eq!(format!("{hash:?}"), "SecretHash");
    }

    #[test]
    fn hash_file_has_up_to_two_lines() {
        let folder = tempfile::tempdir().unwrap();
        let read = |content: &str| {
            let path = file(folder.path(), content.as_bytes(), 0o640);
            read_hash_file(&path, "etl").map_err(|error| error.to_string())
        };
        let other = SecretHash::of(b"other");
        let abc = SecretHash::of(b"abc");
        assert_eq!(read(""), Ok(vec![]));
        assert_eq!(read("\n"), Ok(vec![]));
        assert_eq!(read(ABC), Ok(vec![abc.clone()]));
        assert_eq!(read(&format!("{other}\r\n{ABC}\n")), Ok(vec![other, abc]));
        let error = read(&format!("{ABC}\n{ABC}\n{ABC}\n")).unwrap_err();
        assert!(error.contains("at most 2 lines"), "{error}");
        let error = read(&format!("{ABC}\nc4nary\n")).unwrap_err();
        assert!(error.contains("line 2 is not a SHA-256 hash"), "{error}");
        assert!(error.ends_with("domo-tokend app add etl"), "{error}");
        assert!(!error.contains("c4nary"), "{error}");
    }

    #[test]
    fn missing_file_is_an_error_with_the_command_that_creates_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("etl.hash").into();
        let error = read_hash_file(&path, "etl").unwrap_err().to_string();
        assert!(error.starts_with("secret_hash_file /"), "{error}");
        assert!(
            error.ends_with("; create it: domo-tokend app add etl"),
            "{error}"
        );
        let error = read_host_key(&path).unwrap_err().to_string();
        assert!(error.starts_with("gateway key_file /"), "{error}");
        assert!(
            error.ends_with("; create it: domo-tokend app add NAME"),
            "{error}"
        );
    }

    #[test]
    fn file_that_others_can_change_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let path = file(folder.path(), b"", 0o662);
        let error = read_hash_file(&path, "etl").unwrap_err().to_string();
        assert!(error.contains("mode 0662 lets others write it"), "{error}");
    }

    #[test]
    fn host_key_has_32_bytes_that_others_cannot_read() {
        let folder = tempfile::tempdir().unwrap();
        let read = |content: &[u8], mode| {
            let path = file(folder.path(), content, mode);
            read_host_key(&path).map_err(|error| error.to_string())
        };
        let key = [b'\n'; 32];
        assert_eq!(*read(&key, 0o600).unwrap(), key);
        for wrong in [&key[1..], &[key, key].concat()] {
            let error = read(wrong, 0o600).unwrap_err();
            assert!(error.contains("must have 32 random bytes"), "{error}");
        }
        let error = read(&key, 0o644).unwrap_err();
        assert!(
            error.contains("mode 0644 lets others read it; run: chmod"),
            "{error}"
        );
    }
}
