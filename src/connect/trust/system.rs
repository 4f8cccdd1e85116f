//! The system's trust store. Before each attempt its files are compared with what was read, so that a
//! certificate that is added or removed counts from the next attempt on.

use std::fmt;
use std::io;
use std::sync::Arc;

use tokio::sync::Mutex;

use super::SystemVerifier;
use crate::descriptors::RAISE_LIMIT;
use crate::threads;

#[cfg(not(any(windows, target_vendor = "apple")))]
use files::{Paths, read, state};
#[cfg(any(windows, target_vendor = "apple"))]
use platform::{Paths, read, state};

/// Why the trust store cannot be used.
#[derive(Debug)]
pub(in crate::connect) enum StoreError {
    /// No descriptor is left to read it.
    #[cfg_attr(
        any(windows, target_vendor = "apple"),
        expect(dead_code, reason = "the store is not files there")
    )]
    Exhausted(io::Error),
    /// It has no certificate, or what it has cannot be used.
    Unusable(String),
    /// There is no thread to read it on.
    NoThread(io::Error),
}

impl StoreError {
    pub(super) fn unusable(error: impl fmt::Display) -> Self {
        Self::Unusable(error.to_string())
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exhausted(error) => write!(f, "{error}{RAISE_LIMIT}"),
            Self::Unusable(problem) => f.write_str(problem),
            Self::NoThread(error) => write!(f, "{error}; raise the limit on threads"),
        }
    }
}

/// The system's trust store as it was last read.
pub(in crate::connect) struct SystemStore {
    find: Arc<dyn Fn() -> Paths + Send + Sync>,
    latest: Mutex<Option<Latest>>,
}

struct Latest {
    /// Of its files.
    state: u64,
    generation: u64,
    verifier: SystemVerifier,
    /// Why there is no verifier.
    problem: String,
}

impl Default for SystemStore {
    fn default() -> Self {
        Self::new(Paths::find)
    }
}

impl SystemStore {
    fn new(find: impl Fn() -> Paths + Send + Sync + 'static) -> Self {
        Self {
            find: Arc::new(find),
            latest: Mutex::default(),
        }
    }

    /// The store of a system that has only that file.
    #[cfg(all(test, not(any(windows, target_vendor = "apple"))))]
    pub(in crate::connect) fn of_file(file: std::path::PathBuf) -> Self {
        Self::new(move || Paths::of_file(file.clone()))
    }

    /// Returns a verifier by the certificates that are in the store now, with a number that is another
    /// one after each change and never 0.
    pub(in crate::connect) async fn current(&self) -> Result<(u64, SystemVerifier), StoreError> {
        // Others that wait for it find it read.
        let mut latest = self.latest.lock().await;
        let known = latest.as_ref().map(|latest| latest.state);
        let find = Arc::clone(&self.find);
        let read = threads::run(move || {
            let paths = find();
            // Before it is read, so that a change while it is read is seen next time.
            let state = state(&paths);
            (known != Some(state)).then(|| (state, read(&paths)))
        });
        let read = read.await.map_err(StoreError::NoThread)?;
        if let Some((state, read)) = read {
            match read {
                Ok(verifier) => Self::replace(&mut latest, state, Some(verifier), String::new()),
                Err(StoreError::Unusable(problem)) => {
                    Self::replace(&mut latest, state, None, problem);
                }
                Err(error) if latest.is_none() => return Err(error),
                // What was read before holds until there are descriptors again.
                Err(StoreError::Exhausted(_) | StoreError::NoThread(_)) => {}
            }
        }
        match latest.as_ref() {
            Some(Latest {
                generation,
                verifier: Some(verifier),
                ..
            }) => Ok((*generation, Some(Arc::clone(verifier)))),
            Some(Latest { problem, .. }) => Err(StoreError::Unusable(problem.clone())),
            None => Err(StoreError::Unusable("it was not read".to_owned())),
        }
    }

    fn replace(latest: &mut Option<Latest>, state: u64, verifier: SystemVerifier, problem: String) {
        let generation = latest.as_ref().map_or(0, |latest| latest.generation) + 1;
        *latest = Some(Latest {
            state,
            generation,
            verifier,
            problem,
        });
    }
}

/// Where the store is files.
#[cfg(not(any(windows, target_vendor = "apple")))]
mod files {
    use std::collections::BTreeSet;
    use std::env;
    use std::fs;
    use std::hash::{DefaultHasher, Hash, Hasher};
    use std::path::PathBuf;
    use std::sync::Arc;

