//! The daemon's services besides the socket: metrics and health, the audit, the file-descriptor store,
//! and the status line of systemd.

use std::path::PathBuf;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::DaemonError;
use crate::audit::{Audit, Writer};
use crate::broker::Broker;
use crate::config::Config;
use crate::platform::clock::Clock;
use crate::platform::systemd;
use crate::{fdstore, health};

/// The least time between two status lines for systemd after attempts, which can come in bursts.
const STATUS_MIN_INTERVAL: Duration = Duration::from_secs(1);

/// The services that the config enables, with their port and file open.
pub(super) struct Services {
    metrics: Option<TcpListener>,
    audit: Option<(Audit, Writer)>,
}

impl Services {
    /// Opens the port for metrics and the audit file.
    pub(super) fn new(config: &Config) -> Result<Self, DaemonError> {
        let bind = |address| {
            health::bind(address).map_err(|source| DaemonError::Metrics { address, source })
        };
        let open = |path: &PathBuf| {
            Audit::open(path).map_err(|source| DaemonError::Audit {
                path: path.clone(),
                source,
            })
        };
        Ok(Self {
            metrics: config.metrics.listen.map(bind).transpose()?,
            audit: config.audit.file.as_ref().map(open).transpose()?,
        })
    }

    /// Records the broker's answers from now on.
    pub(super) fn start_audit<C: Clock>(&mut self, broker: &Broker<C>) -> AuditTask {
        AuditTask(self.audit.take().map(|(audit, writer)| {
            broker.audit_to(audit.clone());
            (audit, tokio::spawn(writer.run()))
        }))
    }

    /// Runs the others until `stop` is cancelled.
    pub(super) async fn run<C: Clock>(
        self,
        broker: &Broker<C>,
        clock: &C,
        stop: CancellationToken,
    ) {
        let health = async {
            if let Some(listener) = self.metrics {
                health::serve(listener, broker.clone(), stop.clone()).await;
            }
        };
        let fdstore = async {
            if systemd::is_present() {
                fdstore::run(broker.clone(), clock.clone(), stop.clone()).await;
            }
        };
        let status = async {
            if systemd::is_present() {
                report_status(broker.clone(), clock.clone(), stop.clone()).await;
            }
        };
        tokio::join!(health, fdstore, status);
    }
}

/// Updates the line in `systemctl status` after each attempt, until `stop` is cancelled.
async fn report_status<C: Clock>(broker: Broker<C>, clock: C, stop: CancellationToken) {
    let mut attempts = broker.attempts();
    loop {
        tokio::select! {
            _ = attempts.changed() => systemd::status(&broker.summary()),
            () = stop.cancelled() => return,
        }
        let reported = clock.now();
        tokio::select! {
            () = clock.sleep_until(reported + STATUS_MIN_INTERVAL) => {}
            () = stop.cancelled() => return,
        }
    }
}

/// The task that writes the audit, if there is one.
pub(super) struct AuditTask(Option<(Audit, JoinHandle<()>)>);

impl AuditTask {
    /// Returns once all lines are written, or cannot be.
    pub(super) async fn finish(self) {
        if let Some((audit, writer)) = self.0 {
            audit.finish(writer).await;
        }
    }
}
