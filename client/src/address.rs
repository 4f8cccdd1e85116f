//! Where a caller looks for the broker, and whom it takes for the broker there.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use interprocess::local_socket::Stream;

use crate::error::Error;

/// The host's broker.
const HOST_SOCKET: &str = "/run/domo-token/broker.sock";

/// A socket, and how it came to be chosen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Address {
    pub(crate) path: PathBuf,
    /// All paths looked at, for whoever has to find out why there is no broker.
    pub(crate) tried: Vec<PathBuf>,
    /// Whether a person or a variable named it; the usual places are judged more strictly.
    named: bool,
}

impl Address {
    /// The socket a person named.
    pub(crate) fn named(path: PathBuf) -> Self {
        Self {
            tried: vec![path.clone()],
            path,
            named: true,
        }
    }

    /// `$DOMO_TOKEN_SOCKET`, else the user's own broker if there is a socket file, else the host's.
    /// Never from a dead one to the other: they may hold different credentials.
    pub(crate) fn find(env: &dyn Fn(&str) -> Option<OsString>) -> Self {
        let variable = |name| {
            env(name)
                .filter(|value| !value.is_empty())
                .map(PathBuf::from)
        };
        if let Some(path) = variable("DOMO_TOKEN_SOCKET") {
            return Self::named(path);
        }
        let runtime = variable("XDG_RUNTIME_DIR").unwrap_or_else(runtime_directory);
        let own = runtime.join("domo-token/broker.sock");
        let host = PathBuf::from(HOST_SOCKET);
        let tried = vec![own.clone(), host.clone()];
        let path = if fs::symlink_metadata(&own).is_ok() {
            own
        } else {
            host
        };
        Self {
            path,
            tried,
            named: false,
        }
    }

    /// Refuses a server that is neither root, nor us, nor the owner of the socket's directory; in
    /// the usual places the directories above must be root's or ours as well.
    #[cfg(any(target_os = "linux", target_os = "android"))]
    pub(crate) fn check(&self, stream: &Stream) -> Result<(), Error> {
        use std::os::fd::AsFd;
        use std::os::unix::fs::MetadataExt;
        let io = |source: io::Error| Error::Io {
            path: self.path.clone(),
            source: source.into(),
        };
        let Stream::UdSocket(stream) = stream;
        let server = rustix::net::sockopt::socket_peercred(stream.as_fd());
        let server = server.map_err(|error| io(error.into()))?.uid.as_raw();
        let us = || rustix::process::geteuid().as_raw();
        let directory = self
            .path
            .parent()
            .filter(|parent| !parent.as_os_str().is_empty());
        let directory = directory.unwrap_or(Path::new("."));
        let owner = |of: &Path| fs::metadata(of).map_err(io).map(|stat| stat.uid());
        let shown = self.path.display();
        // In this order: a script pays for each question.
        if server != 0 && server != us() && server != owner(directory)? {
            let cause = format!(
                "{shown} is served by user {server}, who is neither root, nor you, nor the owner of its directory; not asking it"
            );
            return Err(Error::Untrusted { cause });
        }
        for above in directory.ancestors().filter(|_| !self.named) {
            let owner = owner(above)?;
            if owner != 0 && owner != us() {
                let cause = format!(
                    "{} belongs to user {owner}, who could put a broker of their own at {shown}; name a socket with --socket to use it all the same",
                    above.display()
                );
                return Err(Error::Untrusted { cause });
            }
        }
        Ok(())
    }

    /// Elsewhere the kernel isn't asked who serves; the directory's permissions have to do.
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    pub(crate) fn check(&self, _: &Stream) -> Result<(), Error> {
        let _ = self.named;
        Ok(())
    }

    /// What a failed connection means, once it is not going to be tried again.
    pub(crate) fn error(&self, source: io::Error) -> Error {
        let kind = source.kind();
        if matches!(
            kind,
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused
        ) {
            let tried = self.tried.clone();
            return Error::NotRunning { tried };
        }
        if kind == io::ErrorKind::PermissionDenied {
            let cause = self.how_to_join();
            return Error::NotPermitted { cause };
        }
        Error::Io {
            path: self.path.clone(),
            source: source.into(),
        }
    }

    fn how_to_join(&self) -> String {
        use std::os::unix::fs::MetadataExt;
        let shown = self.path.display();
        let closed = self.path.parent();
        let closed = closed.and_then(|parent| fs::metadata(parent).ok());
        // Its directory's bit to pass through, if that is what is closed.
        let socket = fs::metadata(&self.path).map(|stat| (stat, 0o020));
        let found = socket.ok().or(closed.map(|stat| (stat, 0o010)));
        match found {
            Some((stat, bit)) if stat.mode() & bit != 0 => {
                let group = group(stat.gid());
                format!("no permission to use {shown}; ask to be added to its group, {group}")
            }
            Some((stat, _)) => format!(
                "no permission to use {shown}, which is for user {} alone; \
                 the broker's config opens it with socket_group and socket_mode",
                stat.uid()
            ),
            None => format!("no permission to use {shown}; ask its owner for access"),
        }
    }
}

/// A group by number, and by name if it is one of this machine's own. A directory on the network
/// isn't asked: this crate does without the system's name services.
fn group(id: u32) -> String {
    let text = fs::read_to_string("/etc/group").unwrap_or_default();
    match name_in(&text, id) {
        Some(name) => format!("{name} ({id})"),
        None => id.to_string(),
    }
}

/// The name of a group in the text of `/etc/group` (group(5)).
fn name_in(groups: &str, id: u32) -> Option<&str> {
    groups.lines().find_map(|line| {
        let mut fields = line.split(':');
        let (name, _password, found) = (fields.next()?, fields.next()?, fields.next()?);
        (found.parse() == Ok(id)).then_some(name)
    })
}

fn runtime_directory() -> PathBuf {
    let uid = rustix::process::getuid().as_raw();
    Path::new("/run/user").join(uid.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_is_named_as_the_machine_names_it() {
        let groups = "root:x:0:\n# games\nbroken\ntokens:x:1004:ann,bob\nsame:x:1004:\n";
        assert_eq!(name_in(groups, 1004), Some("tokens"));
        assert_eq!(name_in(groups, 60), None);
        assert_eq!(group(u32::MAX), u32::MAX.to_string());
    }

    #[test]
    fn the_variable_wins_and_is_the_only_place() {
        let env = |name: &str| (name == "DOMO_TOKEN_SOCKET").then(|| "/x/y.sock".into());
        let address = Address::find(&env);
        assert_eq!(address.path, Path::new("/x/y.sock"));
        assert_eq!(address.tried.len(), 1);
    }

    #[test]
    fn a_users_own_broker_comes_before_the_hosts_if_its_socket_is_there() {
        let folder = tempfile::tempdir().unwrap();
        let env = |name: &str| (name == "XDG_RUNTIME_DIR").then(|| folder.path().into());
        assert_eq!(Address::find(&env).path, Path::new(HOST_SOCKET));
        assert_eq!(Address::find(&env).tried.len(), 2);
        let own = folder.path().join("domo-token/broker.sock");
        fs::create_dir(own.parent().unwrap()).unwrap();
        fs::write(&own, "").unwrap();
        assert_eq!(Address::find(&env).path, own);
    }
}
