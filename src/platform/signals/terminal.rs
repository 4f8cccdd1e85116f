//! The terminal at standard input while it shows nothing of what is typed.

use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};

use nix::sys::signal::{SigSet, Signal};
use nix::unistd::getpgrp;
use rustix::termios::{
    LocalModes, OptionalActions, QueueSelector, Termios, tcflush, tcgetattr, tcgetpgrp, tcsetattr,
};

use super::end_on_signals;
use crate::platform::child_processes;

/// The attributes that the terminal had before this process changed them; `None` if it has not, or
/// has restored them.
static BEFORE: Mutex<Option<Termios>> = Mutex::new(None);

/// Restores the terminal when it is dropped.
#[derive(Debug)]
pub(crate) struct HiddenInput(());

impl HiddenInput {
    /// Stops the terminal from showing what is typed, and has signals that end the process restore it.
    /// Returns `None` if standard input is no terminal.
    pub(crate) fn begin() -> Option<Self> {
        let before = tcgetattr(io::stdin()).ok()?;
        let mut hidden = before.clone();
        hidden.local_modes.remove(LocalModes::ECHO);
        // It changes nothing, but stops the process until it is in the foreground: while it is stopped,
        // signals end it by their default action.
        tcsetattr(io::stdin(), OptionalActions::Now, &before).ok()?;
        if !child_processes::is_init() {
            end_on_signals().ok()?;
        }
        let mut changed = changed();
        // What was typed so far was shown, so it is discarded.
        tcsetattr(io::stdin(), OptionalActions::Flush, &hidden).ok()?;
        *changed = Some(before);
        Some(Self(()))
    }
}

impl Drop for HiddenInput {
    fn drop(&mut self) {
        restore(&mut changed());
    }
}

/// Restores the terminal before a signal ends the process, and discards the part of a secret that was
/// typed. Does nothing if this process has not changed the terminal.
pub(super) fn restore_at_end() {
    let mut before = changed();
    if before.is_some() && !is_in_background() {
        // The end comes in any case.
        let _ = tcflush(io::stdin(), QueueSelector::IFlush);
    }
    restore(&mut before);
}

/// Lets no call of this thread that changes the terminal stop the process, which is what SIGTTOU does
/// in the background.
pub(super) fn block_stops() {
    let signals: SigSet = Signal::SIGTTOU.into();
    // No more can go wrong than without it.
    let _ = signals.thread_block();
}

/// In the background the terminal belongs to another program, such as the shell, which sets it as it
/// needs it.
fn restore(before: &mut Option<Termios>) {
    let Some(before) = before.take().filter(|_| !is_in_background()) else {
        return;
    };
    // Output that nobody reads must not delay it. A failure shows at the terminal itself.
    let _ = tcsetattr(io::stdin(), OptionalActions::Now, &before);
}

/// In a PID namespace the group in the foreground may be one outside, which has no id here; then this
/// process belongs to it.
fn is_in_background() -> bool {
    let own = getpgrp().as_raw();
    tcgetpgrp(io::stdin()).is_ok_and(|group| group.as_raw_pid() != own)
}

fn changed() -> MutexGuard<'static, Option<Termios>> {
    BEFORE.lock().unwrap_or_else(PoisonError::into_inner)
}
