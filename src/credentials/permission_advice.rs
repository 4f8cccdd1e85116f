//! What to do about a file that the daemon cannot read, or that other users could change: the command that fixes it, or
//! where to put the file instead. No command changes the owner of a directory or of a file of root, except the group of
//! a secret to that of the service's user.

use std::fmt;
use std::fs::Metadata;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::process::{getegid, geteuid};

use crate::config::Naming;
use crate::platform::descriptors;
use crate::platform::symlink_chain::symlink_chain;
use crate::platform::users;

/// The user of the service.
pub(crate) const SERVICE_USER: &str = "domo-token";

/// The directory of the service's config.
pub(crate) const HOST_DIRECTORY: &str = "/etc/domo-token";

/// What to do about a file of the host's broker as another user.
const USE_HOSTS: &str = "this is the config of the host's broker; to set up your own broker, run: \
                         domo-tokend init; for a token of the host's broker, run: domo-token data";

/// `ENOEXEC`: the file has no known format.
const NOEXEC: i32 = rustix::io::Errno::NOEXEC.raw_os_error();

/// Directories that the unit hides from the service, and by which setting (`systemd.exec(5)`).
const HIDDEN: [(&str, &str); 5] = [
    ("/home", "ProtectHome=yes"),
    ("/root", "ProtectHome=yes"),
    ("/run/user", "ProtectHome=yes"),
    ("/tmp", "PrivateTmp=yes"),
    ("/var/tmp", "PrivateTmp=yes"),
];

/// The part of the file system that the unit hides.
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

/// Returns what hides `path`, or a symlink in it, from the service.
#[must_use]
pub(crate) fn hidden_by_unit(path: &Path) -> Option<HiddenByUnit> {
    let names = symlink_chain(path);
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

/// Resolves ".." in a path whose only symlink may be its last component.
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
pub(crate) fn on_unreadable(path: &Path, shown: &str, error: &io::Error, naming: Naming) -> String {
    if descriptors::is_exhausted(error) {
        return descriptors::RAISE_LIMIT.to_owned();
    }
    let is_missing = error.kind() == io::ErrorKind::NotFound;
    if !is_missing && error.kind() != io::ErrorKind::PermissionDenied {
        return String::new();
    }
    if let Some(advice) = on_hidden(path, HOST_DIRECTORY) {
        return format!("; {advice}");
    }
    if is_missing {
        return format!("; create it, or {}", naming.change_path());
    }
    format!("; {}", on_denied(path, shown))
}

/// Returns what to do about a file that the unit hides from this process.
pub(super) fn on_hidden(path: &Path, place: &str) -> Option<String> {
    let hidden = hidden_by_unit(path).filter(|_| is_service())?;
    Some(format!("{hidden}; move it to {place}"))
}

/// Returns whether a file is below the directory of the host's config, with symlinks resolved.
#[must_use]
pub(crate) fn is_hosts(path: &Path) -> bool {
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let real = |path: &Path| path.canonicalize().unwrap_or_else(|_| without_dots(path));
    let directory = path.parent().unwrap_or(&path);
    real(directory).starts_with(real(Path::new(HOST_DIRECTORY)))
}

/// Returns whether this process is the service, or checks files for it.
fn is_service() -> bool {
    // As sd_booted(3) does.
    let is_booted = || Path::new("/run/systemd/system").is_dir();
    Us::new().is_service() && (std::env::var_os("INVOCATION_ID").is_some() || is_booted())
}

/// The user of this process.
struct Us {
    uid: u32,
    service: Option<(u32, u32)>,
}

impl Us {
    fn new() -> Self {
        let (uid, service) = (geteuid().as_raw(), users::ids(SERVICE_USER));
        Self { uid, service }
    }

    fn is_service(&self) -> bool {
        self.service.is_some_and(|(uid, _)| uid == self.uid)
    }

    /// Returns whether files of that user are trusted.
    fn trusts(&self, owner: u32) -> bool {
        owner == 0 || owner == self.uid
    }

    /// Returns whether the file is the host's, and this process is neither its broker nor root.
    fn is_guest(&self, path: &Path) -> bool {
        !self.is_service() && self.uid != 0 && is_hosts(path)
    }

    /// Returns how to run commands that change files of `owner`.
    fn run(&self, owner: u32, commands: &str) -> String {
        let is_allowed = self.uid == 0 || (owner == self.uid && !commands.contains("chown"));
        let run = if is_allowed { "run" } else { "run as root" };
        format!("{run}: {commands}")
    }

    fn own_copy(&self) -> String {
        format!("use a copy of it that user {} owns", user_name(self.uid))
    }
}

/// Returns a user's name, or its number if it has none.
#[must_use]
pub(crate) fn user_name(uid: u32) -> String {
    let name = users::identity(uid, None)
        .ok()
        .and_then(|identity| identity.user);
    name.unwrap_or_else(|| uid.to_string())
}

fn on_denied(path: &Path, shown: &str) -> String {
    let us = Us::new();
    if us.is_guest(path) {
        return USE_HOSTS.to_owned();
    }
    if let Some(directory) = closed_directory(path) {
        return on_closed(&us, &directory);
    }
    let Ok(stat) = path.metadata() else {
        return "make it readable for the daemon's user or its group".to_owned();
    };
    on_unsafe(path, shown, &stat, RequiredMode::Secret, HOST_DIRECTORY)
}

fn on_closed(us: &Us, directory: &Path) -> String {
    let is_roots = directory.metadata().is_ok_and(|stat| stat.uid() == 0);
    let is_hosts = directory == Path::new(HOST_DIRECTORY);
    let user = user_name(us.uid);
    let name = directory.display();
    if us.is_service() && is_roots && is_hosts {
        return format!("user {user} cannot enter {name}; run as root: chmod 755 {name}");
    }
    if us.is_service() && is_roots && directory.starts_with(HOST_DIRECTORY) {
        let (group, quoted) = (group_name(), shell_quoted(&name.to_string()));
        return format!(
            "user {user} cannot enter {name}; run as root: chgrp {group} {quoted} && chmod 750 \
             {quoted}"
        );
    }
    format!("user {user} cannot enter {name}; move the file to a directory that it can enter")
}

/// Returns the name of this process's group, or its number if it has none.
fn group_name() -> String {
    let (uid, gid) = (geteuid().as_raw(), getegid().as_raw());
    let groups = users::identity(uid, Some(gid)).unwrap_or_default().groups;
    let mut groups = groups.into_iter();
    let group = groups.find_map(|(id, name)| name.filter(|_| id == gid));
    group.unwrap_or_else(|| gid.to_string())
}

/// The required mode of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RequiredMode {
    /// Readable only to the daemon.
    Secret,
    /// Not writable to others.
    Unwritable,
    /// Written by the daemon, and perhaps by its group.
    Written,
}

