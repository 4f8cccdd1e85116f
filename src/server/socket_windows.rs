//! On Windows: creates the named pipe, and accepts from it.
//!
//! A pipe's name belongs to the process that created it first. Ours is created as the first of its name or not
//! at all, accepts callers of this machine alone, and has an access list of those that may open it.

use std::fs::OpenOptions;
use std::io;
use std::os::windows::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use domo_token_client::pipe::{
    BUSY, CLIENT_ACCESS, DEFAULT, IDENTIFICATION, NOT_A_PIPE, is_pipe_name,
};
use domo_token_client::windows_owner::{self as owner, ADMINISTRATORS, SYSTEM};
use interprocess::os::windows::named_pipe::PipeListenerOptions;
use interprocess::os::windows::named_pipe::pipe_mode::Bytes;
use interprocess::os::windows::named_pipe::tokio::{DuplexPipeStream, PipeListener};
use interprocess::os::windows::security_descriptor::SecurityDescriptor;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use widestring::U16CString;

use super::{BindError, path_error};
use crate::broker::Broker;
use crate::config::{Config, Env};
use crate::platform::clock::Clock;
use crate::platform::systemd::InheritedListener;
use crate::platform::users;

/// The output buffer: the longest frame, so that a slow reader's answer waits in the system.
const ANSWERS: u32 = 64 * 1024;

/// The input buffer; requests are short.
const REQUESTS: u32 = 4096;

/// `READ_CONTROL` and `FILE_READ_ATTRIBUTES`: to read a pipe's owner.
const READ_OWNER: u32 = 0x2_0080;

/// Returns the default name of the pipe.
#[must_use]
pub fn default_path(_: Env) -> Option<PathBuf> {
    Some(PathBuf::from(DEFAULT))
}

/// The callers that may open the pipe, besides this user, the system and the administrators.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Callers {
    /// A group, by its security identifier.
    pub group: Option<String>,
}

impl Callers {
    /// Returns what the config allows. Blocks on the user database.
    ///
    /// # Errors
    ///
    /// If there is no such group.
    pub fn of(config: &Config) -> Result<Self, &'static str> {
        let Some(name) = &config.broker.pipe_group else {
            return Ok(Self { group: None });
        };
        let unknown = "pipe_group: no such group; create it, or choose another group";
        let group = Some(users::group_sid(name).ok_or(unknown)?);
        Ok(Self { group })
    }

    /// Returns owner and access list in the security descriptor definition language.
    fn list(&self, owner: &str, us: &str) -> String {
        let group = self.group.as_ref();
        let group = group.map_or(String::new(), |group| {
            format!("(A;;{CLIENT_ACCESS:#x};;;{group})")
        });
        format!("O:{owner}D:P(A;;FA;;;{us})(A;;FA;;;SY)(A;;FA;;;BA){group}")
    }
}

/// The right to serve a pipe's name, which on Windows comes with the pipe.
#[derive(Debug)]
pub struct Socket {
    path: PathBuf,
    name: U16CString,
}

impl Socket {
    /// Never called: Windows passes no sockets.
    #[must_use]
    pub fn inherited(first: InheritedListener, _: Vec<InheritedListener>) -> Self {
        match first {}
    }

    /// Returns its path for the log.
    #[must_use]
    pub fn shown(&self) -> String {
        self.path.display().to_string()
    }

    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns false: pipes are not passed to a process.
    #[must_use]
    pub fn is_inherited(&self) -> bool {
        false
    }

    /// Returns nothing: a pipe cannot be removed while it is open.
    #[must_use]
    pub fn watched(&self) -> Vec<PathBuf> {
        Vec::new()
    }

    /// Waits until `stop` is cancelled.
    ///
    /// # Errors
    ///
    /// None.
    pub async fn rebind_when_lost<C: Clock>(
        &mut self,
        _: &Callers,
        _: &Broker<C>,
        _: &C,
        _: mpsc::Receiver<()>,
        stop: CancellationToken,
    ) -> Result<(), BindError> {
        stop.cancelled().await;
        Ok(())
    }

    /// Succeeds: nothing but a pipe has a pipe's name.
    ///
    /// # Errors
    ///
    /// None.
    pub fn check_kind(_: &Path) -> Result<(), BindError> {
        Ok(())
    }

    /// Checks that the name is free. There is no directory that other users could share.
    ///
    /// # Errors
    ///
    /// [`BindError::InUse`] if another daemon has it, else [`BindError::Path`].
    pub fn lock(path: &Path, _shared: bool) -> Result<Self, BindError> {
        let no_pipe = || path_error(path, NOT_A_PIPE);
        let text = path.to_str().ok_or_else(no_pipe)?;
        if !is_pipe_name(path) {
            return Err(no_pipe());
        }
        let name = U16CString::from_str(text).map_err(|_| no_pipe())?;
        check_path(path)?;
        let path = path.to_owned();
        Ok(Self { path, name })
    }

