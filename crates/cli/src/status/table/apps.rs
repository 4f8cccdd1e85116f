//! The section about the gateway's applications.

use domo_token_client::{AppStatus, BrokerStatus};
use domo_token_protocol::BootTime;
use domo_token_protocol::duration::show;

use super::{BOLD, RED, TableStyle, painted, plain, times};

/// Returns a line for each application; nothing if none is visible.
pub(super) fn of(broker: &BrokerStatus, now: BootTime, style: TableStyle) -> String {
    if broker.apps.is_empty() {
        return String::new();
    }
    let width = |app: &AppStatus| plain(&app.name).chars().count();
    let width = broker.apps.iter().map(width).max().unwrap_or(0);
    let title = painted("applications", style.colour.then_some(BOLD));
    let line = |app: &AppStatus| {
        let name = format!("{:width$}", plain(&app.name), width = width);
        let state = match &app.error {
            Some(error) => {
                let error = format!("disabled: {}", plain(error));
                painted(&error, style.colour.then_some(RED))
            }
            None => use_of(app, now),
        };
        format!("  {name}  {}, {state}\n", plain(&app.client))
    };
    let lines: String = broker.apps.iter().map(line).collect();
    let (shown, more) = (broker.apps.len(), broker.more_apps);
    let rest = if more > 0 {
        format!("  {more} more; status shows at most {shown}\n")
    } else {
        String::new()
    };
    format!("\n{title}\n{lines}{rest}")
}

fn use_of(app: &AppStatus, now: BootTime) -> String {
    let connections = times(app.connections.into(), "connection");
    match app.last_used {
        Some(at) => {
            let ago = show(now.saturating_since(at.boot_time()));
            format!("{connections}, last used {ago} ago")
        }
        None => format!("{connections}, not used yet"),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use domo_token_protocol::messages;

    use super::*;

    const NOW: BootTime = BootTime::from_millis(100_000_000);

    fn shown(apps: Vec<messages::AppStatus>, more_apps: u32, colour: bool) -> String {
        let broker = BrokerStatus::of_wire(messages::BrokerStatus {
            apps,
            more_apps,
            ..messages::BrokerStatus::default()
        });
        let style = TableStyle {
            colour,
            notes_below: false,
        };
        of(&broker, NOW, style)
    }

    fn app(name: &str) -> messages::AppStatus {
        messages::AppStatus {
            name: name.to_owned(),
            client: "acme".to_owned(),
            ..messages::AppStatus::default()
        }
    }

    #[test]
    fn applications_have_a_line_each() {
        let used = messages::AppStatus {
            last_used: Some(NOW - Duration::from_secs(12)),
            connections: 3,
            ..app("etl")
        };
        let once = messages::AppStatus {
            last_used: Some(NOW),
            connections: 1,
            ..app("web")
        };
        let disabled = messages::AppStatus {
            error: Some("no file\x1b[2J".to_owned()),
            ..app("report")
        };
        assert_eq!(
            shown(vec![used, once, disabled.clone(), app("wiki")], 900, false),
            "\napplications\n  \
             etl     acme, 3 connections, last used 12 s ago\n  \
             web     acme, 1 connection, last used 0 s ago\n  \
             report  acme, disabled: no file [2J\n  \
             wiki    acme, 0 connections, not used yet\n  \
             900 more; status shows at most 4\n"
        );
        assert_eq!(
            shown(vec![disabled], 0, true),
            "\n\x1b[1mapplications\x1b[0m\n  \
             report  acme, \x1b[31mdisabled: no file [2J\x1b[0m\n"
        );
    }

    #[test]
    fn nothing_is_shown_without_applications() {
        assert_eq!(shown(Vec::new(), 0, true), "");
    }
}
