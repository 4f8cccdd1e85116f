//! Reads the files of `[fleet]`, and its password from wherever it is.

use secrecy::SecretString;
use zeroize::Zeroizing;

use super::checked_file::{self, Readers};
use super::{
    CredentialsError, MAX_CERTIFICATES, MAX_PRIVATE_KEY, MAX_SECRET, read_secret, unusable,
};
use crate::config::named_path::NamedPath;
use crate::config::{Env, FLEET_CA_FILE, FleetConfig, FleetServers, SecretSource};

/// The least length of a key file, in bytes.
pub const MIN_FLEET_KEY: usize = 32;

const PASSWORD: &str = "fleet password";
const SENTINEL_PASSWORD: &str = "fleet sentinel password";
const KEY_FILE: &str = "fleet key_file";

/// What the config of a fleet refers to.
pub struct FleetFiles {
    pub password: Option<SecretString>,
    pub sentinel_password: Option<SecretString>,
    /// CA certificates in PEM.
    pub ca: Option<Vec<u8>>,
    /// The certificate and its private key, both in PEM.
    pub identity: Option<(Vec<u8>, Zeroizing<Vec<u8>>)>,
    /// The content of the key file without the line breaks at its end.
    pub key: Option<Zeroizing<Vec<u8>>>,
}

/// Reads what the config of a fleet refers to. Blocks on files and on the command.
///
/// # Errors
///
/// [`CredentialsError`] if one of them cannot be used.
pub fn fleet_files(fleet: &FleetConfig, env: Env) -> Result<FleetFiles, CredentialsError> {
    let readers = Readers::of_secret(fleet.allow_world_readable_secret);
    let pair = fleet.client_certificate.as_ref();
    let key = fleet.key_file.as_ref();
    let sentinel_password = match &fleet.servers {
        FleetServers::Sentinels { password_file, .. } => password_file.clone(),
        FleetServers::Server(_) => None,
    };
    let sentinel_password = sentinel_password.map(SecretSource::File);
    // Before the command, which takes longest.
    let ca = fleet.ca_file.as_ref().map(|path| {
        let what = path
            .naming()
            .choose("fleet ca_file", FLEET_CA_FILE, "fleet ca_file");
        certificates(path, what)
    });
    let identity = pair.map(|pair| {
        let certificate = certificates(&pair.certificate_file, "fleet client certificate")?;
        let what = "fleet client key";
        let key = checked_file::read(&pair.key_file, what, readers, MAX_PRIVATE_KEY)?;
        Ok((certificate, key))
    });
    Ok(FleetFiles {
        ca: ca.transpose()?,
        identity: identity.transpose()?,
        key: key.map(|path| read_key(path, readers)).transpose()?,
        sentinel_password: sentinel_password
            .map(|source| read_secret(&source, SENTINEL_PASSWORD, readers, env))
            .transpose()?,
        password: fleet
            .password
            .as_ref()
            .map(|source| read_secret(source, PASSWORD, readers, env))
            .transpose()?,
    })
}

/// Reads a file of certificates, which all users may read.
fn certificates(path: &NamedPath, what: &'static str) -> Result<Vec<u8>, CredentialsError> {
    let content = checked_file::read(path, what, Readers::All, MAX_CERTIFICATES)?;
    Ok(content.to_vec())
}

/// Reads the key file, which is any bytes: text and random bytes are equally good.
fn read_key(path: &NamedPath, readers: Readers) -> Result<Zeroizing<Vec<u8>>, CredentialsError> {
    let mut key = checked_file::read(path, KEY_FILE, readers, MAX_SECRET)?;
    let length = without_line_breaks(&key).len();
    key.truncate(length);
    if key.len() >= MIN_FLEET_KEY {
        return Ok(key);
    }
    let problem = format!(
        "must have at least {MIN_FLEET_KEY} bytes, equal on all hosts; create it once with: \
         openssl rand -hex 32"
    );
    Err(unusable(KEY_FILE, &path.shown(), &problem))
}

fn without_line_breaks(mut content: &[u8]) -> &[u8] {
    while let [rest @ .., b'\r' | b'\n'] = content {
        content = rest;
    }
    content
}

#[cfg(test)]
#[cfg(unix)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;
    use std::path::Path;

    use secrecy::ExposeSecret;

    use super::*;
    use crate::config::Config;

    const FLEET: &str = "[fleet]\nurl = \"rediss://cache.example\"\npassword_file = \"password\"\n\
                         ca_file = \"ca.pem\"\nclient_certificate_file = \"own.pem\"\n\
                         client_key_file = \"own.key\"\nkey_file = \"fleet.key\"\n";
    const CLIENT: &str = "[clients.acme]\nclient_id = \"a\"\nclient_secret_env = \"S\"\n\
                          tokens = [\"data\"]\n";

    /// A directory with all files of the fleet, of which the secret ones have that mode.
    fn folder(mode: u32) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (name, content, mode) in [
            ("password", "c4nary\n", mode),
            ("ca.pem", "ca", 0o644),
            ("own.pem", "certificate", 0o644),
            ("own.key", "private", mode),
            ("fleet.key", "0123456789abcdef0123456789abcdef\n", mode),
        ] {
            let path = folder.path().join(name);
            fs::write(&path, content).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        }
        folder
    }

    fn read(folder: &Path, lines: &str) -> Result<FleetFiles, String> {
        let text = format!("{FLEET}{lines}{CLIENT}");
        let config = Config::parse(&text, &folder.join("config.toml")).unwrap();
        let files = fleet_files(&config.fleet.unwrap(), &|_| None);
        files.map_err(|error| error.to_string())
    }

    #[test]
    fn files_of_a_fleet_are_read_without_the_line_breaks_at_their_ends() {
        let folder = folder(0o600);
        let files = read(folder.path(), "").unwrap();
        assert_eq!(files.password.unwrap().expose_secret(), "c4nary");
        assert_eq!(files.ca.unwrap(), b"ca");
        let (certificate, key) = files.identity.unwrap();
        assert_eq!(
            (&*certificate, &**key),
            (&b"certificate"[..], &b"private"[..])
        );
        let key = files.key.unwrap();
        assert_eq!(**key, *b"0123456789abcdef0123456789abcdef");
        for (content, left) in [("a\r\n", "a"), ("a\n\n", "a"), ("a", "a")] {
            assert_eq!(without_line_breaks(content.as_bytes()), left.as_bytes());
        }
    }

    #[test]
    fn secret_file_of_a_fleet_that_others_can_read_is_an_error() {
        let folder = folder(0o644);
        let allowed = "allow_world_readable_secret = true\n";
        read(folder.path(), allowed).unwrap();
        for (name, what) in [
            ("own.key", "fleet client key"),
            ("fleet.key", "fleet key_file"),
            ("password", "fleet password"),
        ] {
            let path = folder.path().join(name);
            let error = read(folder.path(), "").err().unwrap();
            let expected = format!("{what} {}: mode 0644 lets others read it", path.display());
            assert!(error.starts_with(&expected), "{error}");
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        }
        read(folder.path(), "").unwrap();
    }

    #[test]
    fn short_key_file_is_an_error_that_shows_nothing_of_it() {
        let folder = folder(0o600);
        let key = "c4nary".repeat(5) + "a";
        fs::write(folder.path().join("fleet.key"), key + "\n").unwrap();
        let error = read(folder.path(), "").err().unwrap();
        assert!(error.contains("at least 32 bytes"), "{error}");
        assert!(!error.contains("c4nary"), "{error}");
    }
}
