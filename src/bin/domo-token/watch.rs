//! Each new token, to standard output or into a file.

use std::fs::{self, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

use domo_token_client::{Error, Token};

use crate::args::Watch;
use crate::{CONFIG, IO_ERROR, Problem, connect, print, problem};

/// How long a wait lasts when no token's death ends it.
const LONG: Duration = Duration::from_secs(86_400);

/// Runs until there is nothing to come any more.
pub(crate) fn run(wanted: &Watch) -> Result<u8, Problem> {
    let scopes = &wanted.get.scopes;
    let broker = connect(wanted.get.socket.as_ref(), wanted.get.client.as_deref());
    let tokens = broker.and_then(|broker| broker.watch(scopes));
    let tokens = tokens.map_err(|error| problem(&error, scopes))?;
    let (sender, news) = channel();
    thread::spawn(move || {
        for item in tokens {
            if sender.send(item).is_err() {
                return;
            }
        }
    });
    let mut held: Option<Token> = None;
    let mut last: Option<Error> = None;
    loop {
        let rest = held.as_ref().map_or(LONG, Token::expires_in);
        match news.recv_timeout(rest) {
            Ok(Ok(token)) => {
                put(wanted, &token)?;
                held = Some(token);
            }
            Ok(Err(error)) => {
                let line = format!("domo-token: {error}\n");
                // With standard error closed the file or its absence still tells.
                let _told = io::stderr().write_all(line.as_bytes());
                last = Some(error);
            }
            Err(RecvTimeoutError::Timeout) => {
                if held.take().is_some() {
                    remove(wanted)?;
                }
            }
            Err(RecvTimeoutError::Disconnected) => break,
        }
    }
    remove(wanted)?;
    // It was told when it came.
    Ok(last.map_or(CONFIG, |error| problem(&error, scopes).code))
}

fn put(wanted: &Watch, token: &Token) -> Result<(), Problem> {
    let text = print::token(token, wanted.get.format);
    match &wanted.to {
        None => print(text.as_bytes()),
        Some(path) => replace(path, text.as_bytes(), wanted.mode).map_err(|e| failed(path, &e)),
    }
}

fn remove(wanted: &Watch) -> Result<(), Problem> {
    let Some(path) = &wanted.to else {
        return Ok(());
    };
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed(path, &error)),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// In one piece: whoever opens the path finds the old token or the new one, whole.
fn replace(path: &Path, text: &[u8], mode: u32) -> io::Result<()> {
    let next = beside(path);
    // One that a killed watcher of our process id left.
    let _none = fs::remove_file(&next);
    let mut options = OpenOptions::new();
    let mut file = options
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&next)?;
    let written = file
        .write_all(text)
        .and_then(|()| file.set_permissions(Permissions::from_mode(mode)))
        .and_then(|()| file.sync_all())
        .and_then(|()| fs::rename(&next, path));
    if written.is_err() {
        let _left = fs::remove_file(&next);
    }
    written
}

fn beside(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{}", std::process::id()));
    PathBuf::from(name)
}

fn failed(path: &Path, error: &io::Error) -> Problem {
    Problem {
        code: IO_ERROR,
        words: format!("{}: {error}", path.display()),
    }
}
