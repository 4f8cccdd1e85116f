//! Renders the broker's state and counters as Prometheus text (`OpenMetrics` 1.0), on request.

mod apps;
mod fleet;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use domo_token_protocol::messages::ScopeStatus;
use domo_token_protocol::scope::ScopeSet;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;

use super::Broker;
use super::app_usage::AppUsage;
use super::counters::Counts;
use crate::audit::Audit;
use crate::platform::clock::{BootTime, Clock, since_1970, wall_now};
use crate::platform::logging::dropped_lines;
use domo_token_core::access_policy::Caller;
use fleet::Fleet;

/// The media type of [`Broker::metrics`].
pub const METRICS_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

impl<C: Clock> Broker<C> {
    /// Returns the metrics that the caller may see.
    #[must_use]
    pub fn metrics(&self, caller: &Caller) -> String {
        let snapshot = self.snapshot(caller);
        let mut registry = Registry::default();
        registry.register_collector(Box::new(snapshot));
        let mut text = String::new();
        // Writing to a string can't fail.
        encode(&mut text, &registry).ok();
        text
    }

    /// Returns the sets without a valid token that the caller may see, by client and scopes.
    #[must_use]
    pub fn scope_sets_without_token(&self, caller: &Caller) -> Vec<(String, String)> {
        let now = self.0.clock.now();
        let state = self.state();
        let sets = state.scheduler.sets().filter_map(|(set, client, scope)| {
            let shown = state.may_see(client, scope, caller);
            let status = shown
                .then(|| state.scheduler.status_of(set, now))
                .flatten()?;
            status
                .expires
                .is_none()
                .then_some((status.client, status.scope))
        });
        sets.collect()
    }

    /// Returns whether that set has a valid token; `None` if the caller may see no such set.
    #[must_use]
    pub fn has_token(&self, client: &str, scope: &ScopeSet, caller: &Caller) -> Option<bool> {
        let now = self.0.clock.now();
        let state = self.state();
        let set = state.scheduler.find(client, scope).ok()?;
        if !state.may_see(client, scope, caller) {
            return None;
        }
        let status = state.scheduler.status_of(set, now)?;
        Some(status.expires.is_some())
    }

    fn snapshot(&self, caller: &Caller) -> Snapshot {
        let now = self.0.clock.now();
        let wall = wall_now();
        let state = self.state();
        let epoch = |at: BootTime| since_1970(at.to_wall(now, wall)).as_secs_f64();
        let sets = state.scheduler.sets().filter_map(|(set, client, scope)| {
            let shown = state.may_see(client, scope, caller);
            let status = shown
                .then(|| state.scheduler.status_of(set, now))
                .flatten()?;
            Some((status, state.counters.of(set)))
        });
        let daemon = &state.config.daemon;
        let status = &daemon.status;
        Snapshot {
            sets: sets
                .map(|(status, counts)| Set {
                    expiry: status.expires.map_or(0.0, epoch),
                    status,
                    counts,
                })
                .collect(),
            unmatched: state.counters.unmatched.clone().into_iter().collect(),
            connections: self.0.connections.load(Ordering::Relaxed),
            is_loaded: status.config_error.is_none()
                && daemon.load_errors.is_empty()
                && !daemon.is_fleet_broken(),
            config_loaded: epoch(status.config_loaded),
            version: status.version.clone(),
            protocol: status.protocol.to_string(),
            loop_lag: state.counters.loop_lag,
            audit_lost: self.0.audit.get().map(Audit::lost),
            log_dropped: dropped_lines(),
            fleet: state.fleet.as_deref().map(Fleet::new),
            apps: state.visible_apps(caller).to_vec(),
        }
    }
}

#[derive(Debug)]
struct Snapshot {
    sets: Vec<Set>,
    unmatched: Vec<(&'static str, u64)>,
    connections: usize,
    /// Whether the config file as it is now, each of its clients, and its fleet are in use.
    is_loaded: bool,
    config_loaded: f64,
    version: String,
    protocol: String,
    loop_lag: Duration,
    audit_lost: Option<u64>,
    log_dropped: u64,
    fleet: Option<Fleet>,
    apps: Vec<Arc<AppUsage>>,
}

#[derive(Debug)]
struct Set {
    status: ScopeStatus,
    counts: Counts,
    expiry: f64,
}

impl Set {
    fn labels(&self) -> [(&str, &str); 2] {
        [
            ("client", &self.status.client),
            ("scope", &self.status.scope),
        ]
    }

