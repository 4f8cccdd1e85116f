//! The user's own socket, or the host's.

use std::fs;
#[cfg(any(target_os = "linux", target_os = "android"))]
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
#[cfg(any(target_os = "linux", target_os = "android"))]
use std::sync::OnceLock;

use super::Target;
use crate::error::{Error, HOST_SOCKET, SocketOrigin};
#[cfg(any(target_os = "linux", target_os = "android"))]
use crate::stream;

/// Mode bits by which group or others may write.
#[cfg(any(target_os = "linux", target_os = "android"))]
const WRITABLE_BY_OTHERS: u32 = 0o022;

/// The default paths: the user's own broker and the host's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Defaults {
    own: Arc<Path>,
    /// The config of the user's own broker, whether it exists or not; the host's root has none.
    own_config: Option<PathBuf>,
}

impl Defaults {
    pub(super) fn of(variable: &dyn Fn(&str) -> Option<PathBuf>) -> Self {
        let uid = rustix::process::getuid().as_raw();
        Self::of_user((uid, is_host_root(uid)), variable, &home)
    }

    /// `home` returns a user's home directory where `$HOME` is not set.
    fn of_user(
        (uid, is_root): (u32, bool),
        variable: &dyn Fn(&str) -> Option<PathBuf>,
        home: &dyn Fn(u32) -> Option<PathBuf>,
    ) -> Self {
        let runtime = || Path::new("/run/user").join(uid.to_string());
        // The XDG specification says to ignore relative paths.
        let absolute = |name| variable(name).filter(|path| path.is_absolute());
        let runtime = absolute("XDG_RUNTIME_DIR").unwrap_or_else(runtime);
        let of_home = || Some(variable("HOME").or_else(|| home(uid))?.join(".config"));
        // As in the daemon.
        let config = || absolute("XDG_CONFIG_HOME").or_else(of_home);
        let own_config = (!is_root).then(config).flatten();
        Self {
            own: runtime.join("domo-token/broker.sock").into(),
            own_config: own_config.map(|config| config.join("domo-token/config.toml")),
        }
    }

    /// Returns the user's own broker if its config or its socket exists, else the host's. A broker that does not run is
    /// never replaced by the other: they may have different credentials.
    pub(super) fn target(&self) -> Target {
        // A dangling symlink is a config, too: an unfinished one.
        let exists = |config: &PathBuf| fs::symlink_metadata(config).is_ok();
        let own_config = self.own_config.clone().filter(exists);
        let use_own = own_config.is_some() || fs::symlink_metadata(&self.own).is_ok();
        let own = self.own.to_path_buf();
        let (path, tried, origin) = if use_own {
            (Arc::clone(&self.own), vec![own], SocketOrigin::Own)
        } else {
            let host = PathBuf::from(HOST_SOCKET);
            (Arc::from(&*host), vec![own, host], SocketOrigin::Host)
        };
        Target {
            path,
            tried,
            own_config,
            origin,
        }
    }
}

impl Target {
    /// Rejects a server that is neither root, nor this user, nor the owner of the socket's directory. The directories
    /// above a default path must also belong to root or this user.
    ///
    /// A user without a uid in this user namespace is none of these. Then the directories' modes decide: only their
    /// owners may be able to create a socket there.
    #[cfg(any(target_os = "linux", target_os = "android"))]
    pub(crate) fn check(&self, stream: &impl AsFd) -> Result<(), Error> {
        let server = known(stream::server(stream).map_err(|error| self.io(error))?);
        let directory = self.directory();
        // In this order, because a script pays for each system call.
        if let Some(uid) = server
            && uid != 0
            && server != us()
            && server != known(self.stat(directory)?.uid())
        {
            let shown = self.path.display();
            let cause = format!(
                "untrusted broker at {shown}: it runs as user {uid}, who is neither root, nor you, nor the \
                 owner of the socket's directory; no request was sent"
            );
            return Err(Error::untrusted(cause));
        }
        let levels = if self.is_named() { 1 } else { usize::MAX };
        if server.is_none() || !self.is_named() {
            for above in directory.ancestors().take(levels) {
                self.check_directory(above, server)?;
            }
        }
        if server.is_none() {
            // A symlink at the path, or above it, leads to other directories.
            let real = fs::canonicalize(&self.path).map_err(|error| self.io(error))?;
            for above in real.ancestors().skip(1).take(levels) {
                self.check_directory(above, server)?;
            }
        }
        Ok(())
    }

