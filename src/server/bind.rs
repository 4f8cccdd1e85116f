//! Why there is no listening.

use std::path::{Path, PathBuf};

/// Why the socket can't be had.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Another daemon serves this path.
    #[error("{path}: another domo-tokend serves this socket; stop it, or choose another --socket", path = .0.display())]
    InUse(PathBuf),
    /// Something about the path is not as it must be.
    #[error("{path}: {problem}", path = .path.display())]
    Path {
        /// The file or directory.
        path: PathBuf,
        /// What is wrong and what to do.
        problem: String,
        /// Whether it is only that no descriptor is left.
        is_exhausted: bool,
    },
}

pub(super) fn path_error(path: &Path, problem: &str) -> BindError {
    BindError::Path {
        path: path.to_owned(),
        problem: problem.to_owned(),
        is_exhausted: false,
    }
}
