//! The system's trust store where it consists of files.

use std::collections::{BTreeSet, HashSet};
use std::env;
use std::ffi::OsString;
use std::fs::{self, File};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;

use super::super::ca_file;
use super::system::{Store, StoreError};
use super::verifier;
use crate::platform::descriptors;
use crate::platform::file_watch::Stamp;

const FILE_VARIABLE: &str = "SSL_CERT_FILE";

const DIRECTORY_VARIABLE: &str = "SSL_CERT_DIR";

/// The largest store that is read, in MiB. Those of systems have less than one.
const MAX_STORE: u64 = 16;

/// The paths of the store: by OpenSSL's variables, or the usual ones of systems.
#[derive(Default, Hash)]
pub(super) struct Paths {
    file: Option<PathBuf>,
    directories: Vec<PathBuf>,
    /// The variables that set them, with their values.
    variables: Vec<String>,
}

impl Paths {
    #[cfg(test)]
    pub(super) fn of_file(file: PathBuf) -> Self {
        Self {
            file: Some(file),
            ..Self::default()
        }
    }

    pub(super) fn find() -> Self {
        Self::named(env::var_os(FILE_VARIABLE), env::var_os(DIRECTORY_VARIABLE))
    }

    /// Returns the paths for those values of the variables. As for OpenSSL, an empty one counts as unset, and each
    /// replaces only its own half of the system's store.
    fn named(file: Option<OsString>, directories: Option<OsString>) -> Self {
        let file = file.filter(|value| !value.is_empty());
        let directories = directories.filter(|value| !value.is_empty());
        let shown = |name: &str, value: &OsString| format!("{name}={}", value.display());
        let variables = [(FILE_VARIABLE, &file), (DIRECTORY_VARIABLE, &directories)]
            .into_iter()
            .filter_map(|(name, value)| Some(shown(name, value.as_ref()?)))
            .collect();
        let split = |value: OsString| -> Vec<PathBuf> {
            let paths = env::split_paths(&value);
            paths.filter(|path| !path.as_os_str().is_empty()).collect()
        };
        Self {
            file: match file {
                Some(file) => Some(file.into()),
                None => openssl_probe::probe().cert_file,
            },
            directories: match directories {
                Some(value) => split(value),
                None => openssl_probe::candidate_cert_dirs()
                    .map(Path::to_path_buf)
                    .collect(),
            },
            variables,
        }
    }
}

/// Returns a number that differs after a change of any of the files.
pub(super) fn state(paths: &Paths) -> u64 {
    let mut hasher = DefaultHasher::new();
    paths.hash(&mut hasher);
    let file = paths.file.iter();
    for path in file.chain(&paths.directories) {
        Stamp::of(path).hash(&mut hasher);
    }
    for directory in &paths.directories {
        let entries = fs::read_dir(directory).into_iter().flatten().flatten();
        let entries: BTreeSet<PathBuf> = entries.map(|entry| entry.path()).collect();
        for path in entries {
            path.hash(&mut hasher);
            Stamp::of(&path).hash(&mut hasher);
        }
    }
    hasher.finish()
}

/// Reads the store. Certificates that cannot be parsed are left out.
pub(super) fn read(paths: &Paths) -> Result<Store, StoreError> {
    let mut content = Content::default();
    if let Some(file) = &paths.file {
        content.add_file(file)?;
    }
    for directory in &paths.directories {
        content.add_directory(directory)?;
    }
    let Content {
        certificates,
        problem,
        ..
    } = content;
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(certificates.into_iter().map(CertificateDer::from));
    let verifier = verifier(roots).map_err(StoreError::unusable)?;
    match verifier {
        Some(verifier) => Ok(Store {
            verifier,
            note: note(paths, problem.as_deref()).into(),
        }),
        None => Err(StoreError::Unusable(without_certificates(paths, problem))),
    }
}

/// The certificates read so far.
#[derive(Default)]
struct Content {
    /// Without duplicates: a directory usually has what the file has.
    certificates: BTreeSet<Vec<u8>>,
    /// The last one.
    problem: Option<String>,
    seen: HashSet<Stamp>,
    bytes: u64,
}

impl Content {
    fn add_directory(&mut self, directory: &Path) -> Result<(), StoreError> {
        let entries = fs::read_dir(directory).and_then(Iterator::collect::<io::Result<Vec<_>>>);
        let Some(entries) = self.checked(entries, directory)? else {
            return Ok(());
        };
        for path in entries.iter().map(fs::DirEntry::path) {
            // Dangling symlinks and directories are common there.
            if fs::metadata(&path).is_ok_and(|found| found.is_file()) {
                self.add_file(&path)?;
            }
        }
        Ok(())
    }

    fn add_file(&mut self, path: &Path) -> Result<(), StoreError> {
        // A directory has several symlinks to each file.
        if !self.seen.insert(Stamp::of(path)) {
            return Ok(());
        }
        let read = self.read(path);
        let Some(bytes) = self.checked(read, path)? else {
            return Ok(());
        };
        let (certificates, is_complete) = ca_file::plain_certificates(&bytes);
        self.certificates.extend(certificates);
        if !is_complete {
            self.problem = Some(format!(
                "{} has a BEGIN TRUSTED CERTIFICATE, which is not supported",
                path.display()
            ));
        }
        Ok(())
    }

