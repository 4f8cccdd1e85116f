//! A minimal broker for the tests of the client, which decide each byte that it sends.

#[cfg(unix)]
mod unix;
#[cfg(windows)]
mod windows;

use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use domo_token_client::Broker;
use domo_token_client::clock::boot_now;
use domo_token_protocol::BootTime;
use domo_token_protocol::frame::{self, HEAD};
use domo_token_protocol::greeting::{self, GREETING, Greeting, HELLO};
use domo_token_protocol::messages::{
    BrokerStatus, Refusal, RefusalKind, Renew, Request, Response, TokenAnswer, TokenRequest,
    TokenSubject, TokenText, VERSION,
};
use tempfile::TempDir;

#[cfg(unix)]
pub(crate) use unix::*;
#[cfg(windows)]
pub(crate) use windows::*;

/// The lifetime of Domo's tokens.
pub(crate) const HOUR: Duration = Duration::from_secs(3599);

/// How long an event is waited for before a test fails; only ever reached by a failure.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) struct Fake {
    folder: Option<TempDir>,
    path: PathBuf,
    accepted: Receiver<usize>,
    received_requests: Arc<AtomicUsize>,
    listener: FakeListener,
    closers: Arc<Mutex<Vec<Closer>>>,
}

impl Fake {
    /// Calls `serve` with each connection and its number, on its own thread.
    pub(crate) fn start(serve: impl Fn(usize, Peer) + Send + Sync + 'static) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = socket_path(folder.path());
        let mut fake = Self::start_at(&path, serve);
        fake.folder = Some(folder);
        fake
    }

    /// Like `start`, at a path where nothing exists.
    pub(crate) fn start_at(
        path: &Path,
        serve: impl Fn(usize, Peer) + Send + Sync + 'static,
    ) -> Self {
        let listener = FakeListener::open(path);
        let accepting = listener.clone();
        let (sender, accepted) = channel();
        let received_requests = Arc::new(AtomicUsize::new(0));
        let (counter, serve) = (Arc::clone(&received_requests), Arc::new(serve));
        let closers = Arc::new(Mutex::new(Vec::new()));
        let shared = Arc::clone(&closers);
        thread::spawn(move || {
            for number in 0.. {
                let Ok(stream) = accepting.accept() else {
                    return;
                };
                if sender.send(number).is_err() {
                    return;
                }
                shared.lock().unwrap().push(Closer::of(&stream));
                let peer = Peer {
                    stream,
                    hello: None,
                    clock: boot_now(),
                    greeted: false,
                    received_requests: Arc::clone(&counter),
                };
                let (serve, closer) = (Arc::clone(&serve), Closer::of(&peer.stream));
                thread::spawn(move || {
                    serve(number, peer);
                    closer.close();
                });
            }
        });
        Self {
            folder: None,
            path: path.to_owned(),
            accepted,
            received_requests,
            listener,
            closers,
        }
    }

    /// Answers each token request with the result of `answer`, which gets the number of earlier requests.
    /// A token has the client and the scopes of its request.
    pub(crate) fn answering(
        answer: impl Fn(usize, &TokenRequest) -> Response + Send + Sync + 'static,
    ) -> Self {
        Self::start(move |_, mut peer| {
            while let Some(request) = peer.token_request() {
                let earlier = peer.earlier_requests();
                peer.answer(&granted(&request.subject, answer(earlier, &request)));
            }
        })
    }

    /// Answers each token request with token 7.
    pub(crate) fn granting() -> Self {
        Self::answering(|_, _| token(7))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn broker(&self) -> Broker {
        let broker = Broker::connect_to(&self.path).unwrap();
        broker.with_timeout(Duration::from_secs(5))
    }

    /// Returns how many connections were accepted since the last call.
    pub(crate) fn connections(&self) -> usize {
        self.accepted.try_iter().count()
    }

    /// Returns how many requests were received.
    pub(crate) fn requests(&self) -> usize {
        self.received_requests.load(Ordering::SeqCst)
    }

    /// Waits until that many requests were received.
    pub(crate) fn wait_for_requests(&self, count: usize) {
        wait_until(|| self.requests() >= count);
    }
}

impl Drop for Fake {
    /// Removes the socket and closes all connections, as a daemon that stops.
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
        self.listener.close();
        for closer in self.closers.lock().unwrap().iter() {
            closer.close();
        }
    }
}

/// Blocks a broker until the test sends a message.
pub(crate) struct Gate(Mutex<Receiver<()>>);

impl Gate {
    pub(crate) fn wait(&self) {
        self.0.lock().unwrap().recv_timeout(PATIENCE).unwrap();
    }
}

pub(crate) fn gate() -> (Sender<()>, Gate) {
    let (release, released) = channel();
    (release, Gate(Mutex::new(released)))
}

/// A broker that sends one answer per message on the returned channel.
pub(crate) fn holding(
    answer: impl Fn(usize) -> Response + Send + Sync + 'static,
) -> (Fake, Sender<()>) {
    let (release, gate) = gate();
    let fake = Fake::answering(move |earlier, _| {
        gate.wait();
        answer(earlier)
    });
    (fake, release)
}

