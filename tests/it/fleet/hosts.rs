//! The hosts of a fleet: daemons with folders of their own, and what they report.

use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::process::Child;
use std::time::Duration;

use domo_sandbox::Sandbox;
use serde_json::Value;
use tempfile::TempDir;

use crate::common::metrics::{connect, get, with_metrics};
use crate::common::redis::{Redis, is_installed};
use crate::common::wait::until;
use crate::common::{CLIENT_ID, Daemon, chmod, client_text, folder, timed, token};

/// The client's secret on each host: long enough for a fleet without a `key_file`.
pub(super) const SECRET: &str = "c4nary-secret-of-a-fleet-never-to-be-seen";

/// The shortest lifetime for which the fleet is used.
pub(super) const SHORT: Duration = Duration::from_secs(20);

/// How much longer a caller waits with an engine that fails than without a fleet, if no token is held.
pub(super) const COLD_EXTRA: Duration = Duration::from_secs(5);

/// What start and request of a host take on a busy machine, besides what the test is about.
pub(super) const SLACK: Duration = Duration::from_secs(4);

/// A sandbox as Domo, and an engine.
pub(super) struct Fleet {
    pub(super) sandbox: Sandbox,
    pub(super) engine: Redis,
}

impl Fleet {
    /// Starts both, or prints that the test is skipped because redis-server is not installed.
    pub(super) fn start(lifetime: Duration) -> Option<Self> {
        Some(Self {
            engine: engine("")?,
            sandbox: domo(lifetime),
        })
    }

    /// The config of a host.
    pub(super) fn config(&self) -> String {
        self.config_with("")
    }

    /// The config of a host with further lines in `[fleet]`.
    pub(super) fn config_with(&self, lines: &str) -> String {
        let section = section(&self.engine.url(), lines);
        client(&self.sandbox) + &section
    }

    /// Starts a host and waits until it listens.
    pub(super) fn host(&self) -> Daemon {
        start(&self.config())
    }

    /// Starts hosts at the same time.
    pub(super) fn hosts(&self, count: usize) -> Vec<Daemon> {
        start_all(&vec![self.config(); count])
    }

    /// Returns the keys in the engine that end like this.
    pub(super) fn keys(&self, end: &str) -> Vec<String> {
        keys(&self.engine, end)
    }

    /// Returns how many token requests Domo received.
    pub(super) fn requests(&self) -> usize {
        self.sandbox.requests().len()
    }
}

/// Starts an engine with these lines of config, or prints that the test is skipped because it is not installed.
pub(super) fn engine(config: &str) -> Option<Redis> {
    is_installed().then(|| Redis::start(config))
}

/// Returns the keys in an engine that end like this.
pub(super) fn keys(engine: &Redis, end: &str) -> Vec<String> {
    let keys = engine.cli(&["KEYS", &format!("*{end}")]);
    let keys = keys.lines().filter(|line| !line.is_empty());
    keys.map(str::to_owned).collect()
}

/// A sandbox that knows the client by [`SECRET`].
pub(super) fn domo(lifetime: Duration) -> Sandbox {
    builder().lifetime(lifetime).start().unwrap()
}

pub(super) fn builder() -> domo_sandbox::Builder {
    Sandbox::builder().client(CLIENT_ID, SECRET, &["data", "user", "audit"])
}

/// The config of the client with one scope set.
pub(super) fn client(sandbox: &Sandbox) -> String {
    client_text("acme", sandbox, "[\"data\"]")
}

/// The section `[fleet]` with that URL and further lines.
pub(super) fn section(url: &str, lines: &str) -> String {
    format!("\n[fleet]\nurl = \"{url}\"\n{lines}\n")
}

/// A host's folder with that config and the client's secret.
pub(super) fn host_folder(config: &str) -> TempDir {
    let folder = folder(config);
    fs::write(folder.path().join("acme.secret"), format!("{SECRET}\n")).unwrap();
    folder
}

/// Writes a file that only the daemon may read.
pub(super) fn write_private(folder: &TempDir, name: &str, text: &str) {
    let path = folder.path().join(name);
    fs::write(&path, text).unwrap();
    chmod(path, 0o600);
}

