//! The receiving end of `NOTIFY_SOCKET`.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::IoSliceMut;
use std::mem::MaybeUninit;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::Path;
use std::process::Command;

use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};

use crate::common::wait::until;
use crate::common::{Daemon, PATIENCE};

/// The messages that the daemon sends to systemd, and the file descriptors that it stores there, by name.
pub(crate) struct Notified {
    pub(crate) socket: UnixDatagram,
    kept: RefCell<BTreeMap<String, File>>,
}

impl Notified {
    /// Binds a socket in `folder` and passes it to a daemon.
    pub(crate) fn bind(folder: &Path, daemon: &mut Command) -> Self {
        let path = folder.join("notify.sock");
        daemon.env("NOTIFY_SOCKET", &path);
        Self::of(UnixDatagram::bind(path).unwrap())
    }

    pub(crate) fn bind_abstract(name: &str) -> Self {
        let address = SocketAddr::from_abstract_name(name).unwrap();
        Self::of(UnixDatagram::bind_addr(&address).unwrap())
    }

    fn of(socket: UnixDatagram) -> Self {
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        let kept = RefCell::default();
        Self { socket, kept }
    }

    pub(crate) fn next(&self) -> String {
        self.try_next().unwrap()
    }

    /// Returns `None` if none arrives in time.
    pub(crate) fn try_next(&self) -> Option<String> {
        let mut buffer = [0; 4096];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut parts = [IoSliceMut::new(&mut buffer)];
        let flags = RecvFlags::CMSG_CLOEXEC;
        let received = recvmsg(&self.socket, &mut parts, &mut control, flags).ok()?;
        let message = String::from_utf8_lossy(buffer.get(..received.bytes).unwrap()).into_owned();
        let name = message
            .lines()
            .find_map(|line| line.strip_prefix("FDNAME="));
        for part in control.drain() {
            if let RecvAncillaryMessage::ScmRights(files) = part {
                let files = files.map(|file| (name.unwrap().to_owned(), File::from(file)));
                self.kept.borrow_mut().extend(files);
            }
        }
        if message.contains("FDSTOREREMOVE=1") {
            self.kept.borrow_mut().remove(name.unwrap());
        }
        Some(message)
    }

    /// Returns the only stored file descriptor, once there is one.
    pub(crate) fn wait_for_kept(&self) -> (String, File) {
        self.wait_for("FDSTORE=1");
        self.wait_for("FDSTOREREMOVE=1");
        let mut kept = self.kept.borrow_mut();
        assert_eq!(kept.len(), 1, "{kept:?}");
        kept.pop_first().unwrap()
    }

    /// Returns the only stored file descriptor after the end of the daemon, which is about to end.
    pub(crate) fn kept_at_end(&self, daemon: &mut Daemon) -> (String, File) {
        self.socket.set_nonblocking(true).unwrap();
        // Reads meanwhile, because the daemon waits while the queue is full.
        until(|| {
            let has_ended = daemon.has_ended();
            while self.try_next().is_some() {}
            if has_ended { Ok(()) } else { Err("still runs") }
        });
        let mut kept = self.kept.borrow_mut();
        assert_eq!(kept.len(), 1, "{kept:?}");
        kept.pop_first().unwrap()
    }

    /// Returns the next message that contains `text`.
    pub(crate) fn wait_for(&self, text: &str) -> String {
        loop {
            let message = self.next();
            if message.contains(text) {
                return message;
            }
        }
    }
}
