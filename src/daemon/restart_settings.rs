//! Settings that a reload does not apply.

use tracing::warn;

use crate::config::{Config, StartSettings};

/// The settings that the daemon can't change while it runs.
pub(super) struct RestartSettings(StartSettings);

impl RestartSettings {
    pub(super) fn of(config: &Config) -> Self {
        Self(config.start_settings())
    }

    /// Logs each key whose value in `config` is not what the daemon runs with.
    pub(super) fn log_changes(&self, config: &Config) {
        for key in self.0.changed_keys(&config.start_settings()) {
            warn!("{key} is not what the daemon runs with; restart it for that");
        }
    }
}
