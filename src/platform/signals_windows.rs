//! Events of the console as messages. Windows has no signals, and no equivalent of SIGHUP.

use std::io;

use tokio::signal::windows::{ctrl_break, ctrl_c, ctrl_close, ctrl_shutdown};
use tokio::sync::mpsc;

/// What an event requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// Never sent on Windows, where only a change of files reloads.
    Reload,
    /// Ctrl-C, Ctrl-Break, or the end of the console or the machine.
    Stop,
}

/// Installs the handlers, and returns what receives the events.
///
/// # Errors
///
/// If no handler can be installed.
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
            let event = tokio::select! {
                event = c.recv() => event,
                event = pause.recv() => event,
                event = close.recv() => event,
                event = shutdown.recv() => event,
            };
            if event.is_none() || sender.send(Signal::Stop).await.is_err() {
                return;
            }
        }
    });
    Ok(receiver)
}
