//! `[log]`, `[metrics]` and `[audit]`: their keys, defaults and rules.

use std::net::SocketAddr;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::Deserialize;
use toml::Spanned;

use super::ConfigError;
use super::validate::Validator;
use crate::platform::logging::LEVELS;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogSettings {
    pub level: Option<String>,
}

/// Metrics and health over HTTP.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MetricsSettings {
    /// The loopback address that serves them.
    pub listen: Option<SocketAddr>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AuditSettings {
    /// The file to which a line is appended for each token served or denied.
    pub file: Option<PathBuf>,
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Metrics")]
pub(super) struct RawMetrics {
    /// A loopback address and port for Prometheus and health checks, like "127.0.0.1:9347" [default: none].
    /// Every local user can read the names of clients and scopes there.
    #[schemars(with = "Option<String>")]
    pub(super) listen: Option<Spanned<String>>,
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Audit")]
pub(super) struct RawAudit {
    /// A file to which a JSON line is appended for each token served or denied [default: none].
    #[schemars(with = "Option<PathBuf>")]
    pub(super) file: Option<Spanned<PathBuf>>,
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Log")]
pub(super) struct RawLog {
    /// error, warn, info, debug or trace [default: info]; --log and `RUST_LOG` take precedence.
    #[schemars(with = "Option<String>", extend("enum" = LEVELS))]
    pub(super) level: Option<Spanned<String>>,
}

impl Validator<'_> {
    pub(super) fn metrics(&self, raw: RawMetrics) -> Result<MetricsSettings, ConfigError> {
        let Some(written) = raw.listen else {
            return Ok(MetricsSettings::default());
        };
        let parsed = written.get_ref().parse().ok();
        let loopback = parsed.filter(|address: &SocketAddr| address.ip().is_loopback());
        let problem = || {
            let problem = "must be a loopback address with a port, like \"127.0.0.1:9347\"";
            self.error(Some(written.span()), "metrics.listen", problem.to_owned())
        };
        let listen = Some(loopback.ok_or_else(problem)?);
        Ok(MetricsSettings { listen })
    }

    pub(super) fn audit(&self, raw: RawAudit) -> Result<AuditSettings, ConfigError> {
        let file = self.path_to_make(raw.file, "audit.file")?;
        Ok(AuditSettings {
            file: file.map(|file| file.path().to_owned()),
        })
    }

    pub(super) fn log(&self, raw: RawLog) -> Result<LogSettings, ConfigError> {
        let Some(written) = raw.level else {
            return Ok(LogSettings::default());
        };
        if LEVELS.contains(&written.get_ref().as_str()) {
            let level = Some(written.into_inner());
            return Ok(LogSettings { level });
        }
        let problem = format!("must be one of {}", LEVELS.join(", "));
        Err(self.error(Some(written.span()), "log.level", problem))
    }
}
