//! What to do about a file that the daemon cannot read: the command that lets it, or where to put the
//! file instead.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use rustix::process::{getegid, geteuid};

use crate::descriptors;
use crate::users;
use crate::watch::names_on_the_way;

/// The user as whom the service runs.
pub(crate) const SERVICE_USER: &str = "domo-token";

/// Directories that the unit hides from the service, and by which setting (`systemd.exec(5)`).
const HIDDEN: [(&str, &str); 5] = [
    ("/home", "ProtectHome=yes"),
    ("/root", "ProtectHome=yes"),
    ("/run/user", "ProtectHome=yes"),
    ("/tmp", "PrivateTmp=yes"),
    ("/var/tmp", "PrivateTmp=yes"),
];

/// Part of the file system that the unit hides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct HiddenByUnit {
    directory: &'static str,
    setting: &'static str,
    by_symlink: bool,
}

impl fmt::Display for HiddenByUnit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            directory, setting, ..
        } = self;
        let link = if self.by_symlink {
            "it is reached by a symlink, and "
        } else {
            ""
        };
        write!(f, "{link}the unit hides {directory} ({setting})")
    }
}

/// Returns what hides `path`, or a symlink on the way that it leads by, from the service.
#[must_use]
pub(crate) fn hidden_by_unit(path: &Path) -> Option<HiddenByUnit> {
    let names = names_on_the_way(path);
    let mut places = names.iter().map(|name| without_dots(name)).enumerate();
    places.find_map(|(links, place)| {
        let mut hidden = HIDDEN.into_iter();
        let found = hidden.find(|(directory, _)| place.starts_with(directory));
        found.map(|(directory, setting)| HiddenByUnit {
            directory,
            setting,
            by_symlink: links > 0,
        })
    })
}

/// No symlink is left on the way but at the end.
fn without_dots(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for component in path.components() {
        if component.as_os_str() == ".." {
            plain.pop();
        } else {
            plain.push(component);
        }
    }
    plain
}

/// Returns what to do about a file that cannot be read, as the end of a message; `shown` is the file
/// as messages show it.
#[must_use]
pub(crate) fn on_unreadable(path: &Path, shown: &str, error: &io::Error) -> String {
    if descriptors::is_exhausted(error) {
        return descriptors::RAISE_LIMIT.to_owned();
    }
    let is_missing = error.kind() == io::ErrorKind::NotFound;
    if !is_missing && error.kind() != io::ErrorKind::PermissionDenied {
        return String::new();
    }
    if is_service()
        && let Some(hidden) = hidden_by_unit(path)
    {
        return format!("; {hidden}; move it to /etc/domo-token");
    }
    if is_missing {
        return "; put it there, or name another in the config".to_owned();
    }
    on_denied(path, shown)
}

/// Whether this process is the service, or judges as the service would.
fn is_service() -> bool {
    let is_user = users::ids(SERVICE_USER).is_some_and(|(uid, _)| uid == geteuid().as_raw());
    // As sd_booted(3).
    let is_booted = || Path::new("/run/systemd/system").is_dir();
    is_user && (std::env::var_os("INVOCATION_ID").is_some() || is_booted())
}

fn on_denied(path: &Path, shown: &str) -> String {
    let (uid, gid) = (geteuid().as_raw(), getegid().as_raw());
    let identity = users::identity(uid, Some(gid)).unwrap_or_default();
    let user = identity.user.unwrap_or_else(|| uid.to_string());
    if let Some(directory) = closed_directory(path) {
        let directory = directory.display();
        return format!(
            "; user {user} may not enter {directory}; move the file to one that it may enter"
        );
    }
    let Ok(stat) = path.metadata() else {
        return "; let the daemon's user, or its group, read it".to_owned();
    };
    let owner = std::os::unix::fs::MetadataExt::uid(&stat);
    let file = shell_quoted(shown);
    if owner == uid {
        return format!("; run: chmod 600 {file}");
    }
    if user != SERVICE_USER {
        return format!("; run as root: chown {user} {file} && chmod 600 {file}");
    }
    let mut groups = identity.groups.into_iter();
    let group = groups.find_map(|(id, name)| name.filter(|_| id == gid));
    let group = group.unwrap_or_else(|| gid.to_string());
    format!("; run as root: chown root:{group} {file} && chmod 640 {file}")
}

/// The directory on the way to `path` that this process may not enter.
fn closed_directory(path: &Path) -> Option<PathBuf> {
    let names = names_on_the_way(path);
    let ancestors = names.iter().flat_map(|name| {
        let ancestors: Vec<&Path> = name.ancestors().collect();
        ancestors.into_iter().rev()
    });
    let mut ancestors = ancestors.filter_map(|name| Some((name, name.parent()?)));
    ancestors.find_map(|(name, directory)| {
        let error = name.symlink_metadata().err()?;
        let is_denied = error.kind() == io::ErrorKind::PermissionDenied;
        is_denied.then(|| directory.to_owned())
    })
}

/// Returns a text as one word of a command line for a shell.
#[must_use]
pub(crate) fn shell_quoted(text: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "/._-+=:,@%".contains(c);
    if !text.is_empty() && text.chars().all(is_plain) {
        return text.to_owned();
    }
    format!("'{}'", text.replace('\'', "'\\''"))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn path_below_a_hidden_directory_is_hidden_also_by_symlinks_and_dots() {
        let shown = |path: &str| hidden_by_unit(Path::new(path)).map(|hidden| hidden.to_string());
        for (path, directory) in [
            ("/home/ann/secret", "/home (ProtectHome=yes)"),
            ("/root/secret", "/root (ProtectHome=yes)"),
            ("/run/user/1000/secret", "/run/user (ProtectHome=yes)"),
            ("/tmp/secret", "/tmp (PrivateTmp=yes)"),
            ("/var/tmp/secret", "/var/tmp (PrivateTmp=yes)"),
            ("/etc/../home/ann/secret", "/home (ProtectHome=yes)"),
        ] {
            assert_eq!(shown(path), Some(format!("the unit hides {directory}")));
        }
        for path in ["/etc/domo-token/x", "/homes/x", "/etc/tmp/x", "/srv/home/x"] {
            assert_eq!(shown(path), None, "{path}");
        }
        let folder = tempfile::tempdir_in("/dev/shm").unwrap();
        let link = folder.path().join("link");
        symlink("../../../root/x", &link).unwrap();
        let hidden = hidden_by_unit(&link).unwrap().to_string();
        assert!(hidden.starts_with("it is reached by a symlink"), "{hidden}");
        fs::remove_file(&link).unwrap();
        symlink("../../../srv/x", &link).unwrap();
        assert_eq!(hidden_by_unit(&link), None);
    }

    #[test]
    fn path_in_a_command_is_one_word_for_a_shell() {
        for (path, word) in [
            ("/etc/domo-token/acme.secret", "/etc/domo-token/acme.secret"),
            ("/etc/my secret", "'/etc/my secret'"),
            ("/it's;rm", "'/it'\\''s;rm'"),
            ("", "''"),
        ] {
            assert_eq!(shell_quoted(path), word);
        }
    }
}
