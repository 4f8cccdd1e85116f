//! Accepts callers, and bytes alone from them.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::{UnixListener, UnixStream};

use nix::libc;
use nix::sys::socket::setsockopt;
use nix::{getsockopt_impl, setsockopt_impl, sockopt_impl};
use rustix::net::listen;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::ipc::line::watched;

/// A caller's connection.
pub(in crate::ipc) type Stream = UnixStream;

/// `SO_PASSRIGHTS` of Linux's `asm-generic/socket.h`.
const SO_PASSRIGHTS: libc::c_int = 83;

sockopt_impl!(
    /// Whether the callers of a socket may send descriptors.
    PassRights,
    Both,
    libc::SOL_SOCKET,
    SO_PASSRIGHTS,
    bool
);

/// How many callers may wait to be accepted; more of them wait in their own calls of `connect`. A new
/// caller waits for all of these, so that a longer queue delays it the more during a flood.
const BACKLOG: i32 = 512;

/// A socket that callers connect to.
#[derive(Debug)]
pub struct Listener(AsyncFd<UnixListener>);

impl Listener {
    pub(super) fn of(listener: UnixListener) -> io::Result<Self> {
        listener.set_nonblocking(true)?;
        listen(&listener, BACKLOG)?;
        // The last descriptor of a connection that lingers (`SO_LINGER`) takes as long to close as
        // whoever sent it likes, and all callers would wait for it. Linux before 6.16 takes them.
        let _refused = setsockopt(&listener, PassRights, &false);
        watched(listener, Interest::READABLE).map(Self)
    }

    /// Waits for the next caller. Its stream blocks and nobody waits for it yet: what a session
    /// wants to be woken for is asked of the system once.
    pub(in crate::ipc) async fn accept(&self) -> io::Result<Stream> {
        let accept = |listener: &UnixListener| listener.accept();
        let (stream, _) = self.0.async_io(Interest::READABLE, accept).await?;
        Ok(stream)
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use std::io::IoSlice;
    use std::mem::MaybeUninit;

    use nix::sys::socket::getsockopt;
    use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};

    use super::super::{Callers, Socket};
    use super::*;

    #[tokio::test]
    async fn a_caller_can_send_no_descriptor() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("broker.sock");
        let mut socket = Socket::lock(&path, false).unwrap();
        let _listener = socket.listen(&Callers::default()).unwrap();
        let caller = UnixStream::connect(&path).unwrap();
        if getsockopt(&caller, PassRights).is_err() {
            println!("skipped: this kernel lets whoever connects send descriptors");
            return;
        }
        let descriptors = [caller.as_fd()];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut sent = SendAncillaryBuffer::new(&mut space);
        assert!(sent.push(SendAncillaryMessage::ScmRights(&descriptors)));
        let hello = [IoSlice::new(b"DTK\x01")];
        let refused = sendmsg(&caller, &hello, &mut sent, SendFlags::NOSIGNAL);
        assert_eq!(refused, Err(rustix::io::Errno::PERM));
    }
}