    /// Creates the pipe for `callers`.
    ///
    /// # Errors
    ///
    /// [`BindError::InUse`] if the name is taken meanwhile, else [`BindError::Path`].
    pub fn listen(&mut self, callers: &Callers) -> Result<Listener, BindError> {
        let fail = |error: io::Error| path_error(&self.path, &error.to_string());
        let names = owner::default_owner().and_then(|owner| Ok((owner, owner::current_user()?)));
        let (owner, us) = names.map_err(fail)?;
        let list = callers.list(&owner, &us);
        let list = U16CString::from_str(list).map_err(|error| fail(io::Error::other(error)))?;
        let list = SecurityDescriptor::deserialize(&list).map_err(fail)?;
        // By default, callers of other machines are denied, and the pipe must be the first of its name.
        let pipe = PipeListenerOptions::new()
            .path(self.name.as_ucstr())
            .input_buffer_size_hint(REQUESTS)
            .output_buffer_size_hint(ANSWERS)
            .security_descriptor(Some(list))
            .create_tokio()
            .map_err(|error| {
                // The system's error if it is not the first.
                if error.kind() == io::ErrorKind::PermissionDenied {
                    BindError::InUse(self.path.clone())
                } else {
                    fail(error)
                }
            })?;
        Ok(Listener(pipe))
    }
}

/// Checks that the name is free. If it is taken, its owner shows whether another daemon has it.
fn check_path(path: &Path) -> Result<(), BindError> {
    let mut options = OpenOptions::new();
    let opened = options
        .access_mode(READ_OWNER)
        .security_qos_flags(IDENTIFICATION)
        .open(path);
    let foreign = |who: &str| {
        let problem =
            format!("this pipe already belongs to {who}; choose another socket with --socket");
        Err(path_error(path, &problem))
    };
    let pipe = match opened {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            return foreign("another user");
        }
        Err(error) if error.raw_os_error() == Some(BUSY) => {
            return Err(BindError::InUse(path.to_owned()));
        }
        Err(error) => return Err(path_error(path, &error.to_string())),
        Ok(pipe) => pipe,
    };
    let known = owner::of(&pipe).and_then(|owner| Ok((owner, owner::current_user()?)));
    let (owner, us) = known.map_err(|error| path_error(path, &error.to_string()))?;
    if [SYSTEM, ADMINISTRATORS, &us].contains(&owner.as_str()) {
        return Err(BindError::InUse(path.to_owned()));
    }
    foreign(&owner)
}

/// A pipe that callers connect to.
#[derive(Debug)]
pub struct Listener(PipeListener<Bytes, Bytes>);

impl Listener {
    /// Waits for the next caller.
    pub(super) async fn accept(&mut self) -> io::Result<Stream> {
        self.0.accept().await.map(Stream)
    }
}

/// A caller's connection.
#[derive(Debug)]
pub(super) struct Stream(DuplexPipeStream<Bytes>);

impl Stream {
    /// Returns the pipe, which is read and written without exclusive access.
    pub(super) fn pipe(&self) -> &DuplexPipeStream<Bytes> {
        &self.0
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        // Otherwise a thread would wait until the caller has read everything, without a limit. The caller can
        // still read what is in the system's buffer.
        self.0.assume_flushed();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn access_list_grants_owner_system_administrators_and_group() {
        let group = Some("S-1-5-32-545".to_owned());
        let list = Callers { group }.list("S-1-5-32-544", "S-1-5-21-1-2-3-1000");
        assert_eq!(
            list,
            "O:S-1-5-32-544D:P(A;;FA;;;S-1-5-21-1-2-3-1000)(A;;FA;;;SY)(A;;FA;;;BA)(A;;0x12019b;;;S-1-5-32-545)"
        );
    }

    #[tokio::test]
    async fn access_list_is_applied_unchanged() {
        let path = Path::new(r"\\.\pipe\domo-token-test-list");
        let group = Some("S-1-5-32-545".to_owned());
        let mut socket = Socket::lock(path, false).unwrap();
        let _listener = socket.listen(&Callers { group }).unwrap();
        let opened = OpenOptions::new()
            .access_mode(READ_OWNER)
            .open(path)
            .unwrap();
        let text = crate::platform::acl::text(&opened).unwrap();
        let us = owner::current_user().unwrap();
        let alias = |sid: &str| {
            if sid == ADMINISTRATORS {
                "BA".to_owned()
            } else {
                sid.to_owned()
            }
        };
        for entry in [
            format!("(A;;FA;;;{})", alias(&us)),
            "(A;;FA;;;SY)".to_owned(),
            "(A;;FA;;;BA)".to_owned(),
            "(A;;0x12019b;;;BU)".to_owned(),
        ] {
            assert!(text.contains(&entry), "{entry} in {text}");
        }
        assert_eq!(text.matches("(A;").count(), 4, "{text}");
    }

    #[tokio::test]
    async fn name_in_use_or_not_of_a_pipe_is_an_error() {
        let path = Path::new(r"\\.\pipe\domo-token-test-taken");
        let mut socket = Socket::lock(path, false).unwrap();
        let _listener = socket.listen(&Callers::default()).unwrap();
        assert!(matches!(
            Socket::lock(path, false),
            Err(BindError::InUse(_))
        ));
        for wrong in [
            r"C:\broker.sock",
            r"\\.\pipe\",
            r"\\host\pipe\domo-token",
            "broker.sock",
        ] {
            let Err(BindError::Path { problem, .. }) = Socket::lock(Path::new(wrong), false) else {
                panic!("{wrong}");
            };
            assert!(problem.contains("named pipe"), "{problem}");
        }
    }
}
