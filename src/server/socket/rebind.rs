//! Notices that the socket is gone, and binds it again.

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

/// How long binding is tried again. A supervisor can do more after that.
const LOST_MAX: Duration = Duration::from_secs(10);

/// How often.
const RETRY: Duration = Duration::from_secs(1);

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

/// Decides by what the attempt came to, so long after the socket was found lost.
fn decide(attempt: &Result<(), BindError>, lost_for: Duration) -> Step {
    match attempt {
        Ok(()) => Step::Serve,
        Err(BindError::Path { .. }) if lost_for < LOST_MAX => Step::Wait,
        Err(BindError::Path { .. } | BindError::InUse(_)) => Step::End,
    }
}

impl Socket {
    /// Returns the paths whose change may mean that the socket is gone.
    #[must_use]
    pub fn watched(&self) -> Vec<PathBuf> {
        if self.is_inherited() {
            let sockets = self.inherited.iter();
            return sockets.filter_map(|socket| socket.path.clone()).collect();
        }
        vec![self.path.clone(), self.lock_path()]
    }

    /// Looks at its path after each of the `hints`, until `stop` is cancelled. A socket that is gone is
    /// bound again, open to `callers`; one that was inherited is reported.
    ///
    /// # Errors
    ///
    /// [`BindError::InUse`] if another daemon serves the path by now, [`BindError::Path`] if the
    /// socket cannot be bound for 10 s.
    pub async fn keep<C: Clock>(
        &mut self,
        callers: &Callers,
        broker: &Broker<C>,
        clock: &C,
        mut hints: mpsc::Receiver<()>,
        stop: CancellationToken,
    ) -> Result<(), BindError> {
        loop {
            // First of all, since the socket can be gone before anything watches it.
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

    /// Tries until callers can connect again.
    async fn restore<C: Clock>(&mut self, callers: &Callers, clock: &C) -> Result<(), BindError> {
        let lost_at = clock.now();
        let mut failed = false;
        loop {
            let attempt = self.bind_again(callers);
            let lost_for = clock.now().saturating_since(lost_at);
            match (decide(&attempt, lost_for), attempt) {
                (Step::End, Err(error)) => return Err(error),
                (Step::Wait, Err(error)) if !std::mem::replace(&mut failed, true) => {
                    error!("socket removed or replaced, and it cannot be bound again yet: {error}");
                }
                (Step::Wait, _) => {}
                (Step::Serve | Step::End, _) => return Ok(()),
            }
            clock.sleep_until(clock.now() + RETRY).await;
        }
    }

    fn lock_path(&self) -> PathBuf {
        with_suffix(&self.path, ".lock")
    }

    /// Whether callers find our socket at its path, and other daemons our lock beside it.
    fn is_in_place(&self) -> bool {
        self.ours.is_some() && self.ours == id_at(&self.path) && self.holds_lock()
    }

    fn holds_lock(&self) -> bool {
        let stat = self.lock.as_ref().and_then(|lock| lock.metadata().ok());
        let held = stat.map(|stat| (stat.dev(), stat.ino()));
        held.is_some() && held == id_at(&self.lock_path())
    }

    /// Takes the lock and binds the socket again, as far as either is gone, after the same checks as
    /// at the start.
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
                "lock file of the socket was removed or replaced; locked it again"
            );
            return Ok(());
        }
        let socket = self.bind(callers)?;
        let sent = self
            .added
            .as_ref()
            .map(|added| added.try_send(socket).is_ok());
        if sent != Some(true) {
            // Only while two sockets were lost within one round of the loop.
            self.ours = None;
            let error = std::io::ErrorKind::WouldBlock.into();
            return Err(system_error(&self.path, &error));
        }
        warn!(
            socket = path,
            "socket was removed or replaced; bound it again"
        );
        Ok(())
    }

    /// The service manager alone can bind its sockets again.
    fn report_lost<C: Clock>(&self, broker: &Broker<C>) {
        let lost = self.inherited.iter().filter(|socket| {
            let there = socket.path.as_deref().and_then(id_at);
            // At the start it may have been gone already.
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
            info!("socket is in its place again");
        }
        systemd::status(&broker.summary());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lost_socket_is_retried_for_ten_seconds_and_left_to_another_daemon_at_once() {
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
