//! The metrics of the gateway's applications, which exist only if there are any.

use std::fmt;
use std::sync::Arc;

use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

use crate::broker::app_usage::{AppUsage, CLASSES, Direction, METHODS, OTHER_METHOD};

pub(super) fn encode(apps: &[Arc<AppUsage>], encoder: &mut DescriptorEncoder) -> fmt::Result {
    if apps.is_empty() {
        return Ok(());
    }
    encode_requests(apps, encoder)?;
    let name = "domo_token_gateway_retries";
    let help = "Requests sent again after Domo rejected the token";
    let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
    for app in apps {
        let count = ConstCounter::new(app.retries());
        count.encode(metric.encode_family(&[("app", app.name())])?)?;
    }
    let name = "domo_token_gateway_bytes";
    let help = "Bytes of bodies that applications sent and received";
    let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
    for app in apps {
        for direction in Direction::ALL {
            let labels = [("app", app.name()), ("direction", direction.name())];
            ConstCounter::new(app.bytes(direction)).encode(metric.encode_family(&labels)?)?;
        }
    }
    let name = "domo_token_gateway_connections";
    let help = "Open connections of applications";
    let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
    for app in apps {
        let open = u64::try_from(app.connections()).unwrap_or(u64::MAX);
        ConstGauge::new(open).encode(metric.encode_family(&[("app", app.name())])?)?;
    }
    Ok(())
}

fn encode_requests(apps: &[Arc<AppUsage>], encoder: &mut DescriptorEncoder) -> fmt::Result {
    let name = "domo_token_gateway_requests";
    let help = "Requests of applications, by the class of the status";
    let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
    for app in apps {
        for method in METHODS.into_iter().chain([OTHER_METHOD]) {
            for class in CLASSES {
                let count = app.requests(method, class);
                if count == 0 {
                    continue;
                }
                let labels = [("app", app.name()), ("method", method), ("status", class)];
                ConstCounter::new(count).encode(metric.encode_family(&labels)?)?;
            }
        }
    }
    Ok(())
}
