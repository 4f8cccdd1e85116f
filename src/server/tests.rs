use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use domo_token_client::Broker as Caller;
use domo_token_protocol::frame::{self, HEAD};
use domo_token_protocol::greeting::{self, GREETING, Greeting, HELLO};
use domo_token_protocol::messages::RefusalKind;
use domo_token_protocol::messages::{OLDEST_VERSION, Request, Response, TokenSubject, VERSION};
#[cfg(unix)]
use domo_token_protocol::scope::MAX_SCOPE_BYTES;
use domo_token_protocol::scope::ScopeSet;

use super::*;
use crate::broker::{BrokerConfig, Engine};
use crate::platform::clock::BootTime;
use crate::source::TokenSource;
use crate::source::fleet_monitor::FleetMonitor;
use domo_token_core::fetch::{Fetch, Occasion, Progress};
use domo_token_core::scheduler::ClientSpec;

/// A clock that panics once after its flag was set.
#[derive(Clone, Default)]
struct Faulty(Arc<AtomicBool>);

impl Clock for Faulty {
    fn now(&self) -> BootTime {
        assert!(!self.0.swap(false, Ordering::Relaxed), "a planted bug");
        BootTime::default()
    }

    async fn sleep_until(&self, _due: BootTime) {
        std::future::pending::<()>().await;
    }
}

#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(unix)]
fn socket_path(folder: &Path) -> PathBuf {
    folder.join("broker.sock")
}

/// All pipes of a machine are in one directory.
#[cfg(windows)]
fn socket_path(folder: &Path) -> PathBuf {
    Path::new(r"\\.\pipe").join(folder.file_name().unwrap())
}

#[cfg(unix)]
fn connect(path: &Path) -> std::os::unix::net::UnixStream {
    std::os::unix::net::UnixStream::connect(path).unwrap()
}

#[cfg(windows)]
fn connect(path: &Path) -> std::fs::File {
    let mut options = std::fs::OpenOptions::new();
    options.read(true).write(true).open(path).unwrap()
}

/// A server with its own socket.
struct TestServer {
    path: PathBuf,
    stop: CancellationToken,
    task: tokio::task::JoinHandle<()>,
    _socket: Socket,
    _folder: tempfile::TempDir,
}

impl TestServer {
    fn start<C: Clock>(broker: Broker<C>, limits: Limits) -> Self {
        Self::start_after(broker, limits, |_| ())
    }

    /// Starts to serve once `connect` has returned, to which it passes the path.
    fn start_after<C: Clock>(
        broker: Broker<C>,
        limits: Limits,
        connect: impl FnOnce(&Path),
    ) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = socket_path(folder.path());
        let mut socket = Socket::lock(&path, false).unwrap();
        let listener = socket.listen(&Callers::default()).unwrap();
        connect(&path);
        let stop = CancellationToken::new();
        let settings = Settings {
            limits,
            socket: path.clone(),
            http: true,
        };
        Self {
            path,
            task: tokio::spawn(serve(listener, broker, settings, stop.clone())),
            stop,
            _socket: socket,
            _folder: folder,
        }
    }

    /// Runs callers on a thread.
    async fn call<T: Send + 'static>(
        &self,
        callers: impl FnOnce(&Path) -> T + Send + 'static,
    ) -> T {
        let path = self.path.clone();
        let called = tokio::task::spawn_blocking(move || callers(&path));
        called.await.unwrap()
    }

    async fn stop(self) {
        self.stop.cancel();
        self.task.await.unwrap();
    }
}

fn faulty_broker() -> Broker<Faulty> {
    Broker::new(Faulty::default(), 0, BrokerConfig::default())
}

