//! The arguments and the output of `domo-sandbox`.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use domo_token_protocol::duration;
use domo_token_protocol::scope::DOMO_SCOPE_NAMES;

use crate::fault::Fault;
use crate::record::Recorded;
use crate::server::Sandbox;

/// The id of the default client.
pub const DEMO_ID: &str = "5a4db0c5-0000-4000-8000-000000000001";

/// The secret of the default client.
pub const DEMO_SECRET: &str = "domo-sandbox-secret";

/// `EX_OSERR` of sysexits.
const OS_ERROR: u8 = 71;

/// Run an OAuth token endpoint like Domo's, to try domo-token without a Domo account
#[derive(Debug, Parser)]
#[command(name = "domo-sandbox", version, max_term_width = 100, after_help = AFTER_HELP)]
pub struct Flags {
    /// Listen on this port of 127.0.0.1; 0 selects a free one
    #[arg(long, default_value_t = 8630)]
    port: u16,
    /// Issue tokens that are valid for this long: 90s, 5m, 1h, or a number of seconds
    #[arg(long, value_name = "DURATION", default_value = "3599s", value_parser = lifetime)]
    lifetime: Duration,
    /// Add an API client with the scopes granted to it; can be repeated
    #[arg(long = "client", value_name = "ID:SECRET:SCOPE,SCOPE", value_parser = client)]
    clients: Vec<ClientFlag>,
    /// Serve HTTPS with a certificate of a new CA
    #[arg(long, requires = "ca_file")]
    https: bool,
    /// Write the CA's certificate to FILE, which must not exist
    #[arg(long, value_name = "FILE", requires = "https")]
    ca_file: Option<PathBuf>,
    /// Respond to every token request with this HTTP status
    #[arg(long, value_name = "STATUS", value_parser = clap::value_parser!(u16).range(200..600))]
    fail: Option<u16>,
}

const AFTER_HELP: &str = "\
Endpoints:
  /oauth/token  POST or GET with id and secret (HTTP Basic): a token
  /v1/datasets  GET with a token for the scope data
  /v1/users     GET with a token for the scope user

Without --client, there is one client with all of Domo's scopes. Standard output
has a config for domo-tokend, then a line for each token request.

Example, in three terminals:
  domo-sandbox --lifetime 60s       # save the config as sandbox.toml, mode 0600
  domo-tokend --config sandbox.toml --socket /tmp/sandbox/broker.sock
  domo-token --socket /tmp/sandbox/broker.sock data

Exit codes:
  0   Ended by SIGINT or SIGTERM
  2   Usage error
  71  The port or the CA file cannot be used";

#[derive(Clone, Debug)]
struct ClientFlag {
    id: String,
    secret: String,
    scopes: Vec<String>,
}

fn client(text: &str) -> Result<ClientFlag, String> {
    let mut parts = text.splitn(3, ':');
    let mut part = || parts.next().filter(|part| !part.is_empty());
    let parts = (part(), part(), part().map(scopes));
    match parts {
        (Some(id), Some(secret), Some(scopes)) if !scopes.is_empty() => Ok(ClientFlag {
            id: id.to_owned(),
            secret: secret.to_owned(),
            scopes,
        }),
        _ => Err("expected ID:SECRET:SCOPE,SCOPE".to_owned()),
    }
}

fn scopes(text: &str) -> Vec<String> {
    let scopes = text.split([',', ' ']).filter(|scope| !scope.is_empty());
    scopes.map(str::to_owned).collect()
}

fn lifetime(text: &str) -> Result<Duration, String> {
    duration::parse(text)
        .filter(|lifetime| !lifetime.is_zero())
        .ok_or_else(|| "expected 90s, 5m, 1h, or a number of seconds".to_owned())
}

/// Runs until SIGINT or SIGTERM.
#[must_use]
pub fn run(flags: &Flags) -> ExitCode {
    match serve(flags) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // If standard error is closed, the exit code remains.
            let _ = writeln!(io::stderr(), "domo-sandbox: {error}");
            ExitCode::from(OS_ERROR)
        }
    }
}