    use rustls::RootCertStore;
    use rustls::client::danger::ServerCertVerifier;
    use rustls_native_certs::{ErrorKind, load_certs_from_paths};

    use super::super::verifier;
    use super::StoreError;
    use crate::descriptors;
    use crate::watch::Stamp;

    /// How many descriptors reading a directory of files takes.
    const DIRECTORY_DESCRIPTORS: usize = 3;

    const FILE_VARIABLE: &str = "SSL_CERT_FILE";

    const DIRECTORY_VARIABLE: &str = "SSL_CERT_DIR";

    /// Where the store is: OpenSSL's variables name it, or it is where systems have it.
    #[derive(Default, Hash)]
    pub(super) struct Paths {
        file: Option<PathBuf>,
        directories: Vec<PathBuf>,
        /// The variable that names it.
        variable: Option<&'static str>,
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
            let file = env::var_os(FILE_VARIABLE).map(PathBuf::from);
            let directories = env::var_os(DIRECTORY_VARIABLE);
            let directories = directories.iter().flat_map(env::split_paths);
            let directories: Vec<PathBuf> = directories
                .filter(|path| !path.as_os_str().is_empty())
                .collect();
            let variable = match &file {
                Some(_) => Some(FILE_VARIABLE),
                None => (!directories.is_empty()).then_some(DIRECTORY_VARIABLE),
            };
            if variable.is_some() {
                return Self {
                    file,
                    directories,
                    variable,
                };
            }
            let found = openssl_probe::probe();
            Self {
                file: found.cert_file,
                directories: found.cert_dir,
                variable,
            }
        }
    }

    /// Returns a number that is another one when any of the files has changed.
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
    pub(super) fn read(paths: &Paths) -> Result<Arc<dyn ServerCertVerifier>, StoreError> {
        let file = load_certs_from_paths(paths.file.as_deref(), None);
        let directories = paths.directories.iter();
        let directories = directories.map(|path| load_certs_from_paths(None, Some(path)));
        let mut certificates = Vec::new();
        let mut problem = String::new();
        for mut read in std::iter::once(file).chain(directories) {
            certificates.append(&mut read.certs);
            for error in read.errors {
                problem = format!(" ({error})");
                if let ErrorKind::Io { inner, .. } = error.kind
                    && descriptors::is_exhausted(&inner)
                {
                    return Err(StoreError::Exhausted(inner));
                }
            }
        }
        // A directory usually has what the file has.
        certificates.sort_unstable_by(|one, other| one.as_ref().cmp(other.as_ref()));
        certificates.dedup();
        // The library reports not every lack of descriptors.
        let exhausted = descriptors::probe(DIRECTORY_DESCRIPTORS).err();
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(certificates);
        let verifier = verifier(roots).map_err(StoreError::unusable)?;
        match (verifier, exhausted) {
            (Some(verifier), _) => Ok(verifier),
            (None, Some(error)) => Err(StoreError::Exhausted(error)),
            (None, None) => Err(StoreError::Unusable(without_certificates(paths, &problem))),
        }
    }

    fn without_certificates(paths: &Paths, problem: &str) -> String {
        match paths.variable {
            Some(name) => format!("it has no certificate{problem}; check the variable {name}"),
            None if paths.file.is_none() && paths.directories.is_empty() => {
                "there is none; install ca-certificates".to_owned()
            }
            None => format!("it has no certificate{problem}; install ca-certificates"),
        }
    }
}

/// Where the system itself verifies certificates, by what it trusts at that time.
#[cfg(any(windows, target_vendor = "apple"))]
mod platform {
    use std::sync::Arc;

    use rustls::client::danger::ServerCertVerifier;
    use rustls_platform_verifier::Verifier;

    use super::super::provider;
    use super::StoreError;

    /// Only the system knows.
    pub(super) struct Paths;

    impl Paths {
        pub(super) fn find() -> Self {
            Self
        }
    }

    /// Never changes.
    pub(super) fn state(_: &Paths) -> u64 {
        0
    }

    pub(super) fn read(_: &Paths) -> Result<Arc<dyn ServerCertVerifier>, StoreError> {
        let verifier = Verifier::new(provider()).map_err(StoreError::unusable)?;
        Ok(Arc::new(verifier))
    }
}
