//! The names that decide which file a path resolves to, and whether an event is about one of them.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use notify::{Event, EventKind};

use super::MAX_LINKS;

/// Whether an event may mean a change of one of these names. Reads, such as our own, are no changes.
pub(super) fn is_relevant(event: &Event, names: &BTreeSet<PathBuf>) -> bool {
    let is_access = matches!(event.kind, EventKind::Access(_));
    let is_ours = event.paths.iter().any(|path| names.contains(path));
    event.need_rescan() || (is_ours && !is_access)
}

/// Returns the names that decide which file `path` resolves to: those of the symlinks in it, and its own.
pub(crate) fn names_on_the_way(path: &Path) -> Vec<PathBuf> {
    let mut names = Vec::new();
    let mut next = Some(std::path::absolute(path).unwrap_or_else(|_| path.to_owned()));
    while let Some(path) = next.take().filter(|_| names.len() <= MAX_LINKS) {
        let mut place = PathBuf::new();
        let mut components = path.components();
        while let Some(component) = components.next() {
            place.push(component);
            if let Ok(target) = fs::read_link(&place) {
                let directory = place.parent().unwrap_or(Path::new("/"));
                next = Some(directory.join(target).join(components.as_path()));
                break;
            }
        }
        names.push(place);
    }
    names
}
