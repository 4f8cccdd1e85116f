//! Logs: to standard error as text or JSON, or to systemd's journal with fields.

#[cfg_attr(windows, path = "windows/journal.rs")]
mod journal;

use std::ffi::OsString;
use std::fmt;
use std::sync::Arc;

use tracing::Level;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::Subscriber;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::reload;
use tracing_subscriber::util::SubscriberInitExt;

#[cfg(unix)]
use journal::Datagram;
use journal::Journal;

/// The levels there are, from few lines to all.
pub const LEVELS: [&str; 5] = ["error", "warn", "info", "debug", "trace"];

/// No line at all: for the command line and `RUST_LOG`.
const OFF: &str = "off";

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
) -> Result<Targets, String> {
    let wanted = flag.or(rust_log).or(config).unwrap_or(LEVEL);
    let mut levels = [OFF].into_iter().chain(LEVELS);
    let directives = if levels.any(|level| wanted.eq_ignore_ascii_case(level)) {
        format!("domo_token={wanted},domo_tokend={wanted}")
    } else {
        wanted.to_owned()
    };
    directives.parse().map_err(|_| {
        let levels = LEVELS.join(", ");
        format!("{wanted:?} is no log level: one of {OFF}, {levels}")
    })
}

/// The environment's `RUST_LOG`, unless it is empty.
#[must_use]
pub fn rust_log(env: &dyn Fn(&str) -> Option<OsString>) -> Option<String> {
    let text = env("RUST_LOG")?.into_string().ok();
    text.filter(|text| !text.is_empty())
}

/// Whether `stream`, the value of `$JOURNAL_STREAM`, says that standard error leads to systemd's
/// journal.
#[must_use]
pub fn is_journal(stream: &str) -> bool {
    journal::leads_to(stream)
}

/// Sends all events of the process to standard error, and gives the way to another filter. If
/// `journal`, the value of `$JOURNAL_STREAM`, says that systemd's journal is at its other end, text
/// goes there with its fields. A second call does nothing.
pub fn start(filter: Targets, format: Format, journal: Option<&str>) -> Levels {
    let builder = Subscriber::builder()
        .with_max_level(Level::TRACE)
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .with_target(false)
        // Its own complaint about a full disk goes to a standard error that panics when closed.
        .log_internal_errors(false);
    match (format, journal.and_then(Journal::open)) {
        (Format::Json, _) => listen(builder.json().flatten_event(true).finish(), filter),
        #[cfg(unix)]
        (Format::Text, Some(journal)) => {
            let builder = builder.event_format(Datagram).with_writer(journal);
            listen(builder.finish(), filter)
        }
        (Format::Text, None) => listen(builder.finish(), filter),
    }
}

fn listen<S>(subscriber: S, filter: Targets) -> Levels
where
    S: tracing::Subscriber + Send + Sync + 'static,
{
    let (filter, handle) = reload::Layer::new(filter);
    // Whoever came first keeps the log: a test harness, or an app the daemon runs in.
    let _already = subscriber.with(filter).try_init();
    // Without a log there is nothing to change.
    Levels(Some(Arc::new(move |filter| drop(handle.reload(filter)))))
}

/// Changes what is logged while the process runs. The default one changes nothing.
#[derive(Clone, Default)]
pub struct Levels(Option<Arc<dyn Fn(Targets) + Send + Sync>>);

impl Levels {
    /// From now on that is logged.
    pub fn set(&self, filter: Targets) {
        if let Some(set) = &self.0 {
            set(filter);
        }
    }
}

impl fmt::Debug for Levels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Levels")
    }
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