    /// Checks one of the directories that lead to the socket.
    #[cfg(any(target_os = "linux", target_os = "android"))]
    fn check_directory(&self, directory: &Path, server: Option<u32>) -> Result<(), Error> {
        let stat = self.stat(directory)?;
        let owner = known(stat.uid());
        let (shown, socket) = (directory.display(), self.path.display());
        if let Some(uid) = owner
            && uid != 0
            && owner != us()
            && !self.is_named()
        {
            let cause = format!(
                "untrusted socket {socket}: {shown} belongs to user {uid}, who can replace it; to use it \
                 nevertheless, run: export DOMO_TOKEN_SOCKET={socket}"
            );
            return Err(Error::untrusted(cause));
        }
        let unknown = server.is_none() || owner.is_none();
        if unknown && stat.mode() & WRITABLE_BY_OTHERS != 0 {
            let cause = format!(
                "untrusted broker at {socket}: its user or the owner of {shown} has no uid in this user \
                 namespace, and other users than the owner can write to {shown}; use a directory \
                 that only its owner can write to"
            );
            return Err(Error::untrusted(cause));
        }
        Ok(())
    }

    #[cfg(any(target_os = "linux", target_os = "android"))]
    fn directory(&self) -> &Path {
        let parent = self.path.parent();
        let parent = parent.filter(|parent| !parent.as_os_str().is_empty());
        parent.unwrap_or(Path::new("."))
    }

    #[cfg(any(target_os = "linux", target_os = "android"))]
    fn stat(&self, directory: &Path) -> Result<fs::Metadata, Error> {
        fs::metadata(directory).map_err(|error| self.io(error))
    }

    #[cfg(any(target_os = "linux", target_os = "android"))]
    fn io(&self, source: io::Error) -> Error {
        Error::unusable_socket(&self.path, source)
    }

    /// Accepts every server: on other systems it is not identified, and the directory's permissions are sufficient.
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    pub(crate) fn check(&self, _: &impl AsFd) -> Result<(), Error> {
        let _ = self.is_named();
        Ok(())
    }

    fn is_named(&self) -> bool {
        match self.origin {
            SocketOrigin::Caller | SocketOrigin::Variable => true,
            SocketOrigin::Own | SocketOrigin::Host => false,
        }
    }

    /// Returns whether something else than a socket is at the path, such as a directory.
    pub(super) fn is_something_else(&self) -> bool {
        fs::metadata(&self.path).is_ok_and(|found| !found.file_type().is_socket())
    }

    pub(super) fn not_permitted(&self) -> Error {
        let shown = self.path.display();
        let closed = self.path.parent();
        let closed = closed.and_then(|parent| fs::metadata(parent).ok());
        // If the directory denies access, its execute bit.
        let socket = fs::metadata(&self.path).map(|stat| (stat, 0o020));
        let found = socket.ok().or(closed.map(|stat| (stat, 0o010)));
        let (cause, group) = match found {
            Some((stat, bit)) if stat.mode() & bit != 0 => {
                let name = group_name(stat.gid());
                let group = match &name {
                    Some(name) => format!("{name} ({})", stat.gid()),
                    None => stat.gid().to_string(),
                };
                let cause = format!(
                    "no permission to use {shown}: it is open to the members of group {group}"
                );
                (cause, name)
            }
            Some((stat, _)) => {
                let cause = format!(
                    "no permission to use {shown}: it is for user {} alone; \
                     to open it, set socket_group and socket_mode in the broker's config",
                    stat.uid()
                );
                (cause, None)
            }
            None => {
                let cause = format!("no permission to use {shown}; ask its owner for access");
                (cause, None)
            }
        };
        Error::not_permitted(cause, group)
    }
}

