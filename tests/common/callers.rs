//! Callers of other users, and requests as bytes.

use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Output};

use domo_sandbox::Sandbox;
use domo_token_protocol::frame;
use domo_token_protocol::greeting::{self, HELLO};
use domo_token_protocol::messages::{Request, TokenRequest, TokenSubject, VERSION};
use tempfile::TempDir;

use super::print_skip;
use super::{Daemon, chmod, config_text, folder};

/// A user and a group that every Debian has and that run nothing here.
pub(crate) const DAEMON: u32 = 1;
pub(crate) const GAMES_GROUP: u32 = 60;

/// Uids that are in no user database.
pub(crate) const USER_A: u32 = 4242;
pub(crate) const USER_B: u32 = 4243;

/// Returns whether this process is root, which alone can run callers as other users. Otherwise prints that the test
/// is skipped.
pub(crate) fn is_root() -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        print_skip("only root can be several users");
    }
    root
}

/// A folder with the config of a daemon whose socket every user can reach. The lines are added for the broker and
/// its client.
pub(crate) fn open_folder(sandbox: &Sandbox, tokens: &str, broker: &str, lines: &str) -> TempDir {
    let config = format!(
        "[broker]\nsocket_mode = \"0666\"\n{broker}\n{}{lines}\n",
        config_text(sandbox, tokens)
    );
    let folder = folder(&config);
    chmod(folder.path(), 0o755);
    folder
}

pub(crate) fn open_daemon(sandbox: &Sandbox, tokens: &str, broker: &str, lines: &str) -> Daemon {
    Daemon::start_in(open_folder(sandbox, tokens, broker, lines))
}

/// Starts a daemon as that user, to whom it gives the daemon's files.
pub(crate) fn daemon_as(uid: u32, folder: TempDir) -> Daemon {
    give_to(uid, folder.path());
    let mut command = Daemon::command(folder.path());
    command.uid(uid).gid(uid).current_dir("/");
    Daemon::start_as(command, folder)
}

/// Makes that user the owner of a daemon's files.
pub(crate) fn give_to(uid: u32, folder: &Path) {
    for name in ["", "config.toml", "acme.secret"] {
        chown(folder.join(name), Some(uid), Some(uid)).unwrap();
    }
}

pub(crate) fn ask_as(daemon: &Daemon, uid: u32, gid: u32, arguments: &[&str]) -> Output {
    let mut command = daemon.helper(arguments);
    command.uid(uid).gid(gid).current_dir("/").output().unwrap()
}

/// Python as that user, for callers that break the protocol.
pub(crate) fn python_as(uid: u32, script: &str) -> Command {
    let mut command = Command::new("python3");
    command.uid(uid).gid(uid).current_dir("/");
    command.args(["-c", script]);
    command
}

/// A hello and a request, as sent on a new connection.
pub(crate) fn with_hello(request: &Request) -> Vec<u8> {
    let mut bytes = greeting::hello(VERSION).to_vec();
    bytes.extend_from_slice(&frame::encode(request).unwrap());
    bytes
}

fn subject(scope: &str) -> TokenSubject {
    TokenSubject {
        client: None,
        scope: scope.to_owned(),
    }
}

/// A hello and a request for the token of `data`.
pub(crate) fn token_request() -> Vec<u8> {
    with_hello(&Request::Token(TokenRequest {
        subject: subject("data"),
        min_ttl_ms: None,
        time_left_ms: 5_000,
        renew: None,
    }))
}

/// A hello and a request to watch `data`.
pub(crate) fn watch_request() -> Vec<u8> {
    with_hello(&Request::Watch(subject("data")))
}

/// A hello and half a request.
pub(crate) fn half_request() -> Vec<u8> {
    let mut bytes = watch_request();
    bytes.truncate(HELLO + 5);
    bytes
}
