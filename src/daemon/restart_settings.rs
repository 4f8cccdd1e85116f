//! Settings that a reload does not apply.

use std::net::SocketAddr;
use std::path::PathBuf;

use tracing::warn;

use crate::config::{Config, Limits};
use domo_token_core::policy::Principal;

/// The settings that the daemon can't change while it runs.
pub(super) struct RestartSettings {
    socket: Option<PathBuf>,
    socket_mode: u32,
    socket_group: Option<Principal>,
    pipe_group: Option<String>,
    shared_directory: bool,
    limits: Limits,
    metrics_listen: Option<SocketAddr>,
    audit_file: Option<PathBuf>,
}

impl RestartSettings {
    pub(super) fn of(config: &Config) -> Self {
        Self {
            socket: config.socket.clone(),
            socket_mode: config.socket_mode,
            socket_group: config.socket_group.clone(),
            pipe_group: config.pipe_group.clone(),
            shared_directory: config.shared_directory,
            limits: config.limits,
            metrics_listen: config.metrics_listen,
            audit_file: config.audit_file.clone(),
        }
    }

    /// Logs each key whose value in `config` is not what the daemon runs with.
    pub(super) fn log_changes(&self, config: &Config) {
        let (old, new) = (self, Self::of(config));
        for (key, changed) in [
            ("broker.socket", old.socket != new.socket),
            ("broker.socket_mode", old.socket_mode != new.socket_mode),
            ("broker.socket_group", old.socket_group != new.socket_group),
            ("broker.pipe_group", old.pipe_group != new.pipe_group),
            (
                "broker.shared_directory",
                old.shared_directory != new.shared_directory,
            ),
            ("limits", old.limits != new.limits),
            ("metrics.listen", old.metrics_listen != new.metrics_listen),
            ("audit.file", old.audit_file != new.audit_file),
        ] {
            if changed {
                warn!("{key} is not what the daemon runs with; restart it for that");
            }
        }
    }
}
