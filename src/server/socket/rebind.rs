//! Detects that the socket was removed or replaced, and binds it again.

use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use super::checks::{prepare_directory, system_error, with_suffix};
use super::{Callers, Socket, id_at};
use crate::broker::Broker;
use crate::platform::clock::Clock;
use crate::platform::systemd;
use crate::server::BindError;

/// How long binding is retried, before a supervisor has to act.
const LOST_MAX: Duration = Duration::from_secs(10);

/// The interval of these attempts.
const RETRY_INTERVAL: Duration = Duration::from_secs(1);

/// What to do after an attempt to bind a lost socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// Callers can connect again.
    Serve,
    /// Try again.
    Wait,
    /// Leave it to a supervisor, or to the daemon that has the path now.
    End,
}

/// Decides by the result of an attempt, and by the time since the loss was detected.
fn decide(attempt: &Result<(), BindError>, lost_for: Duration) -> Step {
    match attempt {
        Ok(()) => Step::Serve,
        Err(BindError::Path { .. }) if lost_for < LOST_MAX => Step::Wait,
        Err(BindError::Path { .. } | BindError::InUse(_)) => Step::End,
    }
}

impl Socket {
    /// Returns the paths whose change may mean that the socket was lost.
    #[must_use]
    pub fn watched(&self) -> Vec<PathBuf> {
        if self.is_inherited() {
            let sockets = self.inherited.iter();
            return sockets.filter_map(|socket| socket.path.clone()).collect();
        }
        vec![self.path.clone(), self.lock_path()]
    }

    /// Checks its path after each of the `hints`, until `stop` is cancelled. Binds a lost socket again for
    /// `callers`; reports the loss of an inherited one.
    ///
    /// # Errors
    ///
    /// [`BindError::InUse`] if another daemon serves the path meanwhile, [`BindError::Path`] if the
    /// socket cannot be bound for 10 s.
    pub async fn rebind_when_lost<C: Clock>(
        &mut self,
        callers: &Callers,
        broker: &Broker<C>,
        clock: &C,
        mut hints: mpsc::Receiver<()>,
        stop: CancellationToken,
    ) -> Result<(), BindError> {
        loop {
            // Before the first hint, because the socket can be lost before it is watched.
            if self.is_inherited() {
                self.report_lost(broker);
            } else if !self.is_in_place() {
                tokio::select! {
                    restored = self.restore(callers, clock) => restored?,
                    () = stop.cancelled() => return Ok(()),
                }
            }
            tokio::select! {
                Some(()) = hints.recv() => {}
                () = stop.cancelled() => return Ok(()),
            }
        }
    }

    /// Retries until callers can connect again.
    async fn restore<C: Clock>(&mut self, callers: &Callers, clock: &C) -> Result<(), BindError> {
        let lost_at = clock.now();
        let mut failed = false;
        loop {
            let attempt = self.bind_again(callers);
            let lost_for = clock.now().saturating_since(lost_at);
            match (decide(&attempt, lost_for), attempt) {
                (Step::End, Err(error)) => return Err(error),
                (Step::Wait, Err(error)) if !std::mem::replace(&mut failed, true) => {
                    error!("socket removed or replaced, and cannot be bound again yet: {error}");
                }
                (Step::Wait, _) => {}
                (Step::Serve | Step::End, _) => return Ok(()),
            }
            clock.sleep_until(clock.now() + RETRY_INTERVAL).await;
        }
    }

    fn lock_path(&self) -> PathBuf {
        with_suffix(&self.path, ".lock")
    }

    /// Returns whether our socket and our lock file are at their paths.
    fn is_in_place(&self) -> bool {
        self.ours.is_some() && self.ours == id_at(&self.path) && self.holds_lock()
    }

    fn holds_lock(&self) -> bool {
        let stat = self.lock.as_ref().and_then(|lock| lock.metadata().ok());
        let held = stat.map(|stat| (stat.dev(), stat.ino()));
        held.is_some() && held == id_at(&self.lock_path())
    }

    /// Locks and binds again what was lost, after the same checks as at the start.
    fn bind_again(&mut self, callers: &Callers) -> Result<(), BindError> {
        if self.holds_lock() {
            prepare_directory(&self.path, self.shared)?;
        } else {
            self.lock = Self::lock(&self.path, self.shared)?.lock.take();
        }
        let path = self.path.display().to_string();
        if self.ours.is_some() && self.ours == id_at(&self.path) {
            warn!(
                socket = path,
                "lock file removed or replaced; locked a new one"
            );
            return Ok(());
        }
        let socket = self.bind(callers)?;
        let sent = self
            .added
            .as_ref()
            .map(|added| added.try_send(socket).is_ok());
        if sent != Some(true) {
            // Only if two sockets were lost before one was taken.
            self.ours = None;
            let error = std::io::ErrorKind::WouldBlock.into();
            return Err(system_error(&self.path, &error));
        }
        warn!(socket = path, "socket removed or replaced; bound it again");
        Ok(())
    }

    /// Reports lost sockets that only the service manager can bind again.
    fn report_lost<C: Clock>(&self, broker: &Broker<C>) {
        let lost = self.inherited.iter().filter(|socket| {
            let there = socket.path.as_deref().and_then(id_at);
            // At the start it may already have been removed.
            socket.path.is_some() && (there.is_none() || there != socket.id)
        });
        let lost: Vec<String> = lost
            .filter_map(|socket| Some(socket.path.as_ref()?.display().to_string()))
            .collect();
        let message = (!lost.is_empty()).then(|| {
            let command = systemd::restart_socket_command();
            let paths = lost.join(", ");
            format!("socket removed or replaced, callers cannot connect: {paths}; run: {command}")
        });
        if !broker.set_socket_error(message.clone()) {
            return;
        }
        if let Some(message) = message {
            error!("{message}");
        } else {
            info!("socket is back in place");
        }
        systemd::status(&broker.summary());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lost_socket_is_retried_for_ten_seconds_and_left_to_another_daemon_immediately() {
        let path = || BindError::Path {
            path: PathBuf::from("/run/x"),
            problem: "no such directory".to_owned(),
            is_exhausted: false,
        };
        let taken = || BindError::InUse(PathBuf::from("/run/x"));
        let seconds = Duration::from_secs;
        assert_eq!(decide(&Ok(()), seconds(0)), Step::Serve);
        assert_eq!(decide(&Ok(()), seconds(60)), Step::Serve);
        assert_eq!(decide(&Err(path()), seconds(0)), Step::Wait);
        assert_eq!(decide(&Err(path()), seconds(9)), Step::Wait);
        assert_eq!(decide(&Err(path()), seconds(10)), Step::End);
        assert_eq!(decide(&Err(taken()), seconds(0)), Step::End);
    }
}
