//! A sandbox and a broker around one command.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use domo_token_client::{Broker, ScopeState, ScopeStatus, Status};
use nix::unistd::Pid;
use tempfile::TempDir;

use super::default_scope_sets::default_scope_sets;
use super::keep_broker::{BrokerKeeper, CONFIG, SOCKET, pid_of};
use super::line_queue::LineQueue;
use super::run_flags::RunFlags;
use super::scope_sets_requested::{AUDIT, AuditReader};
use super::signals::{Event, Events};
use super::{LOG, config, log, report};
use crate::server::Sandbox;

/// The exit code of a command that cannot be run, as in shells.
const CANNOT_RUN: u8 = 126;

/// The exit code of a command that is not found.
const NOT_FOUND: u8 = 127;

const DAEMON: &str = "domo-tokend";

/// The CA's certificate in the broker's directory.
const CA_FILE: &str = "ca.pem";

/// The broker's log in its directory, unless an option names another place.
const BROKER_LOG: &str = "broker.log";

/// The pause between two requests for the broker's status.
const POLL: Duration = Duration::from_millis(5);

/// How long the broker may take to answer its first request.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// How long the broker has to stop; the process that keeps it kills it earlier.
const STOP_TIMEOUT: Duration = Duration::from_secs(10);

/// Runs the command and returns its exit code.
pub(super) fn run(flags: &RunFlags) -> Result<u8, String> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| format!("cannot start: {error}"))?;
    // Before anything is started, so that a signal from now on ends it.
    let events = runtime.block_on(async { Events::listen() });
    let events = events.map_err(|error| format!("cannot install signal handlers: {error}"))?;
    let code = Session::start(flags, events)
        .and_then(|session| runtime.block_on(session.run(&flags.command)));
    // A request for the broker's status may still wait for its answer.
    runtime.shutdown_background();
    if let Some(log) = LOG.get() {
        log.flush();
    }
    code
}

/// What runs around the command.
struct Session {
    events: Events,
    sandbox: Sandbox,
    directory: TempDir,
    audit: AuditReader,
    broker_log: BrokerLog,
    /// `None` once it has ended.
    keeper: Option<BrokerKeeper>,
}

impl Session {
    /// Starts the sandbox and the broker.
    fn start(flags: &RunFlags, events: Events) -> Result<Self, String> {
        let tokend = find_daemon(flags.tokend.as_deref())?;
        let broker_log = BrokerLog::open(flags)?;
        let sandbox = flags.sandbox.builder().https(flags.https).log(log).start();
        let sandbox = sandbox.map_err(|error| format!("cannot start the sandbox: {error}"))?;
        let directory = create_directory(flags, &sandbox)?;
        let audit = AuditReader::start(directory.path())
            .map_err(|error| format!("cannot create the broker's audit: {error}"))?;
        let stderr = broker_log.stdio(directory.path());
        let keeper = stderr.and_then(|log| BrokerKeeper::start(&tokend, directory.path(), log));
        let keeper = keeper.map_err(|error| format!("cannot start the broker: {error}"))?;
        Ok(Self {
            events,
            sandbox,
            directory,
            audit,
            broker_log,
            keeper: Some(keeper),
        })
    }

    /// Runs the command when the broker is ready, and stops everything when the command has ended.
    async fn run(mut self, command: &[OsString]) -> Result<u8, String> {
        let result = match self.wait_until_ready().await {
            Ok(None) => self.run_command(command).await,
            Ok(Some(code)) => Ok(code),
            Err(error) => Err(error),
        };
        self.stop().await;
        if let Some(advice) = self.audit.finish().advice() {
            report(&advice);
        }
        result
    }

    /// Waits until the broker has a token, or a first error, for each scope set. Returns the exit code if a signal
    /// arrives first.
    async fn wait_until_ready(&mut self) -> Result<Option<u8>, String> {
        let socket = self.directory.path().join(SOCKET);
        let mut ready = std::pin::pin!(until_ready(socket));
        loop {
            let event = tokio::select! {
                ready = &mut ready => return ready.map(|()| None),
                event = self.events.next() => event,
            };
            match event {
                Event::Received(received) => return Ok(Some(received.code())),
                Event::Ended { pid, code } if self.is_keeper(pid) => {
                    self.keeper = None;
                    let log = self.broker_log.show(self.directory.path());
                    return Err(format!("the broker ended with {code} at its start{log}"));
                }
                Event::Ended { .. } => {}
            }
        }
    }