    /// Reads a regular file, within the limit of the store.
    fn read(&mut self, path: &Path) -> io::Result<Vec<u8>> {
        if !fs::metadata(path)?.is_file() {
            return Err(io::Error::other("not a regular file"));
        }
        let room = (MAX_STORE << 20).saturating_sub(self.bytes);
        let mut bytes = Vec::new();
        let count = File::open(path)?.take(room + 1).read_to_end(&mut bytes)?;
        if count as u64 > room {
            let message = format!("the store has more than {MAX_STORE} MiB");
            return Err(io::Error::other(message));
        }
        self.bytes += count as u64;
        Ok(bytes)
    }

    /// Records a failure, so that the rest is read. Only a lack of descriptors, which is temporary, is an error.
    fn checked<T>(&mut self, read: io::Result<T>, path: &Path) -> Result<Option<T>, StoreError> {
        match read {
            Ok(read) => Ok(Some(read)),
            Err(error) if descriptors::is_exhausted(&error) => Err(StoreError::Exhausted(error)),
            Err(error) => {
                self.problem = Some(format!("{}: {error}", path.display()));
                Ok(None)
            }
        }
    }
}

/// Returns why the issuer of a certificate may be missing.
fn note(paths: &Paths, problem: Option<&str>) -> String {
    let verb = match paths.variables.len() {
        0 => return String::new(),
        1 => "is",
        _ => "are",
    };
    let mut variables = paths.variables.clone();
    let mut end = String::new();
    if let Some(problem) = problem {
        // The problem contains the value.
        let name =
            |variable: &mut String| variable.truncate(variable.find('=').unwrap_or_default());
        variables.iter_mut().for_each(name);
        end = format!(": {problem}");
    }
    let variables = variables.join(" and ");
    format!("{variables} {verb} used as the system's store{end}")
}

fn without_certificates(paths: &Paths, problem: Option<String>) -> String {
    let problem = problem.map_or_else(String::new, |problem| format!(" ({problem})"));
    if !paths.variables.is_empty() {
        let variables = paths.variables.join(" and ");
        return format!("it has no certificate{problem}; check the environment: {variables}");
    }
    if paths.file.is_none() && paths.directories.is_empty() {
        return "there is none; install ca-certificates".to_owned();
    }
    format!("it has no certificate{problem}; install ca-certificates")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pem() -> String {
        let key = rcgen::KeyPair::generate().unwrap();
        let name = format!("ca{}.example", fastrand::u64(..));
        let params = rcgen::CertificateParams::new(vec![name]).unwrap();
        params.self_signed(&key).unwrap().pem()
    }

    #[test]
    fn document_states_the_current_limits() {
        let document = include_str!("../../../docs/network.md");
        let timeout = super::super::system::READ_TIMEOUT.as_secs();
        for limit in [
            format!("with {MAX_STORE} MiB in all"),
            format!("is waited for {timeout} s"),
        ] {
            assert!(document.contains(&limit), "{limit}");
        }
    }

    #[test]
    fn each_variable_replaces_its_own_half_and_an_empty_one_nothing() {
        let system = Paths::named(None, None);
        let empty = Paths::named(Some("".into()), Some("".into()));
        assert_eq!(
            (&empty.file, &empty.directories),
            (&system.file, &system.directories)
        );
        assert_eq!(note(&empty, None), "");
        let file = Paths::named(Some("/x.pem".into()), None);
        assert_eq!(file.file.as_deref(), Some(Path::new("/x.pem")));
        assert_eq!(file.directories, system.directories);
        let message = "SSL_CERT_FILE=/x.pem is used as the system's store";
        assert_eq!(note(&file, None), message);
        let message = "SSL_CERT_FILE is used as the system's store: /x.pem: why";
        assert_eq!(note(&file, Some("/x.pem: why")), message);
        let directories = Paths::named(None, Some(":/a:/b".into()));
        assert_eq!(directories.file, system.file);
        assert_eq!(
            directories.directories,
            [PathBuf::from("/a"), PathBuf::from("/b")]
        );
        let both = Paths::named(Some("/x".into()), Some("/a".into()));
        let message = "SSL_CERT_FILE=/x and SSL_CERT_DIR=/a are used as the system's store";
        assert_eq!(note(&both, None), message);
    }

    #[test]
    fn certificates_are_read_from_what_openssl_reads_once_and_within_the_bound() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let (one, two) = (pem(), pem());
        fs::write(path("bom"), format!("\u{feff}{one}\u{feff}{two}")).unwrap();
        std::os::unix::fs::symlink(path("bom"), path("link")).unwrap();
        std::os::unix::fs::symlink("nowhere", path("dangling")).unwrap();
        fs::write(path("broken"), one.replace("MII", "%%%")).unwrap();
        fs::create_dir(path("directory")).unwrap();
        let mut content = Content::default();
        content.add_directory(folder.path()).unwrap();
        assert_eq!(content.certificates.len(), 2);
        assert_eq!(content.problem, None);
        let trusted = one.replace("CERTIFICATE", "TRUSTED CERTIFICATE");
        fs::write(path("trusted"), trusted).unwrap();
        let large = File::create(path("large")).unwrap();
        large.set_len((MAX_STORE << 20) + 1).unwrap();
        for (file, message) in [
            (path("trusted"), "BEGIN TRUSTED CERTIFICATE"),
            (path("large"), "large: the store has more than 16 MiB"),
            ("/dev/zero".into(), "/dev/zero: not a regular file"),
            (path("absent"), "absent: No such file"),
        ] {
            let Err(StoreError::Unusable(problem)) = read(&Paths::of_file(file)) else {
                panic!("{message}")
            };
            assert!(problem.contains(message), "{problem}");
        }
    }
}
