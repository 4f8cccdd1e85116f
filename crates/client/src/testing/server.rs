//! The thread of a fake broker: one loop over all its sockets.

use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::event::{PollFd, PollFlags, poll};

use super::grants::Grants;
use super::session::{Output, Session};
use crate::clock::boot_now;

/// How many bytes a caller may leave unread, beyond what the socket holds. A status of some thousand scope sets is shorter.
const MAX_UNSENT: usize = 1024 * 1024;

struct Connection {
    stream: UnixStream,
    session: Session,
    /// What the socket has not accepted yet.
    unsent: Vec<u8>,
    /// Whether the connection ends once that is sent.
    is_ending: bool,
    is_open: bool,
}

/// Serves until the other end of `wake` is closed. A byte from it means that watchers are to be notified.
pub(super) fn serve(listener: &UnixListener, wake: &UnixStream, grants: &Arc<Mutex<Grants>>) {
    let mut connections: Vec<Connection> = Vec::new();
    while let Ok(ready) = wait(listener, wake, &connections) {
        if ready.wake && is_closed(wake) {
            return;
        }
        let mut grants = grants.lock().unwrap_or_else(PoisonError::into_inner);
        notify(&mut connections, &mut grants);
        for index in ready.connections {
            if let Some(connection) = connections.get_mut(index) {
                connection.flush();
                connection.receive(&mut grants);
            }
            // What this request changed, before the next one.
            notify(&mut connections, &mut grants);
        }
        drop(grants);
        if ready.listener {
            connections.extend(accept(listener));
        }
        connections.retain(|connection| connection.is_open);
    }
}

#[derive(Default)]
struct Ready {
    wake: bool,
    listener: bool,
    /// Indexes of connections.
    connections: Vec<usize>,
}

/// Waits until a socket is readable, or accepts what is unsent.
fn wait(
    listener: &UnixListener,
    wake: &UnixStream,
    connections: &[Connection],
) -> io::Result<Ready> {
    let ours = [wake.as_fd(), listener.as_fd()].map(|socket| (socket, PollFlags::IN));
    let streams = connections
        .iter()
        .map(|connection| (connection.stream.as_fd(), connection.awaited()));
    let all = ours.into_iter().chain(streams);
    let mut polled: Vec<_> = all
        .map(|(socket, flags)| PollFd::from_borrowed_fd(socket, flags))
        .collect();
    match poll(&mut polled, None) {
        Ok(_) => {}
        Err(rustix::io::Errno::INTR) => return Ok(Ready::default()),
        Err(error) => return Err(error.into()),
    }
    let mut ready = polled.iter().map(|socket| !socket.revents().is_empty());
    Ok(Ready {
        wake: ready.next().unwrap_or_default(),
        listener: ready.next().unwrap_or_default(),
        connections: ready
            .enumerate()
            .filter(|(_, ready)| *ready)
            .map(|(index, _)| index)
            .collect(),
    })
}

/// Reads what wakes the thread, and returns whether the other end is closed.
fn is_closed(mut wake: &UnixStream) -> bool {
    let mut bytes = [0; 64];
    loop {
        match wake.read(&mut bytes) {
            Ok(0) => return true,
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return error.kind() != io::ErrorKind::WouldBlock,
        }
    }
}

/// Accepts all connections that wait.
fn accept(listener: &UnixListener) -> Vec<Connection> {
    let mut accepted = Vec::new();
    while let Ok((stream, _)) = listener.accept() {
        if stream.set_nonblocking(true).is_ok() {
            accepted.push(Connection {
                stream,
                session: Session::new(boot_now()),
                unsent: Vec::new(),
                is_ending: false,
                is_open: true,
            });
        }
    }
    accepted
}

/// Sends watchers what has changed.
fn notify(connections: &mut [Connection], grants: &mut Grants) {
    for (scope, answer) in grants.take_notifications() {
        for connection in connections
            .iter_mut()
            .filter(|connection| connection.is_open)
        {
            let output = connection.session.notify(&scope, &answer);
            connection.send(&output);
        }
    }
}

impl Connection {
    fn receive(&mut self, grants: &mut Grants) {
        let mut bytes = [0; 4096];
        while self.is_open && !self.is_ending {
            match self.stream.read(&mut bytes) {
                Ok(0) => self.is_open = false,
                Ok(count) => {
                    let received = bytes.get(..count).unwrap_or_default();
                    let output = self.session.receive(received, grants, boot_now());
                    self.send(&output);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) => self.is_open = error.kind() == io::ErrorKind::Interrupted,
            }
        }
    }

    /// Returns what its socket is polled for.
    fn awaited(&self) -> PollFlags {
        let mut awaited = PollFlags::empty();
        awaited.set(PollFlags::IN, !self.is_ending);
        awaited.set(PollFlags::OUT, !self.unsent.is_empty());
        awaited
    }

    /// Sends frames. Closes the connection of a caller that has left too many of them unread.
    fn send(&mut self, output: &Output) {
        for frame in &output.frames {
            self.unsent.extend_from_slice(frame);
        }
        self.is_ending |= output.close;
        self.flush();
        self.is_open &= self.unsent.len() <= MAX_UNSENT;
    }

    /// Sends what the socket accepts now.
    fn flush(&mut self) {
        let mut sent = 0;
        while let Some(rest) = self.unsent.get(sent..).filter(|rest| !rest.is_empty()) {
            match self.stream.write(rest) {
                Ok(count) => sent += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    self.is_open &= error.kind() == io::ErrorKind::WouldBlock;
                    break;
                }
            }
        }
        self.unsent.drain(..sent);
        self.is_open &= !(self.is_ending && self.unsent.is_empty());
    }
}
