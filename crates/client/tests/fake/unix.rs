//! A Unix socket.

use std::io;
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub(crate) type Stream = UnixStream;

/// The path of the fake broker that uses this folder.
pub(crate) fn socket_path(folder: &Path) -> PathBuf {
    folder.join("broker.sock")
}

#[derive(Clone)]
pub(crate) struct FakeListener(Arc<UnixListener>);

impl FakeListener {
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

/// Closes a connection that another thread uses.
pub(crate) struct Closer(UnixStream);

impl Closer {
    pub(crate) fn of(stream: &Stream) -> Self {
        Self(stream.try_clone().unwrap())
    }

    pub(crate) fn close(&self) {
        let _ = self.0.shutdown(Shutdown::Both);
    }
}
