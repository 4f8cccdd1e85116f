//! Signals as messages.

use std::io;

use tokio::sync::mpsc;

/// What the operator wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// SIGHUP: look again.
    Reload,
    /// SIGTERM or SIGINT: end.
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
    let mut signals = signal_hook_tokio::Signals::new([SIGHUP, SIGINT, SIGTERM])?;
    let (sender, receiver) = mpsc::channel(8);
    tokio::spawn(async move {
        while let Some(number) = next(&mut signals).await {
            let signal = if number == SIGHUP {
                Signal::Reload
            } else {
                Signal::Stop
            };
            if sender.send(signal).await.is_err() {
                return;
            }
        }
    });
    Ok(receiver)
}

async fn next(signals: &mut signal_hook_tokio::Signals) -> Option<i32> {
    use futures_core::Stream;
    std::future::poll_fn(|context| std::pin::Pin::new(&mut *signals).poll_next(context)).await
}