    /// Runs the command, forwards signals to it, and returns its exit code.
    async fn run_command(&mut self, words: &[OsString]) -> Result<u8, String> {
        let Some((program, arguments)) = words.split_first() else {
            return Err("no command".to_owned());
        };
        let mut command = Command::new(program);
        command.args(arguments);
        self.set_environment(&mut command);
        let child = match command.spawn() {
            Ok(child) => child,
            Err(error) => {
                report(&format!("cannot run {}: {error}", program.display()));
                let is_absent = error.kind() == io::ErrorKind::NotFound;
                return Ok(if is_absent { NOT_FOUND } else { CANNOT_RUN });
            }
        };
        let command = pid_of(&child);
        loop {
            match self.events.next().await {
                Event::Received(received) => received.forward_to(command),
                Event::Ended { pid, code } if pid == command => return Ok(code),
                Event::Ended { pid, code } if self.is_keeper(pid) => {
                    self.keeper = None;
                    let log = self.broker_log.show(self.directory.path());
                    report(&format!(
                        "the broker ended with {code}; the command continues{log}"
                    ));
                }
                Event::Ended { .. } => {}
            }
        }
    }

    fn set_environment(&self, command: &mut Command) {
        let directory = self.directory.path();
        command
            .env("DOMO_TOKEN_SOCKET", directory.join(SOCKET))
            .env("DOMO_SANDBOX_URL", self.sandbox.url(""))
            .env_remove("DOMO_TOKEN_CLIENT")
            .env_remove("DOMO_TOKEN_CONFIG")
            .env_remove("DOMO_SANDBOX_CA_FILE");
        if self.sandbox.ca_pem().is_some() {
            command.env("DOMO_SANDBOX_CA_FILE", directory.join(CA_FILE));
        }
    }

    /// Stops the broker and removes its files.
    async fn stop(&mut self) {
        if let Some(keeper) = self.keeper.take() {
            let pid = keeper.pid;
            // Ends its standard input.
            drop(keeper);
            let ended = self.events.until_ended(pid);
            if tokio::time::timeout(STOP_TIMEOUT, ended).await.is_err() {
                report("the broker does not stop");
            }
        }
        // It remains only if the broker ended by itself.
        match fs::remove_dir_all(self.directory.path()) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                let path = self.directory.path().display();
                report(&format!("cannot remove {path}: {error}"));
            }
            Ok(()) | Err(_) => {}
        }
    }

    fn is_keeper(&self, pid: Pid) -> bool {
        self.keeper.as_ref().is_some_and(|keeper| keeper.pid == pid)
    }
}

/// Waits until the broker has a token, or a first error, for each scope set.
async fn until_ready(socket: PathBuf) -> Result<(), String> {
    let broker = Broker::lazy_at(socket);
    let first = tokio::time::timeout(ANSWER_TIMEOUT, async {
        loop {
            if let Ok(status) = status(&broker).await {
                return status;
            }
            tokio::time::sleep(POLL).await;
        }
    });
    let mut status = first.await.map_err(|_| {
        let seconds = ANSWER_TIMEOUT.as_secs();
        format!("the broker did not answer within {seconds} s")
    })?;
    while !status.scopes.iter().all(is_answered) {
        tokio::time::sleep(POLL).await;
        status = self::status(&broker)
            .await
            .map_err(|error| format!("cannot get the broker's status: {error}"))?;
    }
    Ok(())
}

async fn status(broker: &Broker) -> Result<Status, String> {
    let broker = broker.clone();
    let status = tokio::task::spawn_blocking(move || broker.status());
    let status = status.await.map_err(|error| error.to_string())?;
    status.map_err(|error| error.to_string())
}

/// Returns whether a first request for a scope set has been answered, or none will be made for now.
fn is_answered(set: &ScopeStatus) -> bool {
    let is_pending = matches!(set.state, ScopeState::Idle | ScopeState::Fetching);
    !is_pending || set.failed_attempts > 0 || set.has_valid_token()
}

/// Where the logs of the broker and of the sandbox go.
enum BrokerLog {
    /// To a file in the broker's directory, which is shown if the broker fails.
    Kept,
    StandardError,
    File(File, PathBuf),
}

