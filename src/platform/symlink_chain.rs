//! Follows the symlinks in a path.

use std::fs;
use std::path::{Path, PathBuf};

/// Symlinks followed for one path, as many as the system does.
const MAX_LINKS: usize = 40;

/// Returns the names that decide which file `path` resolves to: those of the symlinks in it, and at the end its
/// own.
pub(crate) fn symlink_chain(path: &Path) -> Vec<PathBuf> {
    let mut names = Vec::new();
    let mut next = Some(std::path::absolute(path).unwrap_or_else(|_| path.to_owned()));
    while let Some(path) = next.take().filter(|_| names.len() <= MAX_LINKS) {
        let mut resolved = PathBuf::new();
        let mut components = path.components();
        while let Some(component) = components.next() {
            resolved.push(component);
            if let Ok(target) = fs::read_link(&resolved) {
                let directory = resolved.parent().unwrap_or(Path::new("/"));
                next = Some(directory.join(target).join(components.as_path()));
                break;
            }
        }
        names.push(resolved);
    }
    names
}
