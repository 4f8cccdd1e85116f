//! Logs: to standard error, as text or JSON.

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::Subscriber;
use tracing_subscriber::util::SubscriberInitExt;

/// The level when nobody names one.
const LEVEL: &str = "info";

/// The form of log lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// What is logged: `flag` or `config` name a level for this program's own events, `rust_log` has
/// `RUST_LOG`'s form. The first that is there counts.
///
/// # Errors
///
/// In words, if it is neither a level nor a list of directives.
pub fn filter(
    flag: Option<&str>,
    rust_log: Option<&str>,
    config: Option<&str>,
) -> Result<EnvFilter, String> {
    let wanted = flag.or(rust_log).or(config).unwrap_or(LEVEL);
    let levels = ["off", "error", "warn", "info", "debug", "trace"];
    let directives = if levels.contains(&wanted.to_ascii_lowercase().as_str()) {
        format!("domo_token={wanted},domo_tokend={wanted}")
    } else {
        wanted.to_owned()
    };
    EnvFilter::builder()
        .parse(directives)
        .map_err(|_| format!("{wanted:?} is no log level: one of {}", levels.join(", ")))
}

/// Sends all events of the process to standard error. With `journal`, the journal adds the time.
/// A second call does nothing.
pub fn start(filter: EnvFilter, format: Format, journal: bool) {
    let builder = Subscriber::builder()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .with_target(false)
        // Its own complaint about a full disk goes to a standard error that panics when closed.
        .log_internal_errors(false);
    // Whoever came first keeps the log: a test harness, or an app the daemon runs in.
    let _already = match (format, journal) {
        (Format::Json, _) => builder.json().flatten_event(true).finish().try_init(),
        (Format::Text, true) => builder.without_time().finish().try_init(),
        (Format::Text, false) => builder.finish().try_init(),
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_flag_wins_over_the_environment_and_that_over_the_config() {
        let shown = |flag, env, config| filter(flag, env, config).unwrap().to_string();
        assert!(shown(Some("trace"), Some("warn"), Some("error")).contains("trace"));
        assert!(shown(None, Some("domo_token::ipc=debug"), Some("error")).contains("ipc=debug"));
        assert!(shown(None, None, Some("error")).contains("error"));
        assert!(shown(None, None, None).contains("info"));
    }

    #[test]
    fn nonsense_is_refused_in_words() {
        let error = filter(Some("lo=ud=er"), None, None).unwrap_err();
        assert!(error.contains("one of off, error"), "{error}");
    }
}