/// Polls until `done`.
pub(crate) fn wait_until(done: impl Fn() -> bool) {
    let deadline = boot_now() + PATIENCE;
    while !done() {
        assert!(boot_now() < deadline, "timed out");
        pause();
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "no event reports what is waited for"
)]
fn pause() {
    thread::sleep(Duration::from_millis(5));
}

/// The broker's end of a connection.
pub(crate) struct Peer {
    pub(crate) stream: Stream,
    /// The protocol version of its hello.
    pub(crate) hello: Option<u8>,
    /// The clock that the greeting carries.
    pub(crate) clock: BootTime,
    greeted: bool,
    received_requests: Arc<AtomicUsize>,
}

impl Peer {
    /// Returns the next request, or `None` once the caller has disconnected.
    pub(crate) fn request(&mut self) -> Option<Request> {
        if self.hello.is_none() {
            let mut hello = [0; HELLO];
            self.stream.read_exact(&mut hello).ok()?;
            self.hello = greeting::hello_version(hello).ok();
        }
        let mut head = [0; HEAD];
        self.stream.read_exact(&mut head).ok()?;
        let mut body = vec![0; frame::body_length(head).unwrap()];
        self.stream.read_exact(&mut body).ok()?;
        self.received_requests.fetch_add(1, Ordering::SeqCst);
        Some(frame::decode(&body).unwrap())
    }

    /// Returns how many requests the broker received before this one, on all connections.
    pub(crate) fn earlier_requests(&self) -> usize {
        self.received_requests.load(Ordering::SeqCst) - 1
    }

    /// Returns the next request, or `None` if it is not for a token.
    pub(crate) fn token_request(&mut self) -> Option<TokenRequest> {
        let Request::Token(request) = self.request()? else {
            return None;
        };
        Some(request)
    }

    /// The protocol version that it speaks.
    fn version(&self) -> u8 {
        self.hello.unwrap_or(VERSION)
    }

    /// Returns the greeting once, then nothing.
    fn greeting(&mut self) -> Vec<u8> {
        if std::mem::replace(&mut self.greeted, true) {
            return Vec::new();
        }
        let greeting = Greeting::new(self.version(), self.clock);
        greeting.encode(&mut [0; GREETING]).to_vec()
    }

    /// Sends several responses in one write.
    pub(crate) fn answer_all(&mut self, responses: &[Response]) {
        let hello = self.greeting();
        let version = self.version();
        let frames = responses
            .iter()
            .map(|response| response.clone().encode(version).unwrap());
        let bytes = frames.fold(hello, |all, frame| [all, frame.to_vec()].concat());
        let _ = self.stream.write_all(&bytes);
    }

    pub(crate) fn answer(&mut self, response: &Response) {
        let frame = response.clone().encode(self.version()).unwrap();
        let hello = self.greeting();
        // Byte by byte, as a stream may deliver it.
        for byte in [&hello[..], &frame].concat() {
            let _ = self.stream.write_all(&[byte]);
        }
    }
}

/// Sets the client and the scopes of a token response to those of its request, unless it grants more.
pub(crate) fn granted(subject: &TokenSubject, mut answer: Response) -> Response {
    if let Response::Token(token) = &mut answer {
        if !token.scope.split(' ').any(|scope| scope == subject.scope) {
            token.scope.clone_from(&subject.scope);
        }
        if let Some(client) = &subject.client {
            token.client.clone_from(client);
        }
    }
    answer
}

pub(crate) fn token(generation: u64) -> Response {
    token_with(generation, HOUR, HOUR)
}

/// A token with that lifetime and that remaining time.
pub(crate) fn token_with(generation: u64, lifetime: Duration, left: Duration) -> Response {
    Response::Token(TokenAnswer {
        access_token: TokenText::new(format!("c4nary-token-{generation}")),
        client: "acme".to_owned(),
        scope: "data".to_owned(),
        generation,
        lifetime_ms: u64::try_from(lifetime.as_millis()).unwrap(),
        expires: boot_now() + left,
    })
}

/// The generation after a rejected one, or the first one.
pub(crate) fn renewed(request: &TokenRequest) -> Response {
    match request.renew {
        Some(Renew::Rejected(generation)) => token(generation + 1),
        Some(Renew::Current) | None => token(1),
    }
}

pub(crate) fn refusal(kind: RefusalKind) -> Response {
    Response::Refusal(Refusal {
        kind,
        cause: "because".to_owned(),
        next_attempt: Some(BootTime::from_millis(boot_now().as_millis() + 60_000)),
    })
}

pub(crate) fn broker_status() -> Response {
    Response::Broker(BrokerStatus {
        version: "0.1.0".to_owned(),
        protocol: 1,
        pid: 4242,
        started: boot_now(),
        config_path: None,
        config_loaded: boot_now(),
        ..BrokerStatus::default()
    })
}

/// Sets the client and the scopes of a token response.
pub(crate) fn token_of(client: &str, scope: &str, mut response: Response) -> Response {
    if let Response::Token(token) = &mut response {
        client.clone_into(&mut token.client);
        scope.clone_into(&mut token.scope);
    }
    response
}
