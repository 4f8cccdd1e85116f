//! Signals, and children that ended, as events.

use std::collections::VecDeque;
use std::ffi::c_int;
use std::io;
use std::pin::Pin;

use futures_core::Stream;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{Pid, getpgid, getpgrp};
use signal_hook::consts::{SIGCHLD, SIGHUP, SIGINT, SIGQUIT, SIGTERM};
use signal_hook::iterator::exfiltrator::WithRawSiginfo;
use signal_hook_tokio::SignalsInfo;

/// The signals that are forwarded to the command.
const FORWARDED: [c_int; 4] = [SIGHUP, SIGINT, SIGQUIT, SIGTERM];

pub(super) enum Event {
    /// A signal to forward.
    Received(Received),
    /// A child ended, with this exit code as in shells.
    Ended { pid: Pid, code: u8 },
}

pub(super) struct Received {
    signal: c_int,
    /// Whether the terminal sent it, to all processes of its foreground group.
    is_from_terminal: bool,
}

/// The source of events.
pub(super) struct Events {
    signals: SignalsInfo<WithRawSiginfo>,
    ended: VecDeque<(Pid, u8)>,
}

impl Events {
    /// Installs the handlers. Ignored signals stay ignored, for the command too, as under nohup(1).
    pub(super) fn listen() -> io::Result<Self> {
        let forwarded = FORWARDED.into_iter().filter(|signal| !ignores(*signal));
        let signals = forwarded.chain([SIGCHLD]);
        Ok(Self {
            signals: SignalsInfo::with_exfiltrator(signals, WithRawSiginfo)?,
            ended: VecDeque::new(),
        })
    }

    /// Waits for the next event. A cancelled call loses none.
    pub(super) async fn next(&mut self) -> Event {
        loop {
            if let Some((pid, code)) = self.ended.pop_front() {
                return Event::Ended { pid, code };
            }
            let next = std::future::poll_fn(|context| {
                Pin::new(&mut self.signals).as_mut().poll_next(context)
            });
            let Some(info) = next.await else {
                // Only a closed handle ends the stream, and there is none.
                return std::future::pending().await;
            };
            if info.si_signo == SIGCHLD {
                self.reap();
                continue;
            }
            return Event::Received(Received {
                signal: info.si_signo,
                is_from_terminal: is_from_terminal(info.si_code),
            });
        }
    }

    /// Waits for the end of a child, and drops all other events.
    pub(super) async fn until_ended(&mut self, child: Pid) {
        while !matches!(self.next().await, Event::Ended { pid, .. } if pid == child) {}
    }

    /// Reaps all children that ended: as PID 1, these are also processes whose parent has ended.
    fn reap(&mut self) {
        loop {
            match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::Exited(pid, code)) => {
                    let code = u8::try_from(code & 0xff).unwrap_or_default();
                    self.ended.push_back((pid, code));
                }
                Ok(WaitStatus::Signaled(pid, signal, _)) => {
                    self.ended.push_back((pid, code_of(signal as c_int)));
                }
                Ok(WaitStatus::StillAlive) | Err(_) => return,
                Ok(_) => {}
            }
        }
    }
}

impl Received {
    /// Returns the exit code of a program that the signal ends.
    pub(super) fn code(&self) -> u8 {
        code_of(self.signal)
    }

    /// Sends the signal to the command, unless the terminal has.
    pub(super) fn forward_to(&self, command: Pid) {
        if self.is_from_terminal && getpgid(Some(command)) == Ok(getpgrp()) {
            return;
        }
        // Fails only if the command has changed its user; it is not reaped, so the id is its own.
        let _ = Signal::try_from(self.signal).and_then(|signal| kill(command, signal));
    }
}

fn code_of(signal: c_int) -> u8 {
    u8::try_from(128 + signal).unwrap_or(u8::MAX)
}

/// Returns whether a signal with this code was sent by the terminal.
#[cfg(target_os = "linux")]
fn is_from_terminal(code: c_int) -> bool {
    code == nix::libc::SI_KERNEL
}

/// Returns whether the terminal may have sent a signal: this system does not report it.
#[cfg(not(target_os = "linux"))]
fn is_from_terminal(_: c_int) -> bool {
    let foreground = rustix::termios::tcgetpgrp(io::stdin());
    foreground.is_ok_and(|group| group == rustix::process::getpgrp())
}

/// Returns whether the process was started with that signal ignored; false if that can't be determined.
fn ignores(signal: c_int) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status
        .lines()
        .find_map(|line| line.strip_prefix("SigIgn:"))
        .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    // The lowest bit is signal 1 (proc(5)).
    mask.is_some_and(|mask| mask >> (signal - 1) & 1 == 1)
}
