//! Accepts callers, which can send bytes but no descriptors.

use std::future::poll_fn;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::task::{Context, Poll, ready};

use nix::libc;
use nix::sys::socket::setsockopt;
use nix::{getsockopt_impl, setsockopt_impl, sockopt_impl};
use rustix::net::listen;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::mpsc;

use crate::server::stream::watched;

/// A caller's connection.
pub(in crate::server) type Stream = UnixStream;

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

/// The most callers that wait to be accepted; further ones wait in `connect`. During a flood a new caller waits for all
/// of these, and longer in a longer queue.
const BACKLOG: i32 = 512;

/// Shortens the queue of a socket that this process has bound. An inherited one keeps the length of its
/// unit (`Backlog=`): after another listen(2) callers would see this process as the user that serves,
/// and not the service manager (unix(7), `SO_PEERCRED`).
pub(super) fn shorten_queue(listener: &UnixListener) -> io::Result<()> {
    Ok(listen(listener, BACKLOG)?)
}

/// The sockets that callers connect to.
#[derive(Debug)]
pub struct Listener {
    sockets: Vec<Accepting>,
    /// The socket that is polled first next time, so that no socket is starved by another.
    turn: usize,
    /// Sockets that replace the present ones.
    added: mpsc::Receiver<AsyncFd<UnixListener>>,
}

#[derive(Debug)]
struct Accepting {
    socket: AsyncFd<UnixListener>,
    /// Another socket has its path; callers that have already connected are still accepted.
    replaced: bool,
}

/// Prepares a socket for accepting.
pub(super) fn prepare(listener: UnixListener) -> io::Result<AsyncFd<UnixListener>> {
    listener.set_nonblocking(true)?;
    // The last descriptor of a connection that lingers (`SO_LINGER`) takes as long to close as its
    // sender has set, and all callers would wait for it. Linux before 6.16 takes them.
    let _ = setsockopt(&listener, PassRights, &false);
    watched(listener, Interest::READABLE)
}

impl Listener {
    pub(super) fn new(
        sockets: Vec<AsyncFd<UnixListener>>,
        added: mpsc::Receiver<AsyncFd<UnixListener>>,
    ) -> Self {
        let accepting = |socket| Accepting {
            socket,
            replaced: false,
        };
        Self {
            sockets: sockets.into_iter().map(accepting).collect(),
            turn: 0,
            added,
        }
    }

    /// Waits for the next caller. Its stream is blocking and not registered with the runtime, which the session does
    /// once, for the events that it needs.
    pub(in crate::server) async fn accept(&mut self) -> io::Result<Stream> {
        poll_fn(|context| self.poll_accept(context)).await
    }

    fn poll_accept(&mut self, context: &mut Context<'_>) -> Poll<io::Result<Stream>> {
        while let Poll::Ready(Some(socket)) = self.added.poll_recv(context) {
            for accepting in &mut self.sockets {
                accepting.replaced = true;
            }
            self.sockets.push(Accepting {
                socket,
                replaced: false,
            });
        }
        let count = self.sockets.len();
        for at in (0..count).map(|step| (self.turn + step) % count) {
            let accepting = self.sockets.get(at);
            let polled = accepting.map(|accepting| poll_socket(&accepting.socket, context));
            if let Some(Poll::Ready(accepted)) = polled {
                self.turn = at + 1;
                return Poll::Ready(accepted);
            }
        }
        // No caller waits on any of them.
        self.sockets.retain(|accepting| !accepting.replaced);
        Poll::Pending
    }

    /// Returns whether no caller waits to be accepted.
    pub(in crate::server) fn is_idle(&self, not_readable: impl Fn(BorrowedFd) -> bool) -> bool {
        let mut sockets = self.sockets.iter();
        sockets.all(|accepting| not_readable(accepting.socket.as_fd()))
    }
}

fn poll_socket(
    socket: &AsyncFd<UnixListener>,
    context: &mut Context<'_>,
) -> Poll<io::Result<Stream>> {
    loop {
        let mut ready = ready!(socket.poll_read_ready(context))?;
        if let Ok(accepted) = ready.try_io(|socket| socket.get_ref().accept()) {
            return Poll::Ready(accepted.map(|(stream, _)| stream));
        }
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
    async fn descriptor_sent_by_a_caller_is_not_received() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("broker.sock");
        let mut socket = Socket::lock(&path, false).unwrap();
        let _listener = socket.listen(&Callers::default()).unwrap();
        let caller = UnixStream::connect(&path).unwrap();
        if getsockopt(&caller, PassRights).is_err() {
            println!("skipped: this kernel lets callers send descriptors");
            return;
        }
        let descriptors = [caller.as_fd()];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut sent = SendAncillaryBuffer::new(&mut space);
        assert!(sent.push(SendAncillaryMessage::ScmRights(&descriptors)));
        let hello = [IoSlice::new(b"DTK\x01")];
        let result = sendmsg(&caller, &hello, &mut sent, SendFlags::NOSIGNAL);
        assert_eq!(result, Err(rustix::io::Errno::PERM));
    }
}
