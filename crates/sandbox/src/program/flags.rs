//! The arguments of `domo-sandbox`; `run` has its own file.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser};
use domo_token_protocol::duration;
use domo_token_protocol::scope::DOMO_SCOPE_NAMES;

#[cfg(unix)]
use super::run_flags::Command;
use super::{DEMO_ID, DEMO_SECRET};
use crate::server::{Builder, Sandbox};

/// Run an OAuth token endpoint like Domo's, to try domo-token without a Domo account
#[derive(Debug, Parser)]
#[command(
    name = "domo-sandbox",
    version,
    max_term_width = 100,
    after_help = AFTER_HELP,
    args_conflicts_with_subcommands = true,
    disable_help_subcommand = true
)]
pub struct Flags {
    /// Without a command, the sandbox runs until SIGINT or SIGTERM.
    #[cfg(unix)]
    #[command(subcommand)]
    pub(super) command: Option<Command>,
    /// Listen on this port of 127.0.0.1; 0 selects a free one
    #[arg(long, default_value_t = 8630)]
    pub(super) port: u16,
    #[command(flatten)]
    pub(super) sandbox: SandboxFlags,
    /// Serve HTTPS with a certificate of a new CA
    #[arg(long, requires = "ca_file")]
    pub(super) https: bool,
    /// Write the CA's certificate to FILE, which must not exist
    #[arg(long, value_name = "FILE", requires = "https")]
    pub(super) ca_file: Option<PathBuf>,
}

/// What the sandbox serves, and which faults it has.
#[derive(Debug, Args)]
pub(super) struct SandboxFlags {
    /// Issue tokens that are valid for this long: 90s, 5m, 1h, or a number of seconds
    #[arg(long, value_name = "DURATION", default_value = "3599s", value_parser = lifetime)]
    lifetime: Duration,
    /// Add an API client with the scopes granted to it; can be repeated
    #[arg(long = "client", value_name = "ID:SECRET:SCOPE,SCOPE", value_parser = client)]
    clients: Vec<ClientFlag>,
    /// Delay each response by this time: 200ms, 2s, 1m, or a number of seconds
    #[arg(long, value_name = "DURATION", value_parser = delay)]
    delay: Option<Duration>,
    /// Respond to token requests with these HTTP statuses, in order; the last one repeats, and 200 is a token
    #[arg(
        long,
        value_name = "STATUS,STATUS",
        value_delimiter = ',',
        value_parser = clap::value_parser!(u16).range(200..600)
    )]
    fail: Vec<u16>,
    /// Apply --fail, or else status 503, this long after the start
    #[arg(long, value_name = "DURATION", value_parser = delay)]
    fail_after: Option<Duration>,
    /// Reject each token this long after its issue, although it has not expired
    #[arg(long, value_name = "DURATION", value_parser = delay)]
    revoke_after: Option<Duration>,
    /// Read the body of a call without a response 100 to `Expect: 100-continue`
    #[arg(long)]
    no_continue: bool,
}

const AFTER_HELP: &str = "\
Endpoints:
  /oauth/token                POST or GET with id and secret (HTTP Basic): a token
  /v1/datasets, /v1/streams   With a token for the scope data
  /v1/users, /v1/groups       With a token for the scope user
  /v1/pages                   With a token for the scope dashboard

Without --client, there is one client with all of Domo's scopes. Standard output
has a config for domo-tokend, then a line for each token request.

On Unix, with a broker around one command:
  domo-sandbox run -- pytest

In three terminals:
  domo-sandbox --lifetime 60s       # save the config as sandbox.toml, mode 0600
  domo-tokend --config sandbox.toml --socket /tmp/sandbox/broker.sock
  domo-token --socket /tmp/sandbox/broker.sock data

Exit codes without run:
  0   Ended by SIGINT or SIGTERM
  2   Usage error
  71  The port or the CA file cannot be used";

/// An API client of the sandbox.
#[derive(Clone)]
pub(super) struct ClientFlag {
    pub(super) id: String,
    pub(super) secret: String,
    pub(super) scopes: Vec<String>,
}

impl fmt::Debug for ClientFlag {
    /// Omits the secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientFlag")
            .field("id", &self.id)
            .field("scopes", &self.scopes)
            .finish_non_exhaustive()
    }
}

impl SandboxFlags {
    /// Returns the clients: by default one with all of Domo's scopes.
    pub(super) fn clients(&self) -> Vec<ClientFlag> {
        if !self.clients.is_empty() {
            return self.clients.clone();
        }
        vec![ClientFlag {
            id: DEMO_ID.to_owned(),
            secret: DEMO_SECRET.to_owned(),
            scopes: DOMO_SCOPE_NAMES.map(str::to_owned).to_vec(),
        }]
    }

    /// Returns the configuration of the sandbox, without its port.
    pub(super) fn builder(&self) -> Builder {
        let mut builder = Sandbox::builder()
            .lifetime(self.lifetime)
            .delay(self.delay.unwrap_or_default())
            .no_continue(self.no_continue)
            .fail_with(self.fail.clone());
        if let Some(after) = self.fail_after {
            builder = builder.fail_after(after);
        }
        if let Some(after) = self.revoke_after {
            builder = builder.revoke_after(after);
        }
        for client in self.clients() {
            let scopes: Vec<&str> = client.scopes.iter().map(String::as_str).collect();
            builder = builder.client(&client.id, &client.secret, &scopes);
        }
        builder
    }
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
        .ok_or_else(|| "expected 90s, 5m, 1h, or a number of seconds, at least 1".to_owned())
}

fn delay(text: &str) -> Result<Duration, String> {
    let parsed = match text.strip_suffix("ms") {
        Some(number) => number.parse().ok().map(Duration::from_millis),
        None => duration::parse(text),
    };
    parsed.ok_or_else(|| "expected 200ms, 2s, 5m, or a number of seconds".to_owned())
}
