//! What runs beside the door: metrics and health, the audit file, tokens kept for a restart.

use std::path::PathBuf;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::DaemonError;
use crate::audit::{Audit, Writer};
use crate::broker::{Broker, EngineHandle};
use crate::config::Config;
use crate::platform::clock::Clock;
use crate::platform::systemd;
use crate::source::domo::DomoSource;
use crate::{fdstore, health};

/// The least time between two words to systemd: what comes in a burst is told in one.
const REST: Duration = Duration::from_secs(1);

/// What the config asks for, opened.
pub(super) struct Services {
    port: Option<TcpListener>,
    audit: Option<(Audit, Writer)>,
}

impl Services {
    /// Opens the port and the file.
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
            port: config.metrics.listen.map(bind).transpose()?,
            audit: config.audit.file.as_ref().map(open).transpose()?,
        })
    }

    /// Has the broker's answers taken down from now on.
    pub(super) fn audit<C: Clock>(&mut self, broker: &Broker<C>) -> AuditTask {
        AuditTask(self.audit.take().map(|(audit, writer)| {
            broker.audit_to(audit.clone());
            (audit, tokio::spawn(writer.run()))
        }))
    }

    /// Runs until `stop` turns true.
    pub(super) async fn run<C: Clock>(
        self,
        broker: Broker<C>,
        clock: C,
        helm: EngineHandle<DomoSource>,
        stop: watch::Receiver<bool>,
    ) {
        let health = async {
            if let Some(port) = self.port {
                health::serve(port, broker.clone(), helm, stop.clone()).await;
            }
        };
        let keeping = async {
            if systemd::is_there() {
                fdstore::run(broker.clone(), clock.clone(), stop.clone()).await;
            }
        };
        let telling = async {
            if systemd::is_there() {
                tell(broker.clone(), clock.clone(), stop.clone()).await;
            }
        };
        tokio::join!(health, keeping, telling);
    }
}

/// Has `systemctl status` show how it goes after each attempt, until `stop` turns true.
async fn tell<C: Clock>(broker: Broker<C>, clock: C, mut stop: watch::Receiver<bool>) {
    let mut attempts = broker.attempts();
    loop {
        tokio::select! {
            _attempted = attempts.changed() => systemd::status(&broker.summary()),
            _stopped = stop.wait_for(|stop| *stop) => return,
        }
        let told = clock.now();
        tokio::select! {
            () = clock.sleep_until(told + REST) => {}
            _stopped = stop.wait_for(|stop| *stop) => return,
        }
    }
}

/// The audit file, as long as there is something to take down.
pub(super) struct AuditTask(Option<(Audit, JoinHandle<()>)>);

impl AuditTask {
    /// Returns once all is written, or can't be.
    pub(super) async fn finish(self) {
        if let Some((audit, writer)) = self.0 {
            audit.finish(writer).await;
        }
    }
}
