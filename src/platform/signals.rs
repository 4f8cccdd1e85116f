//! Signals of the daemon as messages (SIGHUP: reload; SIGTERM and SIGINT: stop), and signals of commands.

pub(crate) mod terminal;

use std::ffi::c_int;
use std::fs::File;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::sync::Arc;
use std::thread;

use nix::libc::SI_KERNEL;
use rustix::fs::OFlags;
use rustix::io::Errno;
use signal_hook::consts::{SIGCHLD, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGXFSZ};
use signal_hook::iterator::exfiltrator::{Exfiltrator, WithRawSiginfo};
use signal_hook::low_level;
use signal_hook_tokio::SignalsInfo;
use tokio::sync::mpsc;

use crate::platform::child_processes;

/// What a signal requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// SIGHUP from a process.
    Reload,
    /// SIGTERM, SIGINT, or SIGHUP because the terminal was closed.
    Stop,
}

/// Installs the handlers, and returns what receives the signals. One that comes before the receiver is read
/// isn't lost.
///
/// # Errors
///
/// If no handler can be installed.
///
/// # Panics
///
/// Outside a tokio runtime.
pub fn listen() -> io::Result<mpsc::Receiver<Signal>> {
    // Must be read before a handler is installed.
    let survives_terminal = ignores(SIGHUP);
    let had_terminal = open_terminal().is_ok();
    let mut signals =
        SignalsInfo::<WithRawSiginfo>::with_exfiltrator([SIGHUP, SIGINT, SIGTERM], WithRawSiginfo)?;
    let (sender, receiver) = mpsc::channel(8);
    tokio::spawn(async move {
        while let Some(info) = next(&mut signals).await {
            // A shell sends SIGHUP to its jobs when it receives it, and then the kernel's is lost.
            let is_terminals = info.si_code == SI_KERNEL
                || !survives_terminal && had_terminal && is_terminal_closed();
            let signal = match info.si_signo {
                SIGHUP if is_terminals && survives_terminal => continue,
                SIGHUP if !is_terminals => Signal::Reload,
                _ => Signal::Stop,
            };
            if sender.send(signal).await.is_err() {
                return;
            }
        }
    });
    Ok(receiver)
}

/// Opens the terminal that controls the process, if there is one.
fn open_terminal() -> io::Result<File> {
    let flags = i32::try_from((OFlags::NOCTTY | OFlags::NONBLOCK).bits()).unwrap_or(0);
    File::options()
        .read(true)
        .custom_flags(flags)
        .open("/dev/tty")
}

/// Returns whether the terminal was closed; false if that can't be determined.
fn is_terminal_closed() -> bool {
    let error = open_terminal()
        .err()
        .and_then(|error| Errno::from_io_error(&error));
    matches!(error, Some(Errno::NXIO | Errno::IO))
}

/// Returns whether the process was started with that signal ignored, as by nohup(1), which ignores SIGHUP so that the
/// process survives its terminal; false if that can't be determined.
fn ignores(signal: c_int) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status
        .lines()
        .find_map(|line| line.strip_prefix("SigIgn:"))
        .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    // The lowest bit is signal 1, SIGHUP (proc(5)).
    mask.is_some_and(|mask| mask >> (signal - 1) & 1 == 1)
}

async fn next<E: Exfiltrator>(signals: &mut SignalsInfo<E>) -> Option<E::Output> {
    use futures_core::Stream;
    std::future::poll_fn(|context| std::pin::Pin::new(&mut *signals).poll_next(context)).await
}

/// Makes writes past the limit on file sizes (`ulimit -f`) fail with EFBIG instead of ending the
/// process by SIGXFSZ. A program that is started later has the default action: execve(2) resets
/// handlers, but not what is ignored.
pub fn fail_writes_past_size_limit() {
    // Without a handler nothing changes.
    let _ = signal_hook::flag::register(SIGXFSZ, Arc::default());
}

/// Reaps orphans from now on if the process is PID 1.
///
/// # Errors
///
/// If no handler can be installed.
///
/// # Panics
///
/// Outside a tokio runtime.
pub fn reap_orphans() -> io::Result<()> {
    if !child_processes::is_init() {
        return Ok(());
    }
    let mut child_signals = signal_hook_tokio::Signals::new([SIGCHLD])?;
    // Some may have ended before the handler was installed.
    child_processes::reap_orphans();
    tokio::spawn(async move {
        while next(&mut child_signals).await.is_some() {
            child_processes::reap_orphans();
        }
    });
    Ok(())
}

/// Ends a command such as `check` on signals as by default, but kills its secret commands first, and
/// restores the terminal if it was changed. As PID 1, to which the kernel applies no default action,
/// it exits with 128 and the signal's number.
///
/// # Errors
///
/// If no handler can be installed or no thread started.
pub fn end_on_signals() -> io::Result<()> {
    let signals = [SIGHUP, SIGINT, SIGQUIT, SIGTERM];
    let honoured = signals.into_iter().filter(|signal| !ignores(*signal));
    let mut signals = signal_hook::iterator::Signals::new(honoured)?;
    let end = move || {
        terminal::block_stops();
        let Some(signal) = signals.forever().next() else {
            return;
        };
        child_processes::kill_all();
        terminal::restore_at_end();
        if !child_processes::is_init() {
            let _ = low_level::emulate_default_handler(signal);
        }
        low_level::exit(128 + signal);
    };
    thread::Builder::new()
        .name("signals".to_owned())
        .spawn(end)?;
    Ok(())
}
