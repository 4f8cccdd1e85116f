//! A tour of the main functions without a Domo account. It runs the sandbox and a broker in this process,
//! requests a token over the socket, calls a protected resource with it, and waits for the renewal.
//!
//!     cargo run --example quickstart            # takes a few seconds
//!     cargo run --example quickstart -- --stay  # keeps the broker running

use std::error::Error;
use std::fs::Permissions;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use domo_sandbox::{Recorded, Sandbox};
use domo_token::config::Env;
use domo_token::daemon::{self, Environment, Options};
use domo_token::load::load_config;
use domo_token::platform::logging::Levels;
use domo_token::platform::logging::{self, Format};
use domo_token::platform::signals::{self, Signal};
use domo_token::platform::systemd::InheritedFds;
use domo_token_client::{Broker, Token};
use tokio::sync::mpsc;

const CLIENT_ID: &str = "441e307a-b2a1-4a99-8561-174e5b153fe1";
const CLIENT_SECRET: &str = "5f2a9c0e7b1d4836a5c9e0f1b2d3c4a5968778695a4b3c2d1e0f9a8b7c6d5e4f";

/// The lifetime of tokens, short enough to wait for a renewal.
const LIFETIME: Duration = Duration::from_secs(8);

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

fn main() -> Result<()> {
    let stay = std::env::args().any(|argument| argument == "--stay");
    let lifetime = if stay {
        Duration::from_secs(3599)
    } else {
        LIFETIME
    };
    // The tour prints its own messages; with `--stay`, the broker prints its log.
    let level = if stay { "info" } else { "error" };
    logging::start(
        logging::filter(Some(level), None, None)?,
        Format::Text,
        None,
    );

    let sandbox = Sandbox::builder()
        .client(CLIENT_ID, CLIENT_SECRET, &["data", "user"])
        .lifetime(lifetime)
        .start()?;
    let folder = tempfile::tempdir()?;
    let config = write_config(folder.path(), &sandbox.token_url())?;
    let socket = folder.path().join("broker.sock");
    print(&format!(
        "The sandbox, a stand-in for Domo, listens on {}",
        sandbox.url("")
    ));

    let (stop, signals) = mpsc::channel(1);
    let (ready, is_ready) = std::sync::mpsc::channel();
    let daemon = {
        let options = Options {
            config: Some(config),
            socket: Some(socket.clone()),
            ..Options::default()
        };
        thread::spawn(move || run_broker(&options, signals, &ready, stay))
    };
    // A broker that cannot start drops the sender.
    if is_ready.recv().is_err() {
        return daemon.join().map_err(|_| "the broker panicked")?;
    }

    if stay {
        let url = sandbox.url("/v1/datasets");
        stay_up(&socket, &url);
    } else {
        tour(&sandbox, &socket)?;
        stop.blocking_send(Signal::Stop)?;
    }
    daemon.join().map_err(|_| "the broker panicked")?
}

fn write_config(folder: &Path, token_url: &str) -> Result<PathBuf> {
    let config = folder.join("config.toml");
    let text = format!(
        "[clients.sandbox]\n\
         client_id = \"{CLIENT_ID}\"\n\
         client_secret = \"{CLIENT_SECRET}\"\n\
         tokens = [\"data\", \"data user\"]\n\
         token_url = \"{token_url}\"\n\
         allow_http_loopback = true\n"
    );
    std::fs::write(&config, text)?;
    // It contains a secret.
    std::fs::set_permissions(&config, Permissions::from_mode(0o600))?;
    Ok(config)
}

/// Runs the daemon as `domo-tokend` does, on its own thread.
fn run_broker(
    options: &Options,
    signals: mpsc::Receiver<Signal>,
    ready: &std::sync::mpsc::Sender<()>,
    stay: bool,
) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let env: Env<'static> = &|_| None;
    let config = load_config(options.config.as_deref(), env)?;
    runtime.block_on(async {
        let signals = if stay { signals::listen()? } else { signals };
        // The receiver is dropped only if the tour has ended.
        let notify = |_: &Path| ready.send(()).unwrap_or_default();
        let environment = Environment {
            env,
            levels: Levels::default(),
            signals,
            inherited: InheritedFds::default(),
        };
        Box::pin(daemon::run(config, options, environment, notify)).await?;
        Ok(())
    })
}

fn tour(sandbox: &Sandbox, socket: &Path) -> Result<()> {
    let broker = Broker::connect_to(socket)?;
    let token = broker.token("data")?;
    let expires_in = token.expires_in().as_secs_f64();
    print(&format!(
        "Received a token over the socket ({}); expires in {expires_in:.0} s",
        shown(&token)
    ));

    let status = call(&sandbox.url("/v1/datasets"), &token)?;
    print(&format!("GET /v1/datasets with this token: {status}"));

    print("Waiting for the broker to renew it before it expires");
    let renewed = wait_for_renewal(sandbox, &broker, &token)?;
    let left = token.expires_in().as_secs_f64();
    print(&format!(
        "Renewed ({}), {left:.0} s before the old token expires",
        shown(&renewed)
    ));
    let status = call(&sandbox.url("/v1/datasets"), &renewed)?;
    print(&format!("GET /v1/datasets with the new token: {status}"));

    print("Token requests that the sandbox received, one per scope set and lifetime:");
    for request in sandbox.requests() {
        let scope = request.scope.unwrap_or_default();
        let status = request.status.unwrap_or_default();
        let at = request.at.as_secs_f64();
        print(&format!(
            "  {at:5.2} s  {} /oauth/token  scope \"{scope}\"  {status}",
            request.method
        ));
    }
    Ok(())
}

/// Waits for the renewal and returns the new token.
fn wait_for_renewal(sandbox: &Sandbox, broker: &Broker, old: &Token) -> Result<Token> {
    let for_data = |request: &&Recorded| request.scope.as_deref() == Some("data");
    let mut seen = sandbox.requests();
    while seen.iter().filter(for_data).count() < 2 {
        seen = sandbox.wait_for_requests(seen.len() + 1, LIFETIME * 2)?;
    }
    // More than the old token's remaining time, so that the new one is returned.
    let token = broker.request("data").min_ttl(LIFETIME * 5 / 8).send()?;
    if token.generation() == old.generation() {
        return Err("the token was not renewed".into());
    }
    Ok(token)
}

fn stay_up(socket: &Path, url: &str) {
    print("The broker runs until Ctrl-C. Run in another terminal, in this directory:");
    let socket = socket.display();
    let command = format!("DOMO_TOKEN_SOCKET={socket} cargo run -q --bin domo-token --");
    print(&format!("  {command} data"));
    print(&format!(
        "  {command} --format curl data | curl -fsS -K - {url}"
    ));
    print(&format!("  {command} status"));
}

/// Returns the length and the end of a token, which distinguish it from others.
fn shown(token: &Token) -> String {
    let end: String = token.secret().chars().rev().take(6).collect();
    let end: String = end.chars().rev().collect();
    format!("{} characters, ends in {end}", token.secret().len())
}

fn call(url: &str, token: &Token) -> Result<u16> {
    // reqwest has no TLS provider of its own here. One that is already installed is kept.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let request = reqwest::Client::builder().no_proxy().build()?.get(url);
    let response = runtime.block_on(request.bearer_auth(token.secret()).send())?;
    Ok(response.status().as_u16())
}

fn print(line: &str) {
    // Standard output may be closed.
    let _ = writeln!(std::io::stdout(), "{line}");
}
