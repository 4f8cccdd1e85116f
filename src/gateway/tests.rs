#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "in a test, what fails says so"
)]

mod bodies;
mod connections;
mod limits;
mod logins;
mod rejected_tokens;
mod requests;
mod responses;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use domo_token_core::fetch::{Fetch, Occasion, Progress};
use domo_token_core::fetch_result::{Cause, FetchError, Fetched, LifetimeSource, TokenOrigin};
use domo_token_core::scheduler::ClientSpec;
use domo_token_protocol::scope::ScopeSet;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::local_token::{SigningKey, TokenId, issue};
use super::*;
use crate::broker::{BrokerConfig, Engine};
use crate::config::Config;
use crate::connect;
use crate::credentials::{Credentials, SecretHash};
use crate::platform::clock::SystemClock;
use crate::source::{Source, TokenSource};

/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(30);

const KEY: [u8; 32] = [7; 32];
const SECRET: &[u8] = b"c4nary-local-secret";

/// Domo's token endpoint: each token has the number of its request.
#[derive(Default)]
pub(super) struct Tokens {
    requests: AtomicU64,
    /// Whether there are no further tokens.
    fails: AtomicBool,
    /// In seconds; 0 stands for an hour.
    lifetime_s: AtomicU64,
}

impl TokenSource for Tokens {
    async fn fetch(
        &self,
        occasion: &Occasion,
        on_progress: &(dyn Fn(Progress) + Send + Sync),
    ) -> Fetch {
        on_progress(Progress::Requested);
        if self.fails.load(Ordering::Relaxed) {
            return Err(FetchError::transient(Cause::Server, "Domo answered 503")).into();
        }
        let number = self.requests.fetch_add(1, Ordering::Relaxed) + 1;
        let lifetime = match self.lifetime_s.load(Ordering::Relaxed) {
            0 => 3600,
            seconds => seconds,
        };
        Fetch::Obtained(Fetched {
            text: format!("t0ken-{number}").into(),
            lifetime: Duration::from_secs(lifetime),
            expires: None,
            renew_at: None,
            // Such a token can be replaced at any time.
            origin: TokenOrigin::Fleet,
            lifetime_source: LifetimeSource::Stated,
            granted: occasion.scope.clone(),
        })
    }
}

/// A gateway with the application `etl`, whose server is the test itself.
pub(super) struct Fixture {
    pub(super) gateway: Gateway<SystemClock>,
    pub(super) tokens: Arc<Tokens>,
    pub(super) server: TcpListener,
    pub(super) stop: CancellationToken,
    pub(super) serving: JoinHandle<()>,
    address: SocketAddr,
    source: Arc<Source>,
    engine: JoinHandle<()>,
}

impl Drop for Fixture {
    fn drop(&mut self) {
        self.engine.abort();
        self.serving.abort();
    }
}

impl Fixture {
    pub(super) async fn new() -> Self {
        Self::with(|_| ()).await
    }

    /// Returns one with other time limits.
    pub(super) async fn with(change: impl FnOnce(&mut Timing)) -> Self {
        let scope = ScopeSet::parse("data").unwrap();
        let tokens = Arc::new(Tokens::default());
        let spec = ClientSpec {
            name: "acme".to_owned(),
            shown_id: String::new(),
            scopes: BTreeSet::from([scope]),
            renewed: true,
            proxy_login: None,
            loading: None,
            shares: false,
        };
        let broker = Broker::new(SystemClock::new(), 1, BrokerConfig::default());
        let clients = vec![(spec, Some(Arc::clone(&tokens)))];
        let (engine, handle) = Engine::new(&broker, clients);
        let engine = tokio::spawn(async move {
            engine.run().await;
            drop(handle);
        });
        let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut timing = Timing::default();
        change(&mut timing);
        let gateway = Gateway::with_timing(broker, timing);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let listeners = Listeners {
            http: vec![listener],
            tls: Vec::new(),
        };
        let stop = CancellationToken::new();
        let (running, until) = (gateway.clone(), stop.clone());
        let serving = tokio::spawn(async move { running.serve(listeners, until).await });
        let config = config("", server.local_addr().unwrap());
        let credentials = Credentials {
            client_id: "id".to_owned(),
            client_secret: "c4nary".into(),
        };
        let shared = connect::Shared::default();
        let client = &config.clients["acme"];
        let source = Source::new(client, credentials, None, None, &shared).unwrap();
        let fixture = Self {
            gateway,
            tokens,
            server,
            stop,
            serving,
            address,
            source,
            engine,
        };
        fixture.apply("");
        fixture
    }

    /// Applies a config with these keys of the application.
    pub(super) fn apply(&self, keys: &str) {
        self.gateway.apply(self.settings(keys));
    }

