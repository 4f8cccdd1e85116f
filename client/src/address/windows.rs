//! The host's named pipe.

use std::io;
use std::path::PathBuf;

use super::Address;
use crate::error::Error;
use crate::owner::{self, ADMINISTRATORS, SYSTEM};
use crate::pipe::USUAL;
use crate::stream::Stream;

impl Address {
    pub(super) fn usual(_: &dyn Fn(&str) -> Option<PathBuf>) -> Self {
        Self::named(PathBuf::from(USUAL))
    }

    /// Refuses a server whose pipe is neither ours, nor the system's, nor the administrators':
    /// whoever comes first can take a pipe's name, but not another owner's.
    pub(crate) fn check(&self, stream: &Stream) -> Result<(), Error> {
        let io = |source: io::Error| Error::Io {
            path: self.path.clone(),
            source: source.into(),
        };
        let server = stream.server().map_err(io)?;
        let us = owner::us().map_err(io)?;
        if [SYSTEM, ADMINISTRATORS, &us].contains(&server.as_str()) {
            return Ok(());
        }
        let shown = self.path.display();
        let cause = format!(
            "{shown} is served by {server}, who is neither you, nor the system, nor the administrators; not asking it"
        );
        Err(Error::Untrusted { cause })
    }

    pub(super) fn how_to_join(&self) -> String {
        let shown = self.path.display();
        format!(
            "no permission to use {shown}; ask to be added to its group (pipe_group in the broker's config)"
        )
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn without_the_variable_it_is_the_hosts_pipe() {
        let address = Address::find(&|_| None);
        assert_eq!(address.path, Path::new(USUAL));
        assert_eq!(address.tried.len(), 1);
    }
}