impl BrokerLog {
    fn open(flags: &RunFlags) -> Result<Self, String> {
        let start = |write: fn(&[u8]) -> io::Result<()>| LineQueue::start(write);
        let thread = |error| format!("cannot start a thread: {error}");
        if let Some(path) = &flags.log {
            let opened = OpenOptions::new().create(true).append(true).open(path);
            let cannot = |error| format!("cannot open {}: {error}", path.display());
            let file = opened.map_err(cannot)?;
            let mut lines = file.try_clone().map_err(cannot)?;
            let queue = LineQueue::start(move |line| lines.write_all(line)).map_err(thread)?;
            LOG.set(queue).ok();
            return Ok(Self::File(file, path.clone()));
        }
        if flags.verbose {
            let queue = start(|line| io::stderr().write_all(line)).map_err(thread)?;
            LOG.set(queue).ok();
            return Ok(Self::StandardError);
        }
        Ok(Self::Kept)
    }

    /// Returns the standard error of the broker.
    fn stdio(&self, directory: &Path) -> io::Result<Stdio> {
        Ok(match self {
            Self::Kept => create(&directory.join(BROKER_LOG))?.into(),
            Self::StandardError => Stdio::inherit(),
            Self::File(file, _) => file.try_clone()?.into(),
        })
    }

    /// Prints the broker's log, if nobody could read it so far. Returns where it is, for an error.
    fn show(&self, directory: &Path) -> String {
        match self {
            Self::Kept => {
                let text = fs::read(directory.join(BROKER_LOG)).unwrap_or_default();
                // If standard error is closed, the exit code remains.
                let _ = io::stderr().write_all(&text);
                if text.is_empty() {
                    return String::new();
                }
                "; its log is above".to_owned()
            }
            Self::StandardError => "; its log is above".to_owned(),
            Self::File(_, path) => format!("; its log is in {}", path.display()),
        }
    }
}

/// Creates a directory for the broker, with its config.
fn create_directory(flags: &RunFlags, sandbox: &Sandbox) -> Result<TempDir, String> {
    let cannot =
        |error| format!("cannot create the broker's directory: {error}; set TMPDIR to another one");
    let directory = tempfile::Builder::new()
        .prefix("domo-sandbox-")
        .permissions(Permissions::from_mode(0o700))
        .tempdir()
        .map_err(cannot)?;
    let write = |name: &str, text: &str| {
        let mut file = create(&directory.path().join(name))?;
        file.write_all(text.as_bytes())
    };
    let mut trust = config::HTTP.to_owned();
    if let Some(pem) = sandbox.ca_pem() {
        write(CA_FILE, &pem).map_err(cannot)?;
        trust = format!("ca_file = {CA_FILE:?}");
    }
    let clients = flags.sandbox.clients();
    let tables = config::client_tables(&clients, &sandbox.token_url(), &trust, |client| {
        if flags.tokens.is_empty() {
            return default_scope_sets(client);
        }
        let named = flags.tokens.iter();
        named.map(|set| set.as_str().to_owned()).collect()
    });
    let default = config::DEFAULT_CLIENT;
    let text =
        format!("[broker]\ndefault_client = {default:?}\n[audit]\nfile = {AUDIT:?}\n{tables}");
    write(CONFIG, &text).map_err(cannot)?;
    Ok(directory)
}

fn create(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true).mode(0o600);
    options.open(path)
}

/// Returns the daemon's program: as named, else beside this program, else in `$PATH`.
fn find_daemon(named: Option<&Path>) -> Result<PathBuf, String> {
    let is_program = |path: &PathBuf| {
        let metadata = fs::metadata(path);
        metadata.is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
    };
    if let Some(path) = named {
        let path = path.to_owned();
        return Some(path).filter(is_program).ok_or_else(|| {
            let path = named.unwrap_or(Path::new("")).display();
            format!("{path} is not a program; name the daemon with --tokend FILE")
        });
    }
    let own = std::env::current_exe().ok();
    let own = own.and_then(|own| Some(own.parent()?.to_owned()));
    let variable = std::env::var_os("PATH").unwrap_or_default();
    let directories = own.iter().cloned().chain(std::env::split_paths(&variable));
    let mut found = directories.map(|directory| directory.join(DAEMON));
    found.find(is_program).ok_or_else(|| {
        let beside = own.unwrap_or_default();
        let beside = beside.display();
        format!(
            "cannot find domo-tokend in {beside} or in $PATH; \
             install it there, or name it with --tokend FILE"
        )
    })
}
