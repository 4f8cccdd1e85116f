//! Entry points for fuzzers: among them a whole session of one caller, over a socket pair.

#![allow(clippy::expect_used, reason = "a panic is how a finding is reported")]

use std::cell::RefCell;
use std::future::pending;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use domo_token_core::fetch::{Fetch, Occasion, Progress};
use domo_token_core::fetch_result::{Fetched, LifetimeSource};
use domo_token_core::scheduler::ClientSpec;
use domo_token_protocol::frame;
use domo_token_protocol::greeting::{Greeting, HELLO};
use domo_token_protocol::messages::{Response, VERSION};
use domo_token_protocol::scope::ScopeSet;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::unix::OwnedReadHalf;
use tokio::runtime::Runtime;
use tokio::task::yield_now;
use tokio::time::timeout;

use super::Settings;
use super::peer::Peer;
use super::session::{self, Connection};
use super::sniff::{Protocol, protocol};
use crate::broker::{Broker, BrokerConfig, Engine};
use crate::config::Limits;
use crate::platform::clock::{BootTime, Clock, boot_now};
use crate::source::TokenSource;

pub(crate) use super::http::fuzzing::head;
use super::http::fuzzing::session_responses;
pub(crate) use super::peer::fuzzing::process;

/// In how many pieces bytes are sent; the rest is the last one.
const MAX_PIECES: usize = 200;

/// How long a session may continue after its caller has sent everything and disconnected.
const LIMIT: Duration = Duration::from_secs(5);

/// The end of an event and of its chunk.
const END_OF_EVENT: &[u8] = b"\n\n\r\n";

/// A clock that stands still, so that no token is renewed between two runs.
#[derive(Clone)]
struct FixedClock(BootTime);

impl Clock for FixedClock {
    fn now(&self) -> BootTime {
        self.0
    }

    async fn sleep_until(&self, _: BootTime) {
        pending::<()>().await;
    }
}

struct FixedSource;

impl TokenSource for FixedSource {
    async fn fetch(&self, occasion: &Occasion, _: &(dyn Fn(Progress) + Send + Sync)) -> Fetch {
        Fetch::Obtained(Fetched {
            text: "t0ken".to_owned().into(),
            lifetime: Duration::from_secs(3600),
            expires: None,
            renew_at: None,
            origin: domo_token_core::fetch_result::TokenOrigin::Domo,
            lifetime_source: LifetimeSource::Stated,
            granted: occasion.scope.clone(),
        })
    }
}

/// A broker with a token, and the runtime of its sessions.
struct Server {
    runtime: Runtime,
    server: Arc<super::Server<FixedClock>>,
}

impl Server {
    fn start() -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime");
        let config = BrokerConfig {
            default_client: Some("acme".to_owned()),
            ..BrokerConfig::default()
        };
        let broker = Broker::new(FixedClock(boot_now()), 0, config);
        let wanted = ClientSpec {
            name: "acme".to_owned(),
            shown_id: String::new(),
            scopes: [ScopeSet::parse("data").expect("a scope set")].into(),
            renewed: true,
            proxy_login: None,
            loading: None,
            shares: false,
        };
        let (engine, handle) = Engine::new(&broker, vec![(wanted, Some(Arc::new(FixedSource)))]);
        runtime.spawn(async move {
            // The engine runs as long as there is a handle.
            let _handle = handle;
            engine.run().await;
        });
        let settings = Settings {
            limits: Limits::default(),
            socket: PathBuf::from("/run/domo-token/broker.sock"),
            http: true,
        };
        let server = Self {
            runtime,
            server: Arc::new(super::Server::new(broker, settings)),
        };
        let request = b"GET /v1/token/data HTTP/1.1\r\nHost: localhost\r\n\r\n";
        // The first one waits for the token, and would not be answered after a disconnect.
        while session_responses(request, &server.answer(&[request])) != [200] {}
        server
    }

    /// Returns everything that a session sends to a caller that sends these pieces and then disconnects.
    fn answer(&self, pieces: &[&[u8]]) -> Vec<u8> {
        let (ours, theirs) = UnixStream::pair().expect("a socket pair");
        ours.set_nonblocking(true).expect("a socket");
        theirs.set_nonblocking(true).expect("a socket");
        let peer = Peer {
            uid: Some(1001),
            ..Peer::default()
        };
        let now = boot_now();
        let connection = Connection {
            stream: ours,
            peer,
            permit: self.server.limits.acquire(&peer, now).expect("no limit"),
            accepted: now,
        };
        let talking = async {
            let stream = tokio::net::UnixStream::from_std(theirs).expect("a stream");
            let (reading, mut writing) = stream.into_split();
            let sending = async move {
                for piece in pieces {
                    // A session may end before it has read everything.
                    let _ = writing.write_all(piece).await;
                    yield_now().await;
                }
                let _ = writing.shutdown().await;
            };
            let ((), received) = tokio::join!(sending, receive(reading));
            received
        };
        let session = session::run(Box::new(connection), Arc::clone(&self.server));
        self.runtime.block_on(async {
            let both = async { tokio::join!(session, talking) };
            let ((), received) = timeout(LIMIT, both).await.expect("the session ends");
            received
        })
    }
}