fn serve(flags: &Flags) -> Result<(), String> {
    let demo = ClientFlag {
        id: DEMO_ID.to_owned(),
        secret: DEMO_SECRET.to_owned(),
        scopes: DOMO_SCOPE_NAMES.map(str::to_owned).to_vec(),
    };
    let clients = if flags.clients.is_empty() {
        &[demo][..]
    } else {
        &flags.clients[..]
    };
    let mut builder = Sandbox::builder().port(flags.port).lifetime(flags.lifetime);
    builder = builder.https(flags.https).log(log);
    for client in clients {
        let scopes: Vec<&str> = client.scopes.iter().map(String::as_str).collect();
        builder = builder.client(&client.id, &client.secret, &scopes);
    }
    let sandbox = builder.start().map_err(|error| {
        let port = flags.port;
        format!("cannot listen on 127.0.0.1:{port}: {error}; choose another port with --port")
    })?;
    if let (Some(path), Some(pem)) = (&flags.ca_file, sandbox.ca_pem()) {
        let written = OpenOptions::new().write(true).create_new(true).open(path);
        let written = written.and_then(|mut file| file.write_all(pem.as_bytes()));
        written.map_err(|error| format!("cannot write the CA file {}: {error}", path.display()))?;
    }
    if let Some(status) = flags.fail {
        sandbox.always(Fault::status(status));
    }
    // Printed after the handlers are installed: a reader may send a signal immediately.
    let ready = || print(&introduction(&sandbox, clients, flags));
    wait_for_signal(ready).map_err(|error| format!("cannot install signal handlers: {error}"))
}

fn introduction(sandbox: &Sandbox, clients: &[ClientFlag], flags: &Flags) -> String {
    use std::fmt::Write as _;
    let mut text = format!(
        "# Token endpoint: {}\n# Config for domo-tokend, mode 0600:\n",
        sandbox.token_url()
    );
    for (number, client) in clients.iter().enumerate() {
        let name = if number == 0 {
            "sandbox".to_owned()
        } else {
            format!("sandbox{number}")
        };
        let trust = match &flags.ca_file {
            Some(path) => format!("ca_file = {:?}", path.display().to_string()),
            None => "allow_http_loopback = true".to_owned(),
        };
        let scope = client
            .scopes
            .iter()
            .find(|scope| *scope == "data")
            .or(client.scopes.first());
        // Writing to a string can't fail.
        let _ = writeln!(
            text,
            "[clients.{name}]\nclient_id = {:?}\nclient_secret = {:?}\ntokens = [{:?}]\n\
             token_url = {:?}\n{trust}",
            client.id,
            client.secret,
            scope.map_or("data", String::as_str),
            sandbox.token_url(),
        );
    }
    text
}

/// Prints one line for a token request, without its secret or token.
fn log(request: &Recorded) {
    print(&format!(
        "# {:8.3} s  {} client {:?} scope {:?}: {}\n",
        request.at.as_secs_f64(),
        request.method,
        request.client_id.as_deref().unwrap_or("none"),
        request.scope.as_deref().unwrap_or("all"),
        request.status.unwrap_or_default(),
    ));
}

fn print(text: &str) {
    // A closed standard output is not an error.
    let mut stdout = io::stdout().lock();
    let _ = stdout
        .write_all(text.as_bytes())
        .and_then(|()| stdout.flush());
}

/// Calls `ready` once the handlers are installed, and waits for a signal.
#[cfg(unix)]
fn wait_for_signal(ready: impl FnOnce()) -> io::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        ready();
        tokio::select! {
            _ = interrupt.recv() => Ok(()),
            _ = terminate.recv() => Ok(()),
        }
    })
}

#[cfg(not(unix))]
fn wait_for_signal(ready: impl FnOnce()) -> io::Result<()> {
    ready();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(tokio::signal::ctrl_c())
}
