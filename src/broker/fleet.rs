//! What callers see of the fleet with which the daemon shares tokens.

use std::sync::Arc;

use domo_token_core::access_policy::Caller;
use domo_token_protocol::messages::FleetStatus;

use super::daemon_errors::ASK_OPERATOR;
use super::{Broker, State};
use crate::platform::clock::Clock;
use crate::source::fleet_monitor::{FleetMonitor, FleetState};

impl<C: Clock> Broker<C> {
    /// Has status and metrics show this fleet, or none.
    pub fn set_fleet(&self, fleet: Option<Arc<FleetMonitor>>) {
        self.state().fleet = fleet;
    }
}

impl State {
    /// Returns the state of the fleet; of its errors only what the caller may see.
    pub(super) fn fleet_status_for(&self, caller: &Caller) -> Option<FleetStatus> {
        let fleet = self.fleet.as_ref()?.fleet_state();
        let mut errors = Vec::new();
        match &fleet.config_error {
            Some(error) if caller.privileged => errors.push(error.clone()),
            Some(_) => errors.push(format!("an error turns the fleet off{ASK_OPERATOR}")),
            None => errors.extend(fleet.error.clone()),
        }
        errors.extend(self.fleet_client_errors(&fleet, caller));
        Some(FleetStatus {
            place: fleet.place,
            up: fleet.is_up,
            since: fleet.since,
            last_error: (!errors.is_empty()).then(|| errors.join("; ")),
            clock_difference_ms: fleet.clock_difference_ms,
        })
    }

    /// Returns a line for each client that does not share tokens and that the caller may see.
    fn fleet_client_errors(&self, fleet: &FleetState, caller: &Caller) -> Vec<String> {
        let errors = fleet.client_errors.iter();
        let errors = errors.filter(|(client, _)| self.may_see_client(client, caller));
        let shown = |(client, error): (&String, &String)| {
            if caller.privileged {
                format!("client \"{client}\" does not share its tokens: {error}")
            } else {
                format!("client \"{client}\" does not share its tokens")
            }
        };
        errors.map(shown).collect()
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

    use domo_token_core::fetch::{Fetch, Occasion, Progress};
    use domo_token_core::scheduler::ClientSpec;
    use domo_token_protocol::BootTime;
    use domo_token_protocol::messages::Response;
    use domo_token_protocol::scope::ScopeSet;

    use super::*;
    use crate::broker::{BrokerConfig, Engine, StatusCursor};
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

    fn status(broker: &Broker<SystemClock>, caller: &Caller) -> Option<FleetStatus> {
        let (page, _) = broker.status(caller, &StatusCursor::default());
        let Some(Response::Broker(status)) = page.first() else {
            panic!("no status of the broker");
        };
        status.fleet.clone()
    }

    fn error(broker: &Broker<SystemClock>, caller: &Caller) -> String {
        status(broker, caller).unwrap().last_error.unwrap()
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
    fn errors_that_can_name_paths_are_shown_only_to_privileged_callers() {
        let (broker, caller) = (broker(), Caller::default());
        let monitor = FleetMonitor::turned_off(
            "cache.example:6379".to_owned(),
            "cannot read /etc/fleet.key".to_owned(),
            BootTime::from_millis(7),
        );
        broker.set_fleet(Some(Arc::new(monitor)));
        assert_eq!(error(&broker, &privileged()), "cannot read /etc/fleet.key");
        let shown = error(&broker, &caller);
        assert!(shown.starts_with("an error turns the fleet off; ask the operator"));
        let monitor = self::monitor();
        let short = "its secret has fewer than 32 characters".to_owned();
        monitor.set_client_errors(BTreeMap::from([("acme".to_owned(), short)]));
        broker.set_fleet(Some(monitor));
        assert_eq!(
            error(&broker, &privileged()),
            "client \"acme\" does not share its tokens: its secret has fewer than 32 characters"
        );
        assert_eq!(
            error(&broker, &caller),
            "client \"acme\" does not share its tokens"
        );
        assert!(status(&broker, &caller).unwrap().up);
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
