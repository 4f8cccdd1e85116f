//! What is wrong with a config, and where.

use std::borrow::Cow;
use std::fmt;
use std::path::PathBuf;

use crate::config::named_path::shown_path;
use domo_token_core::masking::masked;

/// What is wrong with a config, and where.
#[derive(Debug, PartialEq, Eq)]
pub struct ConfigError {
    pub(super) path: Option<PathBuf>,
    pub(super) position: Option<(usize, usize)>,
    pub(super) key: Option<String>,
    pub(super) problem: String,
}

impl ConfigError {
    /// Returns the key that is wrong, with the tables around it.
    #[must_use]
    pub fn key(&self) -> Option<&str> {
        self.key.as_deref()
    }

    /// Returns what is wrong, without its place, and masked like the whole message.
    #[must_use]
    pub fn problem(&self) -> Cow<'_, str> {
        masked(&self.problem)
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.path {
            Some(path) => f.write_str(&shown_path(path))?,
            None => f.write_str("environment")?,
        }
        if let Some((line, column)) = self.position {
            write!(f, ":{line}:{column}")?;
        }
        match (&self.key, &self.path) {
            // The name of a variable, which is none that somebody wrote.
            (Some(key), None) => write!(f, ": {key}")?,
            (Some(key), Some(_)) => write!(f, ": {}", masked(key))?,
            (None, _) => {}
        }
        // Every message is displayed here.
        write!(f, ": {}", self.problem())
    }
}

impl std::error::Error for ConfigError {}
