// A broker made of a few lines, for tests of the client alone and for the examples in its docs, which
// include this text.

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
    Asked, Refusal, RefusalKind, Renew, Request, Response, TokenAnswer, TokenRequest, TokenText,
    VERSION,
};
use tempfile::TempDir;

#[cfg(unix)]
pub(crate) use unix::*;
#[cfg(windows)]
pub(crate) use windows::*;

/// Domo's lifetime of a token.
pub(crate) const HOUR: Duration = Duration::from_secs(3599);

/// How long an event is waited for before a test fails; only ever reached by a failure.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) struct Fake {
    folder: Option<TempDir>,
    path: PathBuf,
    accepted: Receiver<usize>,
    asked: Arc<AtomicUsize>,
    door: Door,
    ends: Arc<Mutex<Vec<End>>>,
}

impl Fake {
    /// Calls `serve` on a thread of its own with each connection and its number.
    pub(crate) fn start(serve: impl Fn(usize, Peer) + Send + Sync + 'static) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = place(folder.path());
        let mut fake = Self::start_at(&path, serve);
        fake.folder = Some(folder);
        fake
    }

    /// The same at that path, which must be free.
    pub(crate) fn start_at(
        path: &Path,
        serve: impl Fn(usize, Peer) + Send + Sync + 'static,
    ) -> Self {
        let door = Door::open(path);
        let listening = door.clone();
        let (sender, accepted) = channel();
        let asked = Arc::new(AtomicUsize::new(0));
        let (counter, serve) = (Arc::clone(&asked), Arc::new(serve));
        let ends = Arc::new(Mutex::new(Vec::new()));
        let all = Arc::clone(&ends);
        thread::spawn(move || {
            for number in 0.. {
                let Ok(stream) = listening.accept() else {
                    return;
                };
                if sender.send(number).is_err() {
                    return;
                }
                all.lock().unwrap().push(End::of(&stream));
                let peer = Peer {
                    stream,
                    hello: None,
                    clock: boot_now(),
                    greeted: false,
                    asked: Arc::clone(&counter),
                };
                let (serve, end) = (Arc::clone(&serve), End::of(&peer.stream));
                thread::spawn(move || {
                    serve(number, peer);
                    end.now();
                });
            }
        });
        Self {
            folder: None,
            path: path.to_owned(),
            accepted,
            asked,
            door,
            ends,
        }
    }

    /// Gives each request for a token the answer of `answer`, which gets the number of requests before
    /// it; a token is of the client and the scopes that were asked for.
    pub(crate) fn answering(
        answer: impl Fn(usize, &TokenRequest) -> Response + Send + Sync + 'static,
    ) -> Self {
        Self::start(move |_, mut peer| {
            while let Some(request) = peer.token_request() {
                let before = peer.asked.load(Ordering::SeqCst) - 1;
                peer.answer(&granted(&request.asked, answer(before, &request)));
            }
        })
    }

    /// Gives token 7 to whoever asks.
    pub(crate) fn generous() -> Self {
        Self::answering(|_, _| token(7))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn broker(&self) -> Broker {
        let broker = Broker::connect_to(&self.path).unwrap();
        broker.with_timeout(Duration::from_secs(5))
    }

    /// How many connections have come since the last look.
    pub(crate) fn connections(&self) -> usize {
        self.accepted.try_iter().count()
    }

    /// How many requests have come so far.
    pub(crate) fn requests(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }

    /// Returns once that many requests have come.
    pub(crate) fn wait_for_requests(&self, count: usize) {
        wait_until(|| self.requests() >= count);
    }
}

impl Drop for Fake {
    /// As a daemon that stops: no socket, and nobody at it.
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
        self.door.close();
        for end in self.ends.lock().unwrap().iter() {
            end.now();
        }
    }
}

/// A broker whose answers wait for a word each.
pub(crate) fn holding(
    answer: impl Fn(usize) -> Response + Send + Sync + 'static,
) -> (Fake, Sender<()>) {
    let (word, words) = channel();
    let words = Mutex::new(words);
    let fake = Fake::answering(move |before, _| {
        words.lock().unwrap().recv_timeout(PATIENCE).unwrap();
        answer(before)
    });
    (fake, word)
}

/// Returns once `done`, which nothing tells of.
pub(crate) fn wait_until(done: impl Fn() -> bool) {
    let end = boot_now() + PATIENCE;
    while !done() {
        assert!(boot_now() < end, "waited in vain");
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

/// A caller, seen from the broker.
pub(crate) struct Peer {
    pub(crate) stream: Stream,
    /// The protocol version of its hello.
    pub(crate) hello: Option<u8>,
    /// The clock that it is greeted with.
    pub(crate) clock: BootTime,
    greeted: bool,
    asked: Arc<AtomicUsize>,
}

impl Peer {
    /// The next request, or `None` once the caller has left.
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
        self.asked.fetch_add(1, Ordering::SeqCst);
        Some(frame::decode(&body).unwrap())
    }

    /// The same if it is for a token; whoever asks for anything else is left.
    pub(crate) fn token_request(&mut self) -> Option<TokenRequest> {
        match self.request()? {
            Request::Token(request) => Some(request),
            Request::Watch(_) | Request::Status | Request::Explain(_) | Request::Metrics => None,
        }
    }

    /// The greeting, once.
    fn greeting(&mut self) -> Vec<u8> {
        if std::mem::replace(&mut self.greeted, true) {
            return Vec::new();
        }
        let greeting = Greeting::new(self.hello.unwrap_or(VERSION), self.clock);
        greeting.encode(&mut [0; GREETING]).to_vec()
    }

    /// Sends several answers in one piece.
    pub(crate) fn answer_all(&mut self, responses: &[Response]) {
        let hello = self.greeting();
        let frames = responses
            .iter()
            .map(|response| frame::encode(response).unwrap());
        let bytes = frames.fold(hello, |all, frame| [all, frame.to_vec()].concat());
        let _ = self.stream.write_all(&bytes);
    }

    pub(crate) fn answer(&mut self, response: &Response) {
        let frame = frame::encode(response).unwrap();
        let hello = self.greeting();
        // Byte by byte, as a stream may.
        for byte in [&hello[..], &frame].concat() {
            let _ = self.stream.write_all(&[byte]);
        }
    }
}

/// The answer, with a token in it of the client and the scopes that were asked for, if not more.
pub(crate) fn granted(asked: &Asked, mut answer: Response) -> Response {
    if let Response::Token(token) = &mut answer {
        if !token.scope.split(' ').any(|scope| scope == asked.scope) {
            token.scope.clone_from(&asked.scope);
        }
        if let Some(client) = &asked.client {
            token.client.clone_from(client);
        }
    }
    answer
}

pub(crate) fn token(generation: u64) -> Response {
    token_with(generation, HOUR, HOUR)
}

/// A token of that whole life, and of that life left.
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

/// A token of another generation than the one refused, or the first.
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
