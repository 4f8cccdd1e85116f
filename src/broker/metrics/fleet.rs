//! The metrics of a fleet, which exist only if one is configured.

use std::fmt;

use domo_token_protocol::messages::ScopeStatus;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

use crate::source::fleet_monitor::{FAILURES, FleetCounts, FleetMonitor, Lookup, Published};

/// What the metrics show of a fleet.
#[derive(Debug)]
pub(super) struct Fleet {
    is_up: bool,
    clock_difference_s: f64,
    counts: FleetCounts,
}

impl Fleet {
    pub(super) fn new(monitor: &FleetMonitor) -> Self {
        let state = monitor.fleet_state();
        // In milliseconds it is far below 2^53, unless a clock is centuries off.
        #[expect(clippy::cast_precision_loss, reason = "a gauge is a float")]
        let milliseconds = state.clock_difference_ms.unwrap_or(0) as f64;
        Self {
            is_up: state.is_up,
            clock_difference_s: milliseconds / 1000.0,
            counts: monitor.counts(),
        }
    }

    /// Encodes the metrics, those of looks for these scope sets.
    pub(super) fn encode<'a>(
        &self,
        sets: impl Iterator<Item = &'a ScopeStatus>,
        encoder: &mut DescriptorEncoder,
    ) -> fmt::Result {
        self.encode_state(encoder)?;
        let name = "domo_token_fleet_lookups";
        let help = "Looks at the records of the fleet's store";
        let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
        for set in sets {
            for outcome in Lookup::ALL {
                let count = self.counts.lookups(&set.client, &set.scope, outcome);
                let labels = [
                    ("client", set.client.as_str()),
                    ("scope", set.scope.as_str()),
                    ("outcome", outcome.name()),
                ];
                ConstCounter::new(count).encode(metric.encode_family(&labels)?)?;
            }
        }
        let name = "domo_token_fleet_published";
        let help = "Tokens obtained from Domo that were to be shared";
        let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
        for outcome in Published::ALL {
            let count = ConstCounter::new(self.counts.published(outcome));
            count.encode(metric.encode_family(&[("outcome", outcome.name())])?)?;
        }
        let name = "domo_token_fleet_failures";
        let help = "Failed operations on the fleet's store";
        let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
        for cause in FAILURES {
            let count = ConstCounter::new(self.counts.failures(cause));
            let cause = cause.to_string();
            count.encode(metric.encode_family(&[("cause", cause.as_str())])?)?;
        }
        Ok(())
    }

    fn encode_state(&self, encoder: &mut DescriptorEncoder) -> fmt::Result {
        let name = "domo_token_fleet_up";
        let help = "0 if the last operation on the fleet's store failed or the fleet is turned off";
        let metric = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
        ConstGauge::new(u64::from(self.is_up)).encode(metric)?;
        let name = "domo_token_fleet_clock_difference_seconds";
        let help = "How far the store's clock is ahead of this host's";
        let metric = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
        ConstGauge::new(self.clock_difference_s).encode(metric)
    }
}
