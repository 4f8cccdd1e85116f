//! Paths that the config names, as messages show them: a user may have written a secret instead of a path.

use std::fmt;
use std::path::{Path, PathBuf};

use super::Naming;
use domo_token_core::masking::{looks_like_secret, masked};

/// Returns a path as a message shows it: it must not look like another line, nor do anything to a terminal.
#[must_use]
pub fn shown_path(path: &Path) -> String {
    let path = path.display().to_string();
    path.replace(char::is_control, "\u{fffd}")
}

/// The path of a file that the config names.
#[derive(Clone, PartialEq, Eq)]
pub struct NamedPath {
    path: PathBuf,
    /// What was written, if it looks like a secret.
    suspect: Option<String>,
    naming: Naming,
}

impl NamedPath {
    /// Returns a path as `written` in a config in `directory`, the base of relative paths.
    #[must_use]
    pub fn new(written: &Path, directory: &Path, naming: Naming) -> Self {
        let text = written.to_string_lossy();
        Self {
            path: directory.join(written),
            suspect: looks_like_secret(&text).then(|| text.into_owned()),
            naming,
        }
    }

    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn naming(&self) -> Naming {
        self.naming
    }

    /// Returns whether a secret seems to be written instead of it. What looks like one is a path after all if
    /// its directory is there, which this looks up.
    #[must_use]
    pub fn is_secret(&self) -> bool {
        self.secret().is_some()
    }

    fn secret(&self) -> Option<&String> {
        self.suspect.as_ref().filter(|written| {
            let has_directory = written.trim_start_matches('/').contains('/');
            !(has_directory && self.path.parent().is_some_and(Path::is_dir))
        })
    }

    /// Returns the path as a message shows it.
    #[must_use]
    pub fn shown(&self) -> String {
        if let Some(written) = self.secret() {
            let hint = self.naming.secret_hint();
            return format!("{} ({hint})", masked(written).escape_debug());
        }
        shown_path(&self.path)
    }
}

impl fmt::Debug for NamedPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown())
    }
}

/// A path that was named from the working directory.
impl<P: Into<PathBuf>> From<P> for NamedPath {
    fn from(path: P) -> Self {
        Self::new(&path.into(), Path::new(""), Naming::Keys)
    }
}

#[cfg(test)]
mod tests {
    use domo_token_core::masking::HINT;

    use super::*;

    const SECRET: &str = "deadbeef0123456789abcdef0123456789abcdef0123456789abcdef01234567";

    #[test]
    fn named_path_is_hidden_unless_its_directory_is_there_or_it_is_absolute() {
        let folder = tempfile::tempdir().unwrap();
        let shown =
            |written: &str| NamedPath::new(Path::new(written), folder.path(), Naming::Keys).shown();
        let slashed = format!("ab/{SECRET}");
        for written in [SECRET, &slashed, &format!("/{SECRET}")] {
            assert!(shown(written).contains(HINT), "{}", shown(written));
            assert!(!shown(written).contains(&SECRET[..9]));
        }
        std::fs::create_dir(folder.path().join("ab")).unwrap();
        for written in [
            &slashed,
            &format!("/run/secrets/{SECRET}"),
            &format!("{SECRET}.pem"),
            "acme.secret",
        ] {
            let path = folder.path().join(written);
            assert_eq!(shown(written), path.display().to_string());
        }
    }
}