    fn labels_and<'a>(&'a self, key: &'a str, value: &'a str) -> [(&'a str, &'a str); 3] {
        let [client, scope] = self.labels();
        [client, scope, (key, value)]
    }
}

impl Collector for Snapshot {
    fn encode(&self, mut encoder: DescriptorEncoder) -> fmt::Result {
        self.encode_sets(&mut encoder)?;
        self.encode_requests(&mut encoder)?;
        if let Some(fleet) = &self.fleet {
            let sets = self.sets.iter().map(|set| &set.status);
            fleet.encode(sets, &mut encoder)?;
        }
        apps::encode(&self.apps, &mut encoder)?;
        self.encode_daemon(&mut encoder)
    }
}

impl Snapshot {
    fn encode_sets(&self, encoder: &mut DescriptorEncoder) -> fmt::Result {
        let name = "domo_token_expiry_timestamp_seconds";
        let help = "Unix time when the token expires, 0 without a valid token";
        let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
        for set in &self.sets {
            ConstGauge::new(set.expiry).encode(metric.encode_family(&set.labels())?)?;
        }
        let (name, help) = ("domo_token_renewals", "Tokens obtained from Domo");
        let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
        for set in &self.sets {
            let renewals = ConstCounter::new(set.counts.renewals);
            renewals.encode(metric.encode_family(&set.labels())?)?;
        }
        let name = "domo_token_renewal_failures";
        let help = "Failed attempts to obtain a token";
        let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
        for set in &self.sets {
            for (cause, count) in &set.counts.failures {
                let labels = set.labels_and("cause", cause);
                ConstCounter::new(*count).encode(metric.encode_family(&labels)?)?;
            }
        }
        let name = "domo_token_rejected";
        let help = "Reports of callers that Domo rejected a token";
        let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
        for set in &self.sets {
            let rejected = ConstCounter::new(set.status.rejected);
            rejected.encode(metric.encode_family(&set.labels())?)?;
        }
        Ok(())
    }

    fn encode_requests(&self, encoder: &mut DescriptorEncoder) -> fmt::Result {
        let (name, help) = ("domo_token_requests", "Token requests of callers");
        let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
        for set in &self.sets {
            let served = ("served", set.counts.served);
            let refused = set
                .counts
                .refused
                .iter()
                .map(|(name, count)| (*name, *count));
            for (outcome, count) in [served].into_iter().chain(refused) {
                let labels = set.labels_and("outcome", outcome);
                ConstCounter::new(count).encode(metric.encode_family(&labels)?)?;
            }
        }
        for (outcome, count) in &self.unmatched {
            let labels = [("client", ""), ("scope", ""), ("outcome", *outcome)];
            ConstCounter::new(*count).encode(metric.encode_family(&labels)?)?;
        }
        Ok(())
    }

    fn encode_daemon(&self, encoder: &mut DescriptorEncoder) -> fmt::Result {
        let connections = u64::try_from(self.connections).unwrap_or(u64::MAX);
        let is_loaded = u64::from(self.is_loaded);
        for (name, help, value) in [
            (
                "domo_token_connections",
                "Open connections of callers",
                connections,
            ),
            (
                "domo_token_config_last_reload_successful",
                "Whether the current config file, all its clients and its fleet are in use",
                is_loaded,
            ),
        ] {
            let metric = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            ConstGauge::new(value).encode(metric)?;
        }
        for (name, help, value) in [
            (
                "domo_token_config_last_reload_success_timestamp_seconds",
                "Unix time when the config in use was loaded",
                self.config_loaded,
            ),
            (
                "domo_token_loop_lag_seconds",
                "Delay of the event loop at its last timer",
                self.loop_lag.as_secs_f64(),
            ),
        ] {
            let metric = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            ConstGauge::new(value).encode(metric)?;
        }
        let name = "domo_token_log_lines_dropped";
        let help = "Log lines that could not be written";
        let metric = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
        ConstCounter::new(self.log_dropped).encode(metric)?;
        if let Some(lost) = self.audit_lost {
            let (name, help) = (
                "domo_token_audit_lost",
                "Audit lines that could not be written",
            );
            let metric = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
            ConstCounter::new(lost).encode(metric)?;
        }
        let (name, help) = (
            "domo_token_build_info",
            "Version of the daemon and of its protocol",
        );
        let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
        let labels = [
            ("version", self.version.as_str()),
            ("protocol", self.protocol.as_str()),
        ];
        ConstGauge::new(1_u64).encode(metric.encode_family(&labels)?)
    }
}
