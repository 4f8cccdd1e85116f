//! The directory of a fake broker's socket.

use std::fs::{self, DirBuilder};
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

/// A new directory for one socket. It is removed when dropped.
#[derive(Debug)]
pub(super) struct SocketDirectory {
    path: PathBuf,
    socket: PathBuf,
}

impl SocketDirectory {
    /// Creates a directory that only this user can enter, below the system's directory for temporary files.
    pub(super) fn create() -> io::Result<Self> {
        loop {
            // Short, because the path of a socket has about 100 bytes.
            let name = format!("domo-{:016x}", RandomState::new().hash_one(0_u8));
            let path = std::env::temp_dir().join(name);
            match DirBuilder::new().mode(0o700).create(&path) {
                Ok(()) => {
                    let socket = path.join("broker.sock");
                    return Ok(Self { path, socket });
                }
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
        }
    }

    pub(super) fn socket(&self) -> &Path {
        &self.socket
    }

    /// Removes the socket.
    pub(super) fn remove_socket(&self) {
        // Fails only if something else has removed it.
        let _ = fs::remove_file(&self.socket);
    }

    /// Removes the directory with its socket.
    pub(super) fn remove(&self) {
        self.remove_socket();
        let _ = fs::remove_dir(&self.path);
    }
}