/// Returns what a session sends until it ends, or until the first event: a watch continues until its caller hangs up.
async fn receive(mut reading: OwnedReadHalf) -> Vec<u8> {
    let mut received = Vec::new();
    // What a session has not read is an error in the end.
    while !received.ends_with(END_OF_EVENT)
        && reading.read_buf(&mut received).await.unwrap_or(0) > 0
    {}
    received
}

thread_local! {
    static SERVER: RefCell<Option<Server>> = const { RefCell::new(None) };
}

/// Runs a session that is sent all bytes but the first two at once, and then the same in pieces: these two bytes are
/// the lengths of alternate pieces.
pub(crate) fn session(bytes: &[u8]) {
    let Some(([first, second], bytes)) = bytes.split_first_chunk() else {
        return;
    };
    SERVER.with_borrow_mut(|server| {
        let server = server.get_or_insert_with(Server::start);
        let at_once = summary(bytes, &server.answer(&[bytes]));
        let lengths = [*first, *second].map(usize::from);
        let in_pieces = summary(bytes, &server.answer(&pieces(bytes, lengths)));
        assert_eq!(at_once, in_pieces, "answers depend on how requests arrive");
    });
}

fn pieces(mut bytes: &[u8], lengths: [usize; 2]) -> Vec<&[u8]> {
    let mut pieces = Vec::new();
    for length in lengths.into_iter().cycle().take(MAX_PIECES) {
        let Some((piece, rest)) = bytes.split_at_checked(length.max(1)) else {
            break;
        };
        pieces.push(piece);
        bytes = rest;
    }
    pieces.push(bytes);
    pieces
}

/// What a session sent, without what differs between two runs.
#[derive(Debug, PartialEq, Eq)]
enum Summary {
    /// The kinds of messages after the greeting.
    Frames(Vec<std::mem::Discriminant<Response>>),
    /// The status of each response.
    Http(Vec<u16>),
}

/// Checks that what a session sent is well-formed.
fn summary(sent: &[u8], received: &[u8]) -> Summary {
    let first = sent.first_chunk::<HELLO>().copied();
    if first.and_then(protocol) == Some(Protocol::Http) {
        return Summary::Http(session_responses(sent, received));
    }
    let mut kinds = Vec::new();
    let greeting = Greeting::decode(received).expect("a greeting");
    let length = greeting.map_or(0, |greeting| greeting.length());
    let version = greeting.map_or(VERSION, |greeting| greeting.version());
    let mut rest = received.get(length..).unwrap_or_default();
    while !rest.is_empty() {
        let (body, used) = frame::split(rest).ok().flatten().expect("a whole frame");
        let message = Response::decode(body, version).expect("a message");
        kinds.push(std::mem::discriminant(&message));
        rest = rest.get(used..).unwrap_or_default();
    }
    Summary::Frames(kinds)
}
