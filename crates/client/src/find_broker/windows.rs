//! The host's named pipe.

use std::io;
use std::os::windows::io::AsHandle;
use std::path::{Path, PathBuf};

use super::Target;
use crate::error::{Error, SocketOrigin};
use crate::pipe::DEFAULT;
use crate::windows_owner::{self as owner, ADMINISTRATORS, SYSTEM};

/// The default paths: the host's pipe alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Defaults;

impl Defaults {
    pub(super) fn of(_: &dyn Fn(&str) -> Option<PathBuf>) -> Self {
        Self
    }

    #[expect(clippy::unused_self, reason = "the same interface everywhere")]
    pub(super) fn target(&self) -> Target {
        Target::named(Path::new(DEFAULT).into(), SocketOrigin::Host)
    }
}

impl Target {
    /// Rejects a server whose pipe belongs neither to this user, nor to the system, nor to the administrators.
    /// Any process can create a pipe of a free name, but not with another owner.
    pub(crate) fn check(&self, stream: &impl AsHandle) -> Result<(), Error> {
        let io = |source: io::Error| Error::Io {
            path: self.path.to_path_buf(),
            source: source.into(),
        };
        let server = owner::of(&stream.as_handle()).map_err(io)?;
        let us = owner::current_user().map_err(io)?;
        if [SYSTEM, ADMINISTRATORS, &us].contains(&server.as_str()) {
            return Ok(());
        }
        let shown = self.path.display();
        let cause = format!(
            "{shown} is served by {server}, who is neither you, nor the system, nor the administrators; not asking it"
        );
        Err(Error::Untrusted { cause })
    }

    /// A pipe's name leads to nothing but a pipe.
    #[expect(clippy::unused_self, reason = "the same interface everywhere")]
    pub(super) fn is_something_else(&self) -> bool {
        false
    }

    pub(super) fn not_permitted(&self) -> Error {
        let shown = self.path.display();
        let cause = format!(
            "no permission to use {shown}; ask to be added to its group (pipe_group in the broker's config)"
        );
        let group = None;
        Error::NotPermitted { cause, group }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::find_broker::Address;

    #[test]
    fn default_address_is_the_hosts_pipe() {
        let target = Address::find(&|_| None).unwrap().target();
        assert_eq!(*target.path, *Path::new(DEFAULT));
        assert_eq!(target.tried.len(), 1);
    }
}
