//! What the console says as messages. Windows has no signals, and nothing that stands for SIGHUP.

use std::io;

use tokio::signal::windows::{ctrl_break, ctrl_c, ctrl_close, ctrl_shutdown};
use tokio::sync::mpsc;

/// What the operator wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// Look again; nobody says so on Windows, where files are watched alone.
    Reload,
    /// Ctrl-C, Ctrl-Break, the console's or the machine's end: end.
    Stop,
}

/// Listens from now on.
///
/// # Errors
///
/// If the system takes no handler.
///
/// # Panics
///
/// Outside a tokio runtime.
pub fn listen() -> io::Result<mpsc::Receiver<Signal>> {
    let (mut c, mut pause) = (ctrl_c()?, ctrl_break()?);
    let (mut close, mut shutdown) = (ctrl_close()?, ctrl_shutdown()?);
    let (sender, receiver) = mpsc::channel(8);
    tokio::spawn(async move {
        loop {
            let told = tokio::select! {
                told = c.recv() => told,
                told = pause.recv() => told,
                told = close.recv() => told,
                told = shutdown.recv() => told,
            };
            if told.is_none() || sender.send(Signal::Stop).await.is_err() {
                return;
            }
        }
    });
    Ok(receiver)
}