#[tokio::test]
async fn panic_in_a_session_does_not_affect_others_and_is_logged_once() {
    let lines = Lines::default();
    let writer = lines.clone();
    let logged = tracing_subscriber::fmt()
        .with_writer(move || writer.clone())
        .finish();
    let _logging = tracing::subscriber::set_default(logged);
    let clock = Faulty::default();
    let broker = Broker::new(clock.clone(), 0, BrokerConfig::default());
    let server = TestServer::start(broker, Limits::default());
    let callers = server.call(move |path| {
        let before = Caller::connect_to(path).unwrap();
        before.status().unwrap();
        let victim = Caller::connect_to(path).unwrap();
        clock.0.store(true, Ordering::Relaxed);
        // Its connection is lost by the panic; it is made again, and answered.
        victim.status().unwrap();
        assert!(!clock.0.load(Ordering::Relaxed), "the bug was met");
        before.status().unwrap();
    });
    callers.await;
    server.stop().await;
    let log = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
    assert_eq!(
        log.matches("the session of a caller panicked").count(),
        1,
        "{log}"
    );
}

fn explain(scope: &str) -> Vec<u8> {
    let subject = TokenSubject {
        client: None,
        scope: scope.to_owned(),
    };
    frame::encode(&Request::Explain(subject)).unwrap().to_vec()
}

/// Sends an explain request in two pieces. Returns the scopes of the answer; the first one follows the greeting.
fn explained(stream: &mut (impl Read + Write), scope: &str, cut: usize, first: bool) -> String {
    let request = explain(scope);
    let (start, rest) = request.split_at(cut);
    stream.write_all(start).unwrap();
    stream.write_all(rest).unwrap();
    explanation(stream, first)
}

fn read_hello(stream: &mut impl Read) {
    let mut bytes = [0; GREETING];
    stream.read_exact(&mut bytes).unwrap();
    let greeting = Greeting::decode(&bytes).unwrap().unwrap();
    assert_eq!(greeting.version(), VERSION);
    assert!(greeting.clock() <= Some(boot_now()));
}

fn read_response(stream: &mut impl Read) -> Response {
    read_response_of(stream, VERSION)
}

fn read_response_of(stream: &mut impl Read, version: u8) -> Response {
    let mut head = [0; HEAD];
    stream.read_exact(&mut head).unwrap();
    let mut body = vec![0; frame::body_length(head).unwrap()];
    stream.read_exact(&mut body).unwrap();
    Response::decode(&body, version).unwrap()
}

fn explanation(stream: &mut impl Read, first: bool) -> String {
    if first {
        read_hello(stream);
    }
    let Response::Explanation(given) = read_response(stream) else {
        panic!("no explanation");
    };
    given.scope
}

#[tokio::test]
async fn repeated_and_different_requests_each_get_their_own_response() {
    let server = TestServer::start(faulty_broker(), Limits::default());
    let callers = server.call(|path| {
        let mut stream = connect(path);
        stream.write_all(&greeting::hello(VERSION)).unwrap();
        let long = "x".repeat(300);
        let mut greeted = false;
        for scope in ["data", "data", "user", "data", &long, &long, "data", "data"] {
            for cut in [0, 3, 7] {
                let first = !std::mem::replace(&mut greeted, true);
                assert_eq!(explained(&mut stream, scope, cut, first), scope);
            }
        }
    });
    callers.await;
    server.stop().await;
}

#[tokio::test]
async fn caller_is_greeted_in_its_version_and_closed_if_that_is_unknown() {
    let server = TestServer::start(faulty_broker(), Limits::default());
    let callers = server.call(|path| {
        for version in OLDEST_VERSION..=VERSION {
            let before = boot_now();
            let mut stream = connect(path);
            let sent = [
                &greeting::hello(version)[..],
                &explain("data"),
                &explain("user"),
            ]
            .concat();
            stream.write_all(&sent).unwrap();
            let mut hello = [0; HELLO];
            stream.read_exact(&mut hello).unwrap();
            assert_eq!(hello, greeting::hello(version));
            if version > 1 {
                let mut clock = [0; GREETING - HELLO];
                stream.read_exact(&mut clock).unwrap();
                let clock = BootTime::from_millis(u64::from_le_bytes(clock));
                assert!((before..=boot_now()).contains(&clock), "{clock}");
            }
            assert_eq!(explanation(&mut stream, false), "data");
            assert_eq!(explanation(&mut stream, false), "user");
        }
        for version in [0, VERSION + 1, u8::MAX] {
            let mut stream = connect(path);
            stream.write_all(&greeting::hello(version)).unwrap();
            read_hello(&mut stream);
            assert_eq!(stream.read(&mut [0]).unwrap_or(0), 0, "nothing more");
        }
    });
    callers.await;
}

