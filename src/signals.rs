//! Signals as messages.

use std::io;

use nix::libc::{SI_KERNEL, siginfo_t};
use signal_hook::iterator::exfiltrator::WithRawSiginfo;
use signal_hook_tokio::SignalsInfo;
use tokio::sync::mpsc;

/// What the operator wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// SIGHUP from a process: look again.
    Reload,
    /// SIGTERM, SIGINT, or SIGHUP from the kernel because the terminal was closed: end.
    Stop,
}

/// Listens from now on; a signal that comes before the receiver is read isn't lost.
///
/// # Errors
///
/// If the system takes no handler.
///
/// # Panics
///
/// Outside a tokio runtime.
pub fn listen() -> io::Result<mpsc::Receiver<Signal>> {
    use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
    // Read before there is a handler.
    let survives_terminal = ignores_hangup();
    let mut signals =
        SignalsInfo::<WithRawSiginfo>::with_exfiltrator([SIGHUP, SIGINT, SIGTERM], WithRawSiginfo)?;
    let (sender, receiver) = mpsc::channel(8);
    tokio::spawn(async move {
        while let Some(info) = next(&mut signals).await {
            let is_terminals = info.si_code == SI_KERNEL;
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

/// Whether the process was started with SIGHUP ignored, as nohup(1) does: it is to outlive its
/// terminal. Where that can't be found out it isn't.
fn ignores_hangup() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status
        .lines()
        .find_map(|line| line.strip_prefix("SigIgn:"))
        .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    // The lowest bit is signal 1, SIGHUP (proc(5)).
    mask.is_some_and(|mask| mask & 1 == 1)
}

async fn next(signals: &mut SignalsInfo<WithRawSiginfo>) -> Option<siginfo_t> {
    use futures_core::Stream;
    std::future::poll_fn(|context| std::pin::Pin::new(&mut *signals).poll_next(context)).await
}