impl RequiredMode {
    /// Returns the bits that let others write the file.
    pub(super) fn forbidden_bits(self) -> u32 {
        match self {
            Self::Secret | Self::Unwritable => 0o022,
            Self::Written => 0o002,
        }
    }
}

/// Returns what to do about a file with the wrong owner or mode: one command for both, or to move it to `place`.
pub(super) fn on_unsafe(
    path: &Path,
    shown: &str,
    stat: &Metadata,
    required: RequiredMode,
    place: &str,
) -> String {
    let us = Us::new();
    if us.is_guest(path) {
        return USE_HOSTS.to_owned();
    }
    let (file, owner) = (shell_quoted(shown), stat.uid());
    let is_ours_or_roots = us.trusts(owner);
    // A command would change the target, which another user may have chosen.
    if let Some(link) = replaceable_link(path) {
        let link = link.display();
        return format!("others can replace the symlink {link}; use the path of its target");
    }
    if !is_ours_or_roots && foreign_directory(path).is_some() {
        return on_foreign(place);
    }
    let is_privileged = us.uid == 0 || us.is_service();
    let new_owner = match required {
        RequiredMode::Secret if us.is_service() && owner != us.uid => {
            let is_groups = owner == 0 && stat.gid() == getegid().as_raw();
            let chown = format!("chown root:{} {file} && ", group_name());
            let chown = if is_groups { String::new() } else { chown };
            return us.run(owner, &format!("{chown}chmod 640 {file}"));
        }
        RequiredMode::Secret if owner == 0 && us.uid != 0 => return us.own_copy(),
        _ if is_ours_or_roots => None,
        RequiredMode::Secret | RequiredMode::Unwritable if is_privileged => Some("root".to_owned()),
        RequiredMode::Secret | RequiredMode::Unwritable | RequiredMode::Written => {
            Some(user_name(us.uid))
        }
    };
    let chown = new_owner.map(|user| format!("chown {user} {file}"));
    let chmod = match required {
        RequiredMode::Secret => Some("chmod 600"),
        _ if stat.mode() & required.forbidden_bits() == 0 => None,
        RequiredMode::Unwritable => Some("chmod go-w"),
        RequiredMode::Written => Some("chmod o-w"),
    };
    let chmod = chmod.map(|chmod| format!("{chmod} {file}"));
    let commands: Vec<String> = chown.into_iter().chain(chmod).collect();
    us.run(owner, &commands.join(" && "))
}

