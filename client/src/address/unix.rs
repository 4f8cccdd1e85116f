//! The user's own socket, or the host's.

use std::fs;
#[cfg(any(target_os = "linux", target_os = "android"))]
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::Address;
use crate::error::Error;
use crate::stream::Stream;

/// The host's broker.
const HOST_SOCKET: &str = "/run/domo-token/broker.sock";

impl Address {
    /// The user's own broker if there is a socket file, else the host's. Never from a dead one to
    /// the other: they may hold different credentials.
    pub(super) fn usual(variable: &dyn Fn(&str) -> Option<PathBuf>) -> Self {
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
        let io = |source: io::Error| Error::Io {
            path: self.path.clone(),
            source: source.into(),
        };
        let server = stream.server().map_err(io)?;
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

    pub(super) fn how_to_join(&self) -> String {
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
