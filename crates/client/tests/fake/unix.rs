//! A Unix socket.

use std::io;
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub(crate) type Stream = UnixStream;

/// Where a fake listens that has this folder to itself.
pub(crate) fn place(folder: &Path) -> PathBuf {
    folder.join("broker.sock")
}

#[derive(Clone)]
pub(crate) struct Door(Arc<UnixListener>);

impl Door {
    pub(crate) fn open(path: &Path) -> Self {
        Self(Arc::new(UnixListener::bind(path).unwrap()))
    }

    pub(crate) fn accept(&self) -> io::Result<Stream> {
        self.0.accept().map(|(stream, _)| stream)
    }

    pub(crate) fn close(&self) {
        let _ = rustix::net::shutdown(&*self.0, rustix::net::Shutdown::Both);
    }
}

/// Ends a connection that somebody else has.
pub(crate) struct End(UnixStream);

impl End {
    pub(crate) fn of(stream: &Stream) -> Self {
        Self(stream.try_clone().unwrap())
    }

    pub(crate) fn now(&self) {
        let _ = self.0.shutdown(Shutdown::Both);
    }
}