/// Returns what to do about a program that cannot be started, as the end of a message.
#[must_use]
pub(super) fn on_unstartable(program: &Path, error: &io::Error) -> String {
    let Ok(stat) = program.metadata() else {
        return on_unreadable(program, &program.display().to_string(), error, Naming::Keys);
    };
    if stat.is_dir() {
        return "; it is a directory; use a program in it".to_owned();
    }
    if error.kind() == io::ErrorKind::NotFound {
        return "; the file exists, but the interpreter in its first line does not".to_owned();
    }
    if error.kind() == io::ErrorKind::PermissionDenied {
        return format!("; {}", on_not_executable(program, &stat));
    }
    if error.raw_os_error() == Some(NOEXEC) {
        return "; it needs a first line such as #!/bin/sh".to_owned();
    }
    String::new()
}

fn on_not_executable(program: &Path, stat: &Metadata) -> String {
    let us = Us::new();
    let file = shell_quoted(&program.display().to_string());
    let (owner, mode) = (stat.uid(), stat.mode());
    if us.is_guest(program) {
        USE_HOSTS.to_owned()
    } else if mode & 0o111 == 0 && (owner == us.uid || mode & 0o004 != 0) {
        us.run(owner, &format!("chmod +x {file}"))
    } else if mode & 0o001 != 0 {
        "its interpreter or its file system (noexec) prevents it from running; use another program"
            .to_owned()
    } else if owner == 0 && us.is_service() {
        let group = group_name();
        us.run(owner, &format!("chgrp {group} {file} && chmod 750 {file}"))
    } else {
        format!("use a program that user {} can run", user_name(us.uid))
    }
}

/// Returns the command that runs a program as this process's user does.
#[must_use]
pub(super) fn by_hand(program: &str) -> String {
    let sudo = if Us::new().is_service() {
        format!("sudo -u {SERVICE_USER} ")
    } else {
        String::new()
    };
    sudo + &shell_quoted(program)
}

/// Returns what to do about a file in a directory of another user.
pub(super) fn on_foreign(place: &str) -> String {
    let us = Us::new();
    if us.uid == 0 || us.is_service() {
        return format!("move the file to {place}");
    }
    us.own_copy().replacen("it", "the file", 1)
}

/// Returns what to do about a directory of root or the daemon's user that others can write to.
pub(super) fn on_open_directory(directory: &Path, owner: u32) -> String {
    let us = Us::new();
    if us.is_guest(&directory.join("config.toml")) {
        return USE_HOSTS.to_owned();
    }
    let directory = shell_quoted(&directory.display().to_string());
    us.run(owner, &format!("chmod go-w {directory}"))
}

/// Returns the first symlink in `path` whose directory all users can write to.
fn replaceable_link(path: &Path) -> Option<PathBuf> {
    let mut links = symlink_chain(path);
    links.pop();
    let is_open = |link: &PathBuf| {
        let directory = link.parent().and_then(|parent| parent.metadata().ok());
        directory.is_some_and(|stat| stat.mode() & 0o002 != 0)
    };
    links.into_iter().find(is_open)
}

/// Returns the first directory in `path` that belongs to neither root nor this process's user.
fn foreign_directory(path: &Path) -> Option<PathBuf> {
    let us = Us::new();
    let mut directories = symlink_chain(path).into_iter().filter_map(|mut name| {
        name.pop();
        let stat = name.metadata().ok()?;
        (!us.trusts(stat.uid())).then_some(name)
    });
    directories.next()
}

/// Returns the directory in `path` that this process may not enter.
fn closed_directory(path: &Path) -> Option<PathBuf> {
    let names = symlink_chain(path);
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