/// Starts a host and waits until it listens.
pub(super) fn start(config: &str) -> Daemon {
    Daemon::start_in(host_folder(config))
}

/// Starts hosts at the same time, and waits until they listen.
pub(super) fn start_all(configs: &[String]) -> Vec<Daemon> {
    start_all_in(configs.iter().map(|config| host_folder(config)).collect())
}

/// Starts hosts in those folders at the same time, and waits until they listen.
pub(super) fn start_all_in(folders: Vec<TempDir>) -> Vec<Daemon> {
    let spawn = |folder: TempDir| Daemon::spawn_as(Daemon::command(folder.path()), folder);
    let mut hosts: Vec<Daemon> = folders.into_iter().map(spawn).collect();
    for host in &mut hosts {
        host.wait_for_log("started");
    }
    hosts
}

/// Starts a host that serves metrics, and returns the port.
pub(super) fn start_with_metrics(config: &str) -> (Daemon, u16) {
    loop {
        let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = free.local_addr().unwrap().port();
        drop(free);
        let folder = host_folder(&with_metrics(config, port));
        let mut host = Daemon::spawn_as(Daemon::command(folder.path()), folder);
        // Another process may take the port in between; then the next one is tried.
        let line = host.wait_for_one_of(&["started", "metrics.listen"]);
        if line.contains("started") {
            return (host, port);
        }
        assert!(line.contains("in use"), "{line}");
    }
}

/// Returns the host's token, for which it waits.
#[track_caller]
pub(super) fn token_of(host: &Daemon) -> String {
    token(&host.ask(&["--timeout", "60", "data"]))
}

/// Requests the token of each host at the same time. Returns them, and how long the slowest caller waited.
#[track_caller]
pub(super) fn tokens_of(hosts: &[Daemon]) -> (Vec<String>, Duration) {
    let (took, tokens) = timed(|| {
        let callers: Vec<Child> = hosts
            .iter()
            .map(|host| host.helper(&["--timeout", "60", "data"]).spawn().unwrap())
            .collect();
        callers
            .into_iter()
            .map(|caller| token(&caller.wait_with_output().unwrap()))
            .collect()
    });
    (tokens, took)
}

/// Asserts that all hosts serve the same token, and returns it.
#[track_caller]
pub(super) fn shared_token(hosts: &[Daemon]) -> String {
    let (tokens, _) = tokens_of(hosts);
    assert!(
        tokens.windows(2).all(|pair| pair[0] == pair[1]),
        "not shared"
    );
    tokens[0].clone()
}

/// Returns where the host's token comes from: `domo` or `fleet`.
#[track_caller]
pub(super) fn origin(host: &Daemon) -> String {
    let set = host.status_of("data");
    let origin = set["from"].as_str();
    origin.unwrap_or_else(|| panic!("{set}")).to_owned()
}

/// Returns what the host's status says about the engine; null without `[fleet]`.
pub(super) fn fleet_status(host: &Daemon) -> Value {
    host.status()["broker"]["fleet"].clone()
}

/// Reports the token's rejection by Domo and returns the next one.
#[track_caller]
pub(super) fn renew(host: &Daemon) -> String {
    let generation = host.status_of("data")["generation"].to_string();
    let generation = generation.trim_matches('"');
    let renew = format!("--renew={generation}");
    token(&host.ask(&[&renew, "--timeout", "60", "data"]))
}

/// Returns the value of a metric whose line starts like this, or 0 if there is none.
pub(super) fn metric(port: u16, start: &str) -> f64 {
    let (status, text) = get(connect(port), "/metrics");
    assert_eq!(status, 200, "{text}");
    let line = text.lines().find(|line| line.starts_with(start));
    let value = line.and_then(|line| line.rsplit(' ').next());
    value.map_or(0.0, |value| value.parse().unwrap())
}

/// Waits until a metric whose line starts like this is at least that value.
#[track_caller]
pub(super) fn wait_for_metric(port: u16, start: &str, least: f64) {
    until(|| {
        let value = metric(port, start);
        if value >= least {
            Ok(())
        } else {
            Err(format!("{start}: {value}"))
        }
    });
}