/// Returns the home directory of a local user.
fn home(uid: u32) -> Option<PathBuf> {
    let text = fs::read_to_string("/etc/passwd").ok()?;
    home_in(&text, uid).map(PathBuf::from)
}

/// Returns the home directory of a user in the text of `/etc/passwd` (passwd(5)).
fn home_in(users: &str, uid: u32) -> Option<&str> {
    let home = users.lines().find_map(|line| {
        let mut fields = line.split(':').skip(2);
        let (found, home) = (fields.next()?, fields.nth(2)?);
        (found.parse() == Ok(uid)).then_some(home)
    });
    home.filter(|home| !home.is_empty())
}

/// Returns whether a user is root also outside of its user namespace. In a rootless container, uid 0 is an ordinary user.
fn is_host_root(uid: u32) -> bool {
    // Systems without user namespaces have no such file.
    let map = || fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    uid == 0 && !is_root_mapped(&map())
}

/// Returns whether uid 0 is another user outside, by the text of `/proc/self/uid_map` (`user_namespaces(7)`).
fn is_root_mapped(uid_map: &str) -> bool {
    uid_map.lines().any(|line| {
        let mut fields = line.split_whitespace();
        fields.next() == Some("0") && fields.next() != Some("0")
    })
}

/// Returns the name of a local group. This crate does not use the system's name services, so groups of a network directory
/// have none.
fn group_name(id: u32) -> Option<String> {
    let text = fs::read_to_string("/etc/group").unwrap_or_default();
    name_in(&text, id).map(str::to_owned)
}

/// Returns the name of a group in the text of `/etc/group` (group(5)).
fn name_in(groups: &str, id: u32) -> Option<&str> {
    groups.lines().find_map(|line| {
        let mut fields = line.split(':');
        let (name, _password, found) = (fields.next()?, fields.next()?, fields.next()?);
        (found.parse() == Ok(id)).then_some(name)
    })
}

#[cfg(any(target_os = "linux", target_os = "android"))]
fn us() -> Option<u32> {
    known(rustix::process::geteuid().as_raw())
}

/// Returns the user, unless it is the overflow uid, which stands for all users without a uid in this user namespace.
#[cfg(any(target_os = "linux", target_os = "android"))]
fn known(uid: u32) -> Option<u32> {
    (uid == 0 || uid != overflow_uid()).then_some(uid)
}

