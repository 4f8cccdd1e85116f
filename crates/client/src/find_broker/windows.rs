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
        let io = |source: io::Error| Error::unusable_socket(&self.path, source);
        let server = owner::of(&stream.as_handle()).map_err(io)?;
        let us = owner::current_user().map_err(io)?;
        if [SYSTEM, ADMINISTRATORS, &us].contains(&server.as_str()) {
            return Ok(());
        }
        let shown = self.path.display();
        let cause = format!(
            "untrusted broker at {shown}: it runs as {server}, who is neither you, nor the system, nor an \
             administrator; no request was sent"
        );
        Err(Error::untrusted(cause))
    }

    /// Returns false: the path of a pipe is always a pipe.
    #[expect(clippy::unused_self, reason = "the same interface everywhere")]
    pub(super) fn is_something_else(&self) -> bool {
        false
    }

    pub(super) fn not_permitted(&self) -> Error {
        let shown = self.path.display();
        let cause = format!(
            "no permission to use {shown}: you are not in its group (pipe_group in the broker's config); \
             ask an administrator to add you"
        );
        Error::not_permitted(cause, None)
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