#[tokio::test]
async fn status_shows_the_fleet_to_callers_whose_version_has_it() {
    let broker = faulty_broker();
    let fleet = FleetMonitor::new("cache.example:6379".to_owned());
    broker.set_fleet(Some(Arc::new(fleet)));
    let server = TestServer::start(broker, Limits::default());
    let callers = server.call(|path| {
        for version in OLDEST_VERSION..=VERSION {
            let mut stream = connect(path);
            let request = frame::encode(&Request::Status).unwrap();
            let sent = [&greeting::hello(version)[..], &request].concat();
            stream.write_all(&sent).unwrap();
            let length = Greeting::new(version, BootTime::default()).length();
            stream.read_exact(&mut vec![0; length]).unwrap();
            let Response::Broker(status) = read_response_of(&mut stream, version) else {
                panic!("no status");
            };
            let place = status.fleet.map(|fleet| fleet.place);
            let expected = (version >= 3).then(|| "cache.example:6379".to_owned());
            assert_eq!(place, expected, "version {version}");
            assert_eq!(read_response_of(&mut stream, version), Response::End);
        }
    });
    callers.await;
    server.stop().await;
}

/// A session reads what was sent before it began, before the runtime waits for more.
#[cfg(unix)]
#[tokio::test]
async fn request_sent_while_connecting_is_answered_at_any_length() {
    let read_at_most = 4096;
    let fits = "x".repeat(read_at_most - HELLO - explain(&"x".repeat(4000)).len() + 4000);
    assert_eq!(HELLO + explain(&fits).len(), read_at_most);
    let longer = fits.clone() + "x";
    let longest = "x".repeat(frame::MAX_REQUEST - explain(&fits).len() + HEAD + fits.len());
    assert_eq!(explain(&longest).len(), HEAD + frame::MAX_REQUEST);
    let sets: [&[&str]; 5] = [
        &["data"],
        &["data", "user", "data"],
        &[&fits],
        &[&longer, "data"],
        &["data", &longest],
    ];
    let mut callers = Vec::new();
    let server = TestServer::start_after(faulty_broker(), Limits::default(), |path| {
        for scopes in sets {
            let mut stream = connect(path);
            let mut sent = greeting::hello(VERSION).to_vec();
            sent.extend(scopes.iter().flat_map(|scope| explain(scope)));
            stream.write_all(&sent).unwrap();
            stream.shutdown(std::net::Shutdown::Write).unwrap();
            let scopes = scopes.iter().map(ToString::to_string);
            callers.push((stream, scopes.collect::<Vec<_>>()));
        }
    });
    let reading = server.call(move |_| {
        for (mut stream, scopes) in callers {
            for (index, scope) in scopes.iter().enumerate() {
                let shown = explanation(&mut stream, index == 0);
                // No more is shown than a scope set can have.
                let start = shown.trim_end_matches('…');
                assert_eq!(start, &scope[..scope.len().min(MAX_SCOPE_BYTES)]);
            }
            assert_eq!(stream.read(&mut [0]).unwrap(), 0, "nothing more");
        }
    });
    reading.await;
}

/// As many metrics requests as the socket takes before its session has an answer to hold.
#[cfg(unix)]
fn unread_metrics_requests(path: &Path) -> std::os::unix::net::UnixStream {
    let mut stream = connect(path);
    let request = frame::encode(&Request::Metrics).unwrap();
    stream.write_all(&greeting::hello(VERSION)).unwrap();
    stream
        .set_write_timeout(Some(Duration::from_millis(100)))
        .unwrap();
    while stream.write_all(&request.repeat(1000)).is_ok() {}
    stream
}

