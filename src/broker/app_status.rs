//! What status shows of the gateway's applications.

use std::sync::Arc;

use domo_token_core::access_policy::Caller;
use domo_token_protocol::messages::{AppStatus, MAX_APPS};

use super::State;
use super::app_usage::AppUsage;

/// The most bytes of an error, so that the status of [`MAX_APPS`] applications fits into half a frame.
const MAX_ERROR: usize = 200;

impl State {
    /// Returns the applications that the caller may see. Their errors can name paths, and their names are of no use to other
    /// users, so only root and the daemon's user see them.
    pub(super) fn visible_apps(&self, caller: &Caller) -> &[Arc<AppUsage>] {
        if caller.privileged { &self.apps } else { &[] }
    }

    /// Returns the status of these applications, and how many there are beyond them.
    pub(super) fn apps_for(&self, caller: &Caller) -> (Vec<AppStatus>, u32) {
        let apps = self.visible_apps(caller).iter();
        let mut apps: Vec<AppStatus> = apps.map(|app| status_of(app)).collect();
        let more = apps.len().saturating_sub(MAX_APPS);
        if more > 0 {
            // Those that need a fix are shown.
            apps.sort_by_key(|app| app.error.is_none());
            apps.truncate(MAX_APPS);
        }
        (apps, u32::try_from(more).unwrap_or(u32::MAX))
    }
}

fn status_of(app: &AppUsage) -> AppStatus {
    let state = app.state();
    AppStatus {
        name: app.name().to_owned(),
        client: state.client,
        last_used: app.last_used(),
        connections: u32::try_from(app.connections()).unwrap_or(u32::MAX),
        error: state.error.map(shortened),
    }
}

fn shortened(mut error: String) -> String {
    if error.len() > MAX_ERROR {
        let mut ends = (0..=MAX_ERROR - '…'.len_utf8()).rev();
        let end = ends.find(|end| error.is_char_boundary(*end));
        error.truncate(end.unwrap_or(0));
        error.push('…');
    }
    error
}

#[cfg(test)]
mod tests {
    use domo_token_protocol::BootTime;
    use domo_token_protocol::frame::MAX_BODY;
    use domo_token_protocol::messages::{BrokerStatus, MAX_CLIENT_NAME, Response};

    use super::*;
    use crate::broker::app_usage::AppState;
    use crate::broker::{Broker, BrokerConfig, StatusCursor};
    use crate::platform::clock::SystemClock;

    fn broker(apps: Vec<Arc<AppUsage>>) -> Broker<SystemClock> {
        let broker = Broker::new(SystemClock::new(), 0, BrokerConfig::default());
        broker.set_apps(apps);
        broker
    }

    fn caller(privileged: bool) -> Caller {
        Caller {
            privileged,
            ..Caller::default()
        }
    }

    fn status(broker: &Broker<SystemClock>, privileged: bool) -> BrokerStatus {
        let (page, _) = broker.status(&caller(privileged), &StatusCursor::default());
        match page.into_iter().next() {
            Some(Response::Broker(status)) => status,
            _ => panic!("no status of the broker"),
        }
    }

    fn app(name: &str, error: Option<&str>) -> Arc<AppUsage> {
        let app = AppUsage::new(name);
        app.set_state(AppState {
            client: "acme".to_owned(),
            error: error.map(str::to_owned),
        });
        Arc::new(app)
    }

    #[test]
    fn applications_are_shown_to_privileged_callers_only() {
        let etl = app("etl", None);
        let _open = etl.connect(2);
        etl.count_request("GET", 200, BootTime::from_millis(7));
        let broker = broker(vec![etl, app("report", Some("no file"))]);
        let shown = status(&broker, true);
        let used = AppStatus {
            name: "etl".to_owned(),
            client: "acme".to_owned(),
            last_used: Some(BootTime::from_millis(7)),
            connections: 1,
            error: None,
        };
        let disabled = AppStatus {
            name: "report".to_owned(),
            last_used: None,
            connections: 0,
            error: Some("no file".to_owned()),
            ..used.clone()
        };
        assert_eq!((shown.apps, shown.more_apps), (vec![used, disabled], 0));
        let hidden = status(&broker, false);
        assert_eq!((hidden.apps, hidden.more_apps), (Vec::new(), 0));
        for privileged in [true, false] {
            let text = broker.metrics(&caller(privileged));
            assert_eq!(text.contains("app=\"etl\""), privileged, "{text}");
        }
    }

    #[test]
    fn thousand_applications_fit_into_half_a_frame_and_failing_ones_come_first() {
        let long = "ü".repeat(4096);
        let name = |number| format!("{number:0MAX_CLIENT_NAME$}");
        let apps = (0..1000).map(|number| {
            let app = app(&name(number), (number >= 950).then_some(&*long));
            app.set_state(AppState {
                client: "c".repeat(MAX_CLIENT_NAME),
                ..app.state()
            });
            app.count_request("GET", 200, BootTime::from_millis(u64::MAX));
            app
        });
        let shown = status(&broker(apps.collect()), true);
        assert_eq!((shown.apps.len(), shown.more_apps), (MAX_APPS, 900));
        assert_eq!(shown.apps[0].name, name(950));
        assert_eq!(shown.apps[50].name, name(0));
        let error = shown.apps[0].error.as_deref().unwrap();
        assert!(error.len() <= MAX_ERROR && error.ends_with("ü…"), "{error}");
        let frame = Response::Broker(shown).encode(3).unwrap();
        assert!(frame.len() < MAX_BODY / 2, "{}", frame.len());
    }
}
