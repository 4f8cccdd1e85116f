//! What callers see of the fleet with which the daemon shares tokens.

use std::sync::Arc;

use domo_token_protocol::messages::FleetStatus;

use super::{Broker, State};
use crate::platform::clock::Clock;
use crate::source::fleet_monitor::FleetMonitor;

impl<C: Clock> Broker<C> {
    /// Has status and metrics show this fleet, or none.
    pub fn set_fleet(&self, fleet: Option<Arc<FleetMonitor>>) {
        self.state().fleet = fleet;
    }
}

impl State {
    /// Returns the state of the fleet. Errors in its config are the daemon's errors of the config.
    pub(super) fn fleet_status(&self) -> Option<FleetStatus> {
        let fleet = self.fleet.as_ref()?.fleet_state();
        Some(FleetStatus {
            place: fleet.place,
            up: fleet.is_up,
            since: fleet.since,
            last_error: fleet.error,
            clock_difference_ms: fleet.clock_difference_ms,
        })
    }

    /// Drops what was counted for scope sets that are removed.
    pub(super) fn forget_removed_in_fleet(&self) {
        if let Some(fleet) = &self.fleet {
            fleet.retain(|client, scope| self.scheduler.find(client, scope).is_ok());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use domo_token_core::access_policy::Caller;
    use domo_token_core::fetch::{Fetch, Occasion, Progress};
    use domo_token_core::scheduler::ClientSpec;
    use domo_token_protocol::BootTime;
    use domo_token_protocol::messages::{BrokerStatus, Response};
    use domo_token_protocol::scope::ScopeSet;

    use super::*;
    use crate::broker::{BrokerConfig, DaemonInfo, Engine, StatusCursor};
    use crate::platform::clock::SystemClock;
    use crate::source::TokenSource;
    use crate::source::fleet_monitor::{Lookup, Published};
    use crate::store::{StoreError, StoreFailure};

    struct Silent;

    impl TokenSource for Silent {
        async fn fetch(&self, _: &Occasion, _: &(dyn Fn(Progress) + Send + Sync)) -> Fetch {
            std::future::pending().await
        }
    }

    type Clients = Vec<(ClientSpec, Option<Arc<Silent>>)>;

    fn scope(text: &str) -> ScopeSet {
        ScopeSet::parse(text).unwrap()
    }

    fn clients(scopes: &[&str]) -> Clients {
        let spec = ClientSpec {
            name: "acme".to_owned(),
            shown_id: "441e307a".to_owned(),
            scopes: scopes.iter().copied().map(scope).collect(),
            renewed: true,
            proxy_login: None,
            loading: None,
            shares: true,
        };
        vec![(spec, Some(Arc::new(Silent)))]
    }

    fn broker() -> Broker<SystemClock> {
        Broker::new(SystemClock::new(), 0, BrokerConfig::default())
    }

    fn privileged() -> Caller {
        Caller {
            privileged: true,
            ..Caller::default()
        }
    }

    fn monitor() -> Arc<FleetMonitor> {
        Arc::new(FleetMonitor::new("cache.example:6379".to_owned()))
    }

    fn refused() -> StoreError {
        StoreError {
            cause: StoreFailure::Connect,
            message: "connection refused".to_owned(),
        }
    }

    fn daemon_status(broker: &Broker<SystemClock>, caller: &Caller) -> BrokerStatus {
        let (page, _) = broker.status(caller, &StatusCursor::default());
        let Some(Response::Broker(status)) = page.first() else {
            panic!("no status of the broker");
        };
        status.clone()
    }

    fn status(broker: &Broker<SystemClock>, caller: &Caller) -> Option<FleetStatus> {
        daemon_status(broker, caller).fleet
    }

    #[test]
    fn status_shows_the_fleet_in_use_and_none_without() {
        let (broker, caller) = (broker(), Caller::default());
        assert_eq!(status(&broker, &caller), None);
        let monitor = monitor();
        broker.set_fleet(Some(Arc::clone(&monitor)));
        let new = FleetStatus {
            place: "cache.example:6379".to_owned(),
            up: true,
            since: None,
            last_error: None,
            clock_difference_ms: None,
        };
        assert_eq!(status(&broker, &caller), Some(new.clone()));
        let now = BootTime::from_millis(7);
        monitor.succeeded(now);
        monitor.read_clocks(-12, now);
        monitor.failed(&refused(), now);
        let down = FleetStatus {
            up: false,
            since: Some(now),
            last_error: Some("connection refused".to_owned()),
            clock_difference_ms: Some(-12),
            ..new
        };
        assert_eq!(status(&broker, &caller), Some(down));
        broker.set_fleet(None);
        assert_eq!(status(&broker, &caller), None);
    }

    #[test]
    fn errors_in_the_config_are_shown_once_and_their_reason_to_privileged_callers() {
        let mut config = BrokerConfig::default();
        config.daemon.fleet_error = Some("cannot read /etc/fleet.key".to_owned());
        let broker = Broker::new(SystemClock::new(), 0, config);
        let place = "cache.example:6379".to_owned();
        let monitor = FleetMonitor::turned_off(place, BootTime::from_millis(7));
        broker.set_fleet(Some(Arc::new(monitor)));
        let shown = |caller: &Caller| {
            let status = daemon_status(&broker, caller);
            let fleet = status.fleet.unwrap();
            assert_eq!((fleet.up, fleet.last_error), (false, None));
            status.config_error.unwrap()
        };
        let message = "fleet could not be loaded: cannot read /etc/fleet.key";
        assert_eq!(shown(&privileged()), message);
        assert_eq!(shown(&Caller::default()), "fleet could not be loaded");
    }

    #[test]
    fn client_that_does_not_share_is_an_error_of_the_config_beside_a_fleet_that_is_up() {
        let short = "its tokens are not shared: its secret is short".to_owned();
        let daemon = DaemonInfo {
            sharing_errors: BTreeMap::from([("acme".to_owned(), short)]),
            ..DaemonInfo::default()
        };
        let config = BrokerConfig {
            daemon,
            ..BrokerConfig::default()
        };
        let broker = Broker::new(SystemClock::new(), 0, config);
        broker.set_fleet(Some(monitor()));
        let shown = |caller: &Caller| {
            let status = daemon_status(&broker, caller);
            let fleet = status.fleet.unwrap();
            assert_eq!((fleet.up, fleet.last_error), (true, None));
            status.config_error.unwrap()
        };
        assert_eq!(
            shown(&privileged()),
            "client \"acme\": its tokens are not shared: its secret is short"
        );
        assert_eq!(
            shown(&Caller::default()),
            "client \"acme\" does not share its tokens"
        );
    }

    #[tokio::test]
    async fn metrics_of_a_fleet_exist_from_the_start_and_end_with_their_scope_set() {
        let (broker, caller) = (broker(), Caller::default());
        let (engine, handle) = Engine::new(&broker, clients(&["data", "user"]));
        let engine = tokio::spawn(engine.run());
        assert!(!broker.metrics(&caller).contains("domo_token_fleet"));
        let monitor = monitor();
        broker.set_fleet(Some(Arc::clone(&monitor)));
        let value = |name: &str| {
            let text = broker.metrics(&caller);
            let line = text.lines().find_map(|line| line.strip_prefix(name));
            line.map(|value| value.trim().parse::<f64>().unwrap())
        };
        let looks = |scope: &str, outcome: &str| {
            let labels = format!("client=\"acme\",scope=\"{scope}\",outcome=\"{outcome}\"");
            value(&format!("domo_token_fleet_lookups_total{{{labels}}}"))
        };
        for outcome in Lookup::ALL {
            assert_eq!(looks("user", outcome.name()), Some(0.0), "{outcome:?}");
        }
        let stored = "domo_token_fleet_published_total{outcome=\"stored\"}";
        let connect = "domo_token_fleet_failures_total{cause=\"connect\"}";
        assert_eq!((value(stored), value(connect)), (Some(0.0), Some(0.0)));
        assert_eq!(value("domo_token_fleet_up "), Some(1.0));
        monitor.looked_up("acme", &scope("user"), Lookup::Taken);
        monitor.published(Published::Stored);
        monitor.succeeded(BootTime::from_millis(1));
        monitor.read_clocks(-1500, BootTime::from_millis(1));
        monitor.failed(&refused(), BootTime::from_millis(2));
        assert_eq!(looks("user", "taken"), Some(1.0));
        assert_eq!((value(stored), value(connect)), (Some(1.0), Some(1.0)));
        assert_eq!(value("domo_token_fleet_up "), Some(0.0));
        let difference = value("domo_token_fleet_clock_difference_seconds");
        assert_eq!(difference, Some(-1.5));
        for scopes in [&["data"][..], &["data", "user"]] {
            let config = BrokerConfig::default();
            handle.configure(clients(scopes), config).await;
            handle.ping().await;
            let is_there = scopes.contains(&"user").then_some(0.0);
            assert_eq!(looks("user", "taken"), is_there);
        }
        handle.stop().await;
        engine.await.unwrap();
    }
}