    pub(super) fn settings(&self, keys: &str) -> GatewaySettings {
        let config = config(keys, self.server.local_addr().unwrap());
        let app = |(name, config)| AppSettings {
            name,
            source: Some(Arc::clone(&self.source)),
            hashes: Ok(vec![SecretHash::of(SECRET)]),
            key: Ok(Arc::new(KEY.into())),
            config,
        };
        GatewaySettings {
            apps: config.gateway.unwrap().apps.into_iter().map(app).collect(),
            tls: None,
        }
    }

    pub(super) async fn app(&self) -> Peer {
        Peer(TcpStream::connect(self.address).await.unwrap())
    }

    pub(super) async fn accept(&self) -> Peer {
        let accepted = timeout(PATIENCE, self.server.accept()).await;
        Peer(accepted.expect("no connection").unwrap().0)
    }

    /// Returns the application's connection and the server's, after the request that the server has received.
    pub(super) async fn exchange(&self, request: &str) -> (Peer, Peer, String) {
        let mut app = self.app().await;
        app.send(request).await;
        let mut server = self.accept().await;
        let head = server.head().await;
        (app, server, head)
    }

    pub(super) fn usage(&self) -> Arc<crate::broker::app_usage::AppUsage> {
        Arc::clone(&self.gateway.0.broker.apps()[0])
    }
}

fn config(keys: &str, server: SocketAddr) -> Config {
    let text = format!(
        "[gateway]\nlisten = \"127.0.0.1:1\"\n\
         [gateway.apps.etl]\nclient = \"acme\"\nupstream = \"http://{server}\"\n\
         allow = [{{ methods = [\"*\"], path = \"/v1/datasets/**\", scopes = \"data\" }},\n\
                  {{ methods = [\"GET\"], path = \"/v1/users/**\", scopes = \"user\" }}]\n{keys}\n\
         [clients.acme]\nclient_id = \"id\"\nclient_secret_env = \"S\"\n\
         token_url = \"http://{server}/oauth/token\"\nallow_http_loopback = true\n\
         tokens = [\"data\", \"user\"]\n"
    );
    Config::parse(&text, Path::new("/etc/domo-token/config.toml")).unwrap()
}

/// Returns a local token of `etl` for these scopes, issued so many seconds ago.
pub(super) fn local_token(scopes: &str, age_s: u64) -> String {
    let key = SigningKey::derive(&KEY, "etl", &SecretHash::of(SECRET));
    let now = SystemClock::new().wall().as_secs() - age_s;
    let scopes = ScopeSet::parse(scopes).unwrap();
    issue("etl", &scopes, TokenId(1), &key, now).to_string()
}

/// Returns a request with a valid local token.
pub(super) fn request(line: &str, fields: &str, body: &str) -> String {
    let token = local_token("data", 0);
    format!(
        "{line} HTTP/1.1\r\nHost: 127.0.0.1:8640\r\nAuthorization: Bearer {token}\r\n{fields}\r\n{body}"
    )
}

pub(super) fn get(path: &str) -> String {
    request(&format!("GET {path}"), "", "")
}

/// One end of a connection.
pub(super) struct Peer(pub(super) TcpStream);

impl Peer {
    pub(super) async fn send(&mut self, text: impl AsRef<[u8]>) {
        let sent = timeout(PATIENCE, self.0.write_all(text.as_ref())).await;
        sent.expect("cannot send in time").unwrap();
    }

    /// Receives so many bytes.
    pub(super) async fn bytes(&mut self, count: usize) -> Vec<u8> {
        let mut bytes = vec![0; count];
        let read = timeout(PATIENCE, self.0.read_exact(&mut bytes)).await;
        read.expect("nothing in time").unwrap();
        bytes
    }

    pub(super) async fn text(&mut self, count: usize) -> String {
        String::from_utf8(self.bytes(count).await).unwrap()
    }

    /// Receives a head.
    pub(super) async fn head(&mut self) -> String {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let byte = timeout(PATIENCE, self.0.read_u8()).await;
            match byte.unwrap_or_else(|_| panic!("incomplete: {head:?}")) {
                Ok(byte) => head.push(byte),
                Err(error) => panic!("{error} after {:?}", String::from_utf8_lossy(&head)),
            }
        }
        String::from_utf8(head).unwrap()
    }

    /// Receives a head, and a body whose length it has.
    pub(super) async fn message(&mut self) -> (String, String) {
        let head = self.head().await;
        let lower = head.to_ascii_lowercase();
        let length = lower.split("content-length: ").nth(1);
        let length = length.map_or(0, |rest| rest.lines().next().unwrap().parse().unwrap());
        let body = self.text(length).await;
        (head, body)
    }

    /// Receives the rest, up to the end of the connection.
    pub(super) async fn rest(&mut self) -> String {
        let mut rest = Vec::new();
        let read = timeout(PATIENCE, self.0.read_to_end(&mut rest)).await;
        read.expect("the connection stays open").ok();
        String::from_utf8(rest).unwrap()
    }
}

pub(super) const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}";

/// Returns once the condition holds.
pub(super) async fn until(mut condition: impl FnMut() -> bool) {
    let polling = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(PATIENCE, polling).await.expect("it never happens");
}