#[cfg(any(target_os = "linux", target_os = "android"))]
fn overflow_uid() -> u32 {
    const DEFAULT: u32 = 65534;
    static FOUND: OnceLock<u32> = OnceLock::new();
    *FOUND.get_or_init(|| {
        let text = fs::read_to_string("/proc/sys/kernel/overflowuid");
        let parsed = text.ok().and_then(|text| text.trim().parse().ok());
        parsed.unwrap_or(DEFAULT)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn group_is_named_by_etc_group() {
        let groups = "root:x:0:\n# games\nbroken\ntokens:x:1004:ann,bob\nsame:x:1004:\n";
        assert_eq!(name_in(groups, 1004), Some("tokens"));
        assert_eq!(name_in(groups, 60), None);
        assert_eq!(group_name(u32::MAX), None);
    }

    /// A user's folder, and what `Defaults` of user `uid` lead to with it.
    fn target(uid: u32, folder: &Path) -> Target {
        let variable = |name: &str| match name {
            "XDG_RUNTIME_DIR" => Some(folder.join("run")),
            "HOME" => Some(folder.to_owned()),
            _ => None,
        };
        Defaults::of_user((uid, uid == 0), &variable, &|_| None).target()
    }

    fn make(path: &Path) {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "").unwrap();
    }

    #[test]
    fn default_target_is_the_own_socket_if_it_exists_and_else_the_hosts() {
        let folder = tempfile::tempdir().unwrap();
        let own = folder.path().join("run/domo-token/broker.sock");
        let host = PathBuf::from(HOST_SOCKET);
        let found = target(1000, folder.path());
        assert_eq!((&*found.path, found.own_config), (&*host, None));
        assert_eq!(found.tried, [own.clone(), host]);
        make(&own);
        let found = target(1000, folder.path());
        assert_eq!((&*found.path, found.own_config), (&*own, None));
        assert_eq!(found.tried, [own], "the host's was not tried");
    }

    #[test]
    fn default_target_is_the_own_socket_alone_if_the_own_config_exists() {
        let folder = tempfile::tempdir().unwrap();
        let own = folder.path().join("run/domo-token/broker.sock");
        let config = folder.path().join(".config/domo-token/config.toml");
        make(&config);
        let found = target(1000, folder.path());
        assert_eq!(found.tried, std::slice::from_ref(&own));
        assert_eq!((&*found.path, found.own_config), (&*own, Some(config)));
        let root = target(0, folder.path());
        assert_eq!(
            *root.path,
            *Path::new(HOST_SOCKET),
            "root has no own config"
        );
        assert_eq!(root.tried.len(), 2);
    }

    #[test]
    fn root_is_mapped_where_it_is_another_user_outside() {
        let mapped = "         0       1000          1\n         1     100000      65536\n";
        assert!(is_root_mapped(mapped));
        assert!(is_root_mapped("1 0 1\n0 100000 1\n"));
        for map in ["         0          0 4294967295\n", "1000 1000 1\n", ""] {
            assert!(!is_root_mapped(map), "{map}");
        }
    }

    #[test]
    fn relative_xdg_directories_are_ignored() {
        let variable = |name: &str| match name {
            "XDG_RUNTIME_DIR" | "XDG_CONFIG_HOME" => Some(PathBuf::from("relative")),
            "HOME" => Some(PathBuf::from("/h")),
            _ => None,
        };
        let found = Defaults::of_user((1000, false), &variable, &|_| None);
        let own = Path::new("/run/user/1000/domo-token/broker.sock");
        assert_eq!(*found.own, *own);
        let config = PathBuf::from("/h/.config/domo-token/config.toml");
        assert_eq!(found.own_config, Some(config));
    }

    #[test]
    fn own_config_is_where_the_daemon_looks_for_it() {
        let place = |variables: &[(&str, &str)]| {
            let variable = |name: &str| {
                let found = variables.iter().find(|(known, _)| *known == name);
                found.map(|(_, value)| PathBuf::from(value))
            };
            let home = |uid| (uid == 1000).then(|| PathBuf::from("/p"));
            Defaults::of_user((1000, false), &variable, &home).own_config
        };
        let there = |path: &str| Some(PathBuf::from(path));
        let both = [("HOME", "/h"), ("XDG_CONFIG_HOME", "/c")];
        assert_eq!(place(&both), there("/c/domo-token/config.toml"));
        assert_eq!(
            place(&both[..1]),
            there("/h/.config/domo-token/config.toml")
        );
        assert_eq!(place(&[]), there("/p/.config/domo-token/config.toml"));
        let none = Defaults::of_user((1000, false), &|_| None, &|_| None);
        assert_eq!(none.own_config, None);
    }

    #[test]
    fn home_is_read_from_the_line_of_the_user() {
        let users = "root:x:0:0:root:/root:/bin/sh\nbroken\nann:x:1000:7:Ann,,:/home/ann:/bin/sh\n\
                     none:x:1001:7:::/bin/sh\n";
        assert_eq!(home_in(users, 1000), Some("/home/ann"));
        assert_eq!(home_in(users, 1001), None);
        assert_eq!(home_in(users, 7), None);
    }

    #[test]
    fn own_config_that_is_a_dangling_symlink_exists() {
        let folder = tempfile::tempdir().unwrap();
        let config = folder.path().join(".config/domo-token/config.toml");
        fs::create_dir_all(config.parent().unwrap()).unwrap();
        std::os::unix::fs::symlink("/nowhere/config.toml", &config).unwrap();
        let found = target(1000, folder.path());
        assert_eq!(found.own_config, Some(config));
        assert_ne!(&*found.path, Path::new(HOST_SOCKET));
    }
}
