//! A named pipe.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use interprocess::local_socket::prelude::*;
use interprocess::local_socket::{GenericFilePath, Listener, ListenerOptions};
use interprocess::os::windows::local_socket::ListenerOptionsExt;
use interprocess::os::windows::security_descriptor::SecurityDescriptor;

pub(crate) type Stream = interprocess::local_socket::Stream;

/// The path of the fake broker that uses this folder: all pipes of a machine are in one place.
pub(crate) fn socket_path(folder: &Path) -> PathBuf {
    Path::new(r"\\.\pipe").join(folder.file_name().unwrap())
}

#[derive(Clone)]
pub(crate) struct FakeListener {
    pipe: Arc<Listener>,
    path: PathBuf,
    closed: Arc<AtomicBool>,
}

impl FakeListener {
    pub(crate) fn open(path: &Path) -> Self {
        let user = domo_token_client::windows_owner::current_user().unwrap();
        Self::open_as(path, &user).unwrap()
    }

    /// A pipe that belongs to `owner`, if the system permits it.
    pub(crate) fn open_as(path: &Path, owner: &str) -> io::Result<Self> {
        let list = format!("O:{owner}D:(A;;FA;;;WD)");
        let list = widestring::U16CString::from_str(list).unwrap();
        let name = path.as_os_str().to_fs_name::<GenericFilePath>().unwrap();
        let options = ListenerOptions::new().name(name);
        let list = SecurityDescriptor::deserialize(&list).unwrap();
        Ok(Self {
            pipe: Arc::new(options.security_descriptor(list).create_sync()?),
            path: path.to_owned(),
            closed: Arc::default(),
        })
    }

    pub(crate) fn accept(&self) -> io::Result<Stream> {
        let stream = self.pipe.accept()?;
        if self.closed.load(Ordering::SeqCst) {
            return Err(io::ErrorKind::NotConnected.into());
        }
        Ok(stream)
    }

    pub(crate) fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
        // Only a connection ends `accept`.
        let mut options = std::fs::OpenOptions::new();
        let _ = options.read(true).write(true).open(&self.path);
    }
}

/// Does nothing: only the thread that serves a pipe can close it.
pub(crate) struct Closer;

impl Closer {
    pub(crate) fn of(_: &Stream) -> Self {
        Self
    }

    #[expect(clippy::unused_self, reason = "the same interface as on Unix")]
    pub(crate) fn close(&self) {}
}