/// Returns whether a caller receives metrics, or a refusal because there is no room.
#[cfg(unix)]
fn receives_metrics(path: &Path) -> bool {
    let mut stream = connect(path);
    let mut request = greeting::hello(VERSION).to_vec();
    request.extend_from_slice(&frame::encode(&Request::Metrics).unwrap());
    stream.write_all(&request).unwrap();
    read_hello(&mut stream);
    let mut given = false;
    loop {
        let part = read_response(&mut stream);
        if let Response::Refusal(refusal) = part {
            assert_eq!(refusal.kind, RefusalKind::Busy);
            return false;
        }
        if part == Response::End {
            return given;
        }
        given |= matches!(part, Response::Metrics(_));
    }
}

#[cfg(unix)]
#[tokio::test]
async fn at_most_eight_unread_metrics_responses_are_held() {
    let mut limits = Limits::default();
    limits.deadlines.answer = Duration::from_secs(600);
    let server = TestServer::start(faulty_broker(), limits);
    let callers = server.call(|path| {
        let mut held = Vec::new();
        for _ in 0..8 {
            assert!(receives_metrics(path), "{} are held", held.len());
            held.push(unread_metrics_requests(path));
        }
        let end = boot_now() + Duration::from_secs(30);
        let wait_for = |given| {
            while receives_metrics(path) != given {
                assert!(boot_now() < end, "{given}");
            }
        };
        wait_for(false);
        drop(held);
        wait_for(true);
    });
    callers.await;
    server.stop().await;
}

/// A source that never answers.
struct HangingSource;

impl TokenSource for HangingSource {
    async fn fetch(&self, _occasion: &Occasion, _: &(dyn Fn(Progress) + Send + Sync)) -> Fetch {
        std::future::pending().await
    }
}

/// Every watcher is waiting for a token when the server stops, so each session has the last message
/// and its own end before it in the same poll.
#[tokio::test]
async fn watchers_get_a_last_message_when_the_server_stops_though_the_engine_has_not() {
    const WATCHERS: usize = 64;
    let config = BrokerConfig {
        default_client: Some("acme".to_owned()),
        ..BrokerConfig::default()
    };
    let broker = Broker::new(Faulty::default(), 0, config);
    let wanted = ClientSpec {
        name: "acme".to_owned(),
        shown_id: String::new(),
        scopes: [ScopeSet::parse("data").unwrap()].into(),
        renewed: true,
        proxy_login: None,
        loading: None,
        shares: false,
    };
    let clients = vec![(wanted, Some(Arc::new(HangingSource)))];
    let (_engine, _handle) = Engine::new(&broker, clients);
    let server = TestServer::start(broker, Limits::default());
    let watching = server.call(move |path| {
        let subject = TokenSubject {
            client: None,
            scope: "data".to_owned(),
        };
        let watch = frame::encode(&Request::Watch(subject)).unwrap();
        let first = [&greeting::hello(VERSION)[..], &explain("data")].concat();
        let watch = || {
            let mut stream = connect(path);
            stream.write_all(&first).unwrap();
            explanation(&mut stream, true);
            stream.write_all(&watch).unwrap();
            stream
        };
        let streams: Vec<_> = (0..WATCHERS).map(|_| watch()).collect();
        // Requests are served in the order of their arrival, so that now all of them watch.
        Caller::connect_to(path).unwrap().status().unwrap();
        streams
    });
    let streams = watching.await;
    let ended = tokio::time::timeout(DRAIN * 10, server.stop()).await;
    ended.expect("the sessions end");
    let read = tokio::task::spawn_blocking(move || {
        for (number, mut stream) in streams.into_iter().enumerate() {
            let mut rest = Vec::new();
            stream.read_to_end(&mut rest).unwrap();
            let mut rest = &rest[..];
            let Response::Refusal(last) = read_response(&mut rest) else {
                panic!("no refusal for watcher {number}");
            };
            assert_eq!(last.kind, RefusalKind::Busy);
            assert!(rest.is_empty(), "nothing after it");
        }
    });
    read.await.unwrap();
}
