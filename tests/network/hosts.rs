//! Hosts: name servers and addresses that never answer, relays, and the client's config.

use std::io::{Read, copy};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use domo_sandbox::Sandbox;
use tempfile::TempDir;

use super::common::{CANARY_SECRET, CLIENT_ID, PATIENCE};
use crate::common::{folder_for, listener_with_full_backlog};

/// The name of the token endpoint's host.
pub(crate) const NAME: &str = "api.domo.test";

/// A token endpoint with that name on 127.0.0.1.
pub(crate) fn named_sandbox(lifetime: Duration) -> Sandbox {
    let builder = Sandbox::builder().client(CLIENT_ID, CANARY_SECRET, &["data"]);
    builder.lifetime(lifetime).https_for(NAME).start().unwrap()
}

pub(crate) fn port(sandbox: &Sandbox) -> u16 {
    let url = sandbox.token_url();
    let address = url.split('/').nth(2).unwrap();
    address.parse::<SocketAddr>().unwrap().port()
}

/// A folder with the config of a sandbox with that name.
pub(crate) fn named_folder(sandbox: &Sandbox) -> TempDir {
    let url = sandbox.token_url().replace("127.0.0.1", NAME);
    folder_for(&url, sandbox.ca_pem().as_deref())
}

/// A name server that never answers.
pub(crate) struct SilentNameServer(UdpSocket);

impl SilentNameServer {
    pub(crate) fn bind(address: &str) -> Self {
        Self(UdpSocket::bind((address, 53)).unwrap())
    }

    /// Waits for a query that was not waited for before.
    pub(crate) fn wait_for_query(&self) {
        self.0.set_read_timeout(Some(PATIENCE)).unwrap();
        self.0.recv(&mut [0; 512]).unwrap();
    }

    /// Discards the queries so far.
    pub(crate) fn drain(&self) {
        self.0.set_nonblocking(true).unwrap();
        while self.0.recv(&mut [0; 512]).is_ok() {}
        self.0.set_nonblocking(false).unwrap();
    }
}

/// An address that neither accepts nor rejects connections.
pub(crate) fn unanswering_address(address: &str, port: u16) -> (TcpListener, Vec<TcpStream>) {
    listener_with_full_backlog((address.parse::<IpAddr>().unwrap(), port).into())
}

/// Forwards connections from that address to the same port of 127.0.0.1.
pub(crate) fn relay(address: &str, port: u16) {
    let listener = TcpListener::bind((address, port)).unwrap();
    thread::spawn(move || {
        for client in listener.incoming() {
            let client = client.unwrap();
            let server = TcpStream::connect(("127.0.0.1", port)).unwrap();
            for (from, to) in [(&client, &server), (&server, &client)] {
                let (mut from, mut to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
                thread::spawn(move || {
                    let _ = copy(&mut from, &mut to);
                    let _ = to.shutdown(std::net::Shutdown::Write);
                });
            }
        }
    });
}

/// A server that records what it receives and answers nothing.
pub(crate) fn eavesdropper(address: &str) -> (u16, Receiver<String>) {
    let listener = TcpListener::bind((address, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let (sender, received) = channel();
    thread::spawn(move || {
        for client in listener.incoming() {
            let mut bytes = vec![0; 4096];
            let length = client.unwrap().read(&mut bytes).unwrap_or(0);
            bytes.truncate(length);
            if length > 0 {
                sender
                    .send(String::from_utf8_lossy(&bytes).into_owned())
                    .unwrap();
            }
        }
    });
    (port, received)
}
