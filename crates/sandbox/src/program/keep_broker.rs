//! The process that starts the broker, and that stops it and removes its files when the main process ends, by SIGKILL
//! too: then its standard input, a pipe from the main process, ends.

use std::fs;
use std::io;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rustix::io::Errno;
use rustix::process::{WaitId, WaitIdOptions, waitid};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use super::run_flags::KeepBrokerFlags;

/// The broker's config in its directory.
pub(super) const CONFIG: &str = "config.toml";

/// The broker's socket in its directory.
pub(super) const SOCKET: &str = "broker.sock";

/// How long the broker has to stop after SIGTERM: it promises 2 s.
const STOP_TIMEOUT: Duration = Duration::from_secs(5);

/// The running process. When it is dropped, it stops.
pub(super) struct BrokerKeeper {
    pub(super) pid: Pid,
    _input: Option<ChildStdin>,
}

impl BrokerKeeper {
    /// Starts the process. It leads a process group, so that the terminal's signals do not reach the broker.
    pub(super) fn start(tokend: &Path, directory: &Path, log: Stdio) -> io::Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("keep-broker").args([directory, tokend]);
        // Nothing of the caller configures the broker.
        command.env_clear().stdin(Stdio::piped());
        command.stdout(Stdio::null()).stderr(log);
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        let mut child = command.spawn()?;
        Ok(Self {
            pid: pid_of(&child),
            _input: child.stdin.take(),
        })
    }
}

pub(super) fn pid_of(child: &Child) -> Pid {
    Pid::from_raw(child.id().cast_signed())
}

#[derive(Clone, Copy)]
enum Ended {
    Broker,
    Input,
}

/// Keeps the broker until standard input ends. Returns the broker's exit code if it ends before; the files remain then.
pub(super) fn keep(flags: &KeepBrokerFlags) -> Result<u8, String> {
    // The broker must stop before this process ends.
    for signal in [SIGHUP, SIGINT, SIGTERM] {
        signal_hook::flag::register(signal, Arc::default())
            .map_err(|error| format!("cannot install signal handlers: {error}"))?;
    }
    let directory = &flags.directory;
    let mut broker = Command::new(&flags.tokend)
        .arg("--config")
        .arg(directory.join(CONFIG))
        .arg("--socket")
        .arg(directory.join(SOCKET))
        .stdin(Stdio::null())
        .spawn()
        .map_err(|error| format!("cannot run {}: {error}", flags.tokend.display()))?;
    let ends = match watch(&broker) {
        Ok(ends) => ends,
        Err(error) => {
            end(&mut broker);
            return Err(format!("cannot start a thread: {error}"));
        }
    };
    if matches!(ends.recv(), Ok(Ended::Broker)) {
        return Ok(end(&mut broker));
    }
    // Fails only if the broker has ended; it is not reaped, so the id is its own.
    let _ = kill(pid_of(&broker), Signal::SIGTERM);
    let _ = ends.recv_timeout(STOP_TIMEOUT);
    end(&mut broker);
    fs::remove_dir_all(directory).map_err(|error| {
        let path = directory.display();
        format!("cannot remove {path}: {error}")
    })?;
    Ok(0)
}

/// Receives what ends: the broker, which is not reaped, or standard input.
fn watch(broker: &Child) -> io::Result<Receiver<Ended>> {
    let (sender, ends) = channel();
    notify(&sender, Ended::Input, || {
        // An error ends it, too.
        let _ = io::copy(&mut io::stdin(), &mut io::sink());
    })?;
    let pid = rustix::process::Pid::from_child(broker);
    notify(&sender, Ended::Broker, move || {
        let is_ended = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
        while waitid(WaitId::Pid(pid), is_ended).err() == Some(Errno::INTR) {}
    })?;
    Ok(ends)
}

/// Sends `ended` when `wait` has returned.
fn notify(
    sender: &Sender<Ended>,
    ended: Ended,
    wait: impl FnOnce() + Send + 'static,
) -> io::Result<()> {
    let sender = sender.clone();
    let run = move || {
        wait();
        // Nobody waits any more if the other has ended.
        let _ = sender.send(ended);
    };
    thread::Builder::new().spawn(run).map(drop)
}

/// Kills the broker if it still runs, and returns its exit code as in shells.
fn end(broker: &mut Child) -> u8 {
    let _ = broker.kill();
    let Ok(status) = broker.wait() else {
        return u8::MAX;
    };
    let signal = std::os::unix::process::ExitStatusExt::signal(&status);
    let code = status.code().or(signal.map(|signal| 128 + signal));
    code.and_then(|code| code.try_into().ok())
        .unwrap_or(u8::MAX)
}
