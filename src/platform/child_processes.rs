//! The processes that secret commands run in: ended with the daemon, and reaped. As PID 1 of a
//! container the daemon also reaps the processes whose parent has ended.

use std::io;
use std::process::{Child, ChildStderr, ChildStdout, Command, ExitStatus};
use std::sync::{Mutex, MutexGuard, PoisonError};

static CHILDREN: Mutex<Children> = Mutex::new(Children {
    own: 0,
    running: Vec::new(),
    is_ending: false,
});

struct Children {
    /// The number of own children whose exit status has not been returned. While there is one, no other child is
    /// reaped, which could take its status.
    own: usize,
    /// The process ids of those that run; each leads a process group.
    running: Vec<u32>,
    /// Whether the daemon is ending, so that no command may start.
    is_ending: bool,
}

fn children() -> MutexGuard<'static, Children> {
    CHILDREN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Keeps the exit statuses of children: where SIGCHLD is ignored, which a program inherits from its
/// parent, the kernel drops them, and waiting for a child is an error (ECHILD). Commands start with the
/// default action: execve(2) resets handlers, but not what is ignored.
#[cfg(unix)]
pub fn keep_exit_statuses() {
    // Without a handler nothing changes.
    let _ = signal_hook::flag::register(signal_hook::consts::SIGCHLD, std::sync::Arc::default());
}

/// A child that leads its own process group.
#[derive(Debug)]
pub struct OwnChild {
    child: Child,
}

impl OwnChild {
    /// Starts the command as the leader of a process group.
    ///
    /// # Errors
    ///
    /// If the system cannot start it, or the daemon is ending.
    pub fn spawn(command: &mut Command) -> io::Result<Self> {
        #[cfg(unix)]
        std::os::unix::process::CommandExt::process_group(command, 0);
        children().own += 1;
        let spawned = command.spawn();
        let mut state = children();
        match spawned {
            Ok(mut child) if state.is_ending => {
                kill(&mut child);
                drop(state);
                // Reaps it.
                drop(Self { child });
                Err(io::Error::other("the daemon is ending"))
            }
            Ok(child) => {
                state.running.push(child.id());
                Ok(Self { child })
            }
            Err(error) => {
                state.own -= 1;
                state.reap_others();
                Err(error)
            }
        }
    }

    /// Takes the pipe of its standard output.
    pub fn stdout(&mut self) -> Option<ChildStdout> {
        self.child.stdout.take()
    }

    /// Takes the pipe of its standard error.
    pub fn stderr(&mut self) -> Option<ChildStderr> {
        self.child.stderr.take()
    }

    /// Returns its exit status if it has ended.
    ///
    /// # Errors
    ///
    /// What `waitpid(2)` returns.
    pub fn try_wait(&mut self) -> io::Result<Option<ExitStatus>> {
        // After a successful wait its process id may be that of another process.
        let mut state = children();
        let status = self.child.try_wait()?;
        if status.is_some() {
            state.remove(self.child.id());
        }
        Ok(status)
    }

    /// Kills it and its process group, unless it has ended.
    pub fn kill(&mut self) {
        let mut state = children();
        let id = self.child.id();
        if state.running.contains(&id) {
            kill(&mut self.child);
            state.remove(id);
        }
    }
}

impl Drop for OwnChild {
    /// Kills it if it is still running, and reaps it.
    fn drop(&mut self) {
        self.kill();
        // After SIGKILL this is short, unless the process hangs in the kernel.
        let _ = self.child.wait();
        let mut state = children();
        state.own -= 1;
        state.reap_others();
    }
}

impl Children {
    fn remove(&mut self, id: u32) {
        self.running.retain(|running| *running != id);
    }

    #[cfg(unix)]
    fn reap_others(&self) {
        use rustix::process::{WaitOptions, wait};
        if self.own > 0 || !is_init() {
            return;
        }
        while let Ok(Some(_)) = wait(WaitOptions::NOHANG) {}
    }

    #[cfg(not(unix))]
    #[expect(clippy::unused_self, reason = "the same signature everywhere")]
    fn reap_others(&self) {}
}

fn kill(child: &mut Child) {
    #[cfg(unix)]
    kill_group(child.id());
    let _ = child.kill();
}

#[cfg(unix)]
fn kill_group(id: u32) {
    use rustix::process::{Pid, Signal, kill_process_group};
    let group = i32::try_from(id).ok().and_then(Pid::from_raw);
    let _ = group.map(|group| kill_process_group(group, Signal::KILL));
}

/// Kills all running commands with their process groups; no other one starts after that.
#[cfg(unix)]
pub fn kill_all() {
    let mut state = children();
    state.is_ending = true;
    state.running.iter().copied().for_each(kill_group);
}

/// Returns whether this process is PID 1 of its PID namespace, which becomes the parent of orphans.
#[cfg(unix)]
#[must_use]
pub fn is_init() -> bool {
    std::process::id() == 1
}

/// Reaps the children that have ended, except own ones. While an own one runs, this is postponed
/// until it has ended.
#[cfg(unix)]
pub fn reap_orphans() {
    children().reap_others();
}
