//! Logs: to standard error as text or JSON, or to systemd's journal with fields.

#[cfg_attr(windows, path = "logging/journal_windows.rs")]
mod journal;
mod fatal;
mod stderr_queue;
mod text;

use std::cell::Cell;
use std::ffi::OsString;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind, set_hook};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use tracing::{Level, warn};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::Subscriber;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::reload;
use tracing_subscriber::util::SubscriberInitExt;

use journal::Journal;
#[cfg(unix)]
use journal::JournalFormat;
use stderr_queue::{LogQueue, StandardError};
use text::TextLine;

/// The log levels, the least verbose first.
pub const LEVELS: [&str; 5] = ["error", "warn", "info", "debug", "trace"];

/// The level of the command line and of `RUST_LOG` that disables the log.
const OFF: &str = "off";

/// The default level.
const DEFAULT_LEVEL: &str = "info";

/// The form of log lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// Text in the form of logfmt.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// The prefix of the targets of the library, the program and the client crate.
const TARGET_PREFIX: &str = "domo_token";

/// The program's name, which in a filter means all of these targets.
const PROGRAM: &str = "domo_tokend";

/// The level of targets that a list does not contain.
const UNLISTED_LEVEL: &str = "warn";

/// How long the end of the process waits for lines that are not written yet.
const FLUSH_TIMEOUT: Duration = Duration::from_millis(300);

/// Lines dropped because nobody read them or writing failed.
static DROPPED: AtomicU64 = AtomicU64::new(0);

/// The queue for lines that are not sent to the journal.
static STDERR: LazyLock<LogQueue<StandardError>> =
    LazyLock::new(|| LogQueue::new(StandardError, &DROPPED, report_dropped));

/// Returns what is logged: by `flag`, else by `rust_log` in the form of `RUST_LOG` if that is about
/// this program, else by `config`.
///
/// # Errors
///
/// If the flag or the config names no log level.
pub fn filter(
    flag: Option<&str>,
    rust_log: Option<&str>,
    config: Option<&str>,
) -> Result<Targets, String> {
    if let Some(found) = rust_log.filter(|_| flag.is_none()).and_then(targets) {
        return Ok(found);
    }
    let level = flag.or(config).unwrap_or(DEFAULT_LEVEL);
    targets(level).ok_or_else(|| {
        let levels = LEVELS.join(", ");
        format!("{level:?} is not a log level: use {OFF}, {levels}, or domo_token=LEVEL")
    })
}

/// Returns why the environment's `RUST_LOG` is ignored, if it is.
#[must_use]
pub fn rust_log_notice(rust_log: &str) -> Option<&'static str> {
    let notice = "RUST_LOG ignored: it is neither a log level nor a list that names domo_token; \
                  set it to a level or to domo_token=LEVEL, or unset it";
    targets(rust_log).is_none().then_some(notice)
}

/// Returns the filter of a level or of a list of directives. A list that names no target of the daemon
/// gives none: it is about other programs, such as an app that uses the client crate. Targets that a list
/// does not contain are still logged from warnings on.
fn targets(text: &str) -> Option<Targets> {
    if is_level(text) {
        return format!("{TARGET_PREFIX}={text}").parse().ok();
    }
    let directives = text.split(',').map(str::trim);
    let directives = directives.filter(|directive| !directive.is_empty());
    let mut directives: Vec<String> = directives.map(with_library_name).collect();
    let target = |directive: &String| directive.split('=').next().map(str::to_owned);
    let targets: Vec<String> = directives.iter().filter_map(target).collect();
    let names_all = targets
        .iter()
        .any(|name| name == TARGET_PREFIX || is_level(name));
    let below = |name: &String| name.split("::").next() == Some(TARGET_PREFIX);
    if !names_all && !targets.iter().any(below) {
        return None;
    }
    if !names_all {
        directives.push(format!("{TARGET_PREFIX}={UNLISTED_LEVEL}"));
    }
    directives.join(",").parse().ok()
}

/// Replaces the program's name in a directive by the library's.
fn with_library_name(directive: &str) -> String {
    match directive.strip_prefix(PROGRAM) {
        Some(rest) if rest.is_empty() || rest.starts_with(['=', ':']) => {
            format!("{TARGET_PREFIX}{rest}")
        }
        Some(_) | None => directive.to_owned(),
    }
}

fn is_level(text: &str) -> bool {
    let mut levels = [OFF].into_iter().chain(LEVELS);
    levels.any(|level| text.eq_ignore_ascii_case(level))
}

/// Returns the environment's `RUST_LOG`, unless it is empty.
#[must_use]
pub fn rust_log(env: &dyn Fn(&str) -> Option<OsString>) -> Option<String> {
    let text = env("RUST_LOG")?.to_string_lossy().into_owned();
    Some(text).filter(|text| !text.is_empty())
}

/// Returns whether standard error is connected to systemd's journal, by `stream`, the value of
/// `$JOURNAL_STREAM`.
#[must_use]
pub fn is_journal(stream: &str) -> bool {
    journal::is_stderr(stream)
}

/// Logs all events of the process to standard error, and returns what changes the filter. If standard
/// error is connected to systemd's journal by `journal`, the value of `$JOURNAL_STREAM`, text is sent
/// there with its fields. A second call does nothing.
pub fn start(filter: Targets, format: Format, journal: Option<&str>) -> Levels {
    let builder = Subscriber::builder()
        .with_max_level(Level::TRACE)
        .with_writer(STDERR.clone())
        .with_ansi(false)
        .with_target(false)
        // Its error messages are written by a macro that panics when standard error is closed.
        .log_internal_errors(false);
    match (
        format,
        journal.and_then(|stream| Journal::open(stream, &DROPPED)),
    ) {
        (Format::Json, _) => install(builder.json().flatten_event(true).finish(), filter),
        #[cfg(unix)]
        (Format::Text, Some(journal)) => {
            let builder = builder.event_format(JournalFormat).with_writer(journal);
            install(builder.finish(), filter)
        }
        (Format::Text, None) => install(builder.event_format(TextLine).finish(), filter),
    }
}

/// Returns how many lines were dropped since the process started, because nobody read standard error
/// or the journal, or because writing failed.
#[must_use]
pub fn dropped_lines() -> u64 {
    DROPPED.load(Ordering::Relaxed)
}

fn report_dropped(lines: u64) {
    warn!(
        lines,
        "log lines dropped: standard error was not read or not writable"
    );
}

/// Prints the messages of panics in the form of log lines and through the log's queue, because the default
/// hook blocks while nobody reads standard error.
pub fn catch_panics(format: Format) {
    set_hook(Box::new(move |panic| {
        if !EXPECTS_PANIC.get() {
            STDERR.push_last(fatal::panic_line(format, panic).as_bytes());
        }
    }));
}

thread_local! {
    static EXPECTS_PANIC: Cell<bool> = const { Cell::new(false) };
}

/// Makes a call that can panic for reasons outside the daemon; then it returns `None`, and no message is
/// printed. The caller must drop what the call may have left inconsistent.
pub fn catch_expected_panic<T>(call: impl FnOnce() -> T) -> Option<T> {
    let before = EXPECTS_PANIC.replace(true);
    let result = catch_unwind(AssertUnwindSafe(call));
    EXPECTS_PANIC.set(before);
    result.ok()
}

/// Prints the error that the process ends with, regardless of the level and of the length of the queue, and
/// returns immediately. `prefix` is printed first.
pub fn print_fatal(format: Format, prefix: &str, error: &str) {
    let line = fatal::error_line(format, error);
    STDERR.push_last(format!("{prefix}{line}").as_bytes());
}

/// Returns once all lines are written, or cannot be within a third of a second.
pub fn finish() {
    STDERR.flush(FLUSH_TIMEOUT);
}

fn install<S>(subscriber: S, filter: Targets) -> Levels
where
    S: tracing::Subscriber + Send + Sync + 'static,
{
    let (filter, handle) = reload::Layer::new(filter);
    // An earlier subscriber stays: of a test harness, or of an app that the daemon runs in.
    subscriber.with(filter).try_init().ok();
    // This fails only if there is no log.
    Levels(Some(Arc::new(move |filter| drop(handle.reload(filter)))))
}

/// Changes the log's filter while the process runs. The default one changes nothing.
#[derive(Clone, Default)]
pub struct Levels(Option<Arc<dyn Fn(Targets) + Send + Sync>>);

impl Levels {
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
    fn flag_takes_precedence_over_environment_and_config() {
        let shown = |flag, env, config| filter(flag, env, config).unwrap().to_string();
        assert!(shown(Some("trace"), Some("warn"), Some("error")).contains("trace"));
        assert!(
            shown(None, Some("domo_token::server=debug"), Some("error")).contains("server=debug")
        );
        assert!(shown(None, None, Some("error")).contains("error"));
        assert!(shown(None, None, None).contains("info"));
    }

    #[test]
    fn flag_without_a_level_or_a_target_of_this_program_is_an_error() {
        for flag in ["lo=ud=er", "loud", "my_app=trace", "1", "", "domo_token[x"] {
            let error = filter(Some(flag), None, None).unwrap_err();
            assert!(error.contains("use off, error"), "{error}");
        }
        for flag in ["WARN", "domo_token=debug", "domo_tokend=trace,hyper=info"] {
            assert!(filter(Some(flag), None, None).is_ok(), "{flag}");
        }
    }

    #[test]
    fn rust_log_of_another_program_is_ignored_with_a_notice() {
        for other in [
            "my_app=trace",
            "1",
            "garbage!!",
            "[span{f=1}]=debug",
            "domo_token[span]=debug",
            "domo_tokens=debug",
            "domo_token_client=debug",
            "my_app=info,domo_token_protocol::messages=trace",
            "my_domo_token=debug",
            "domo_token=loud",
        ] {
            assert!(rust_log_notice(other).is_some(), "{other}");
            let by_config = filter(None, Some(other), Some("error")).unwrap();
            assert_eq!(
                by_config,
                filter(None, None, Some("error")).unwrap(),
                "{other}"
            );
        }
        for ours in [
            "debug",
            "Off",
            "my_app=trace,domo_token=debug",
            "my_app=trace, warn",
            "domo_token::server=trace",
            "domo_tokend",
            "domo_token=debug,",
        ] {
            assert_eq!(rust_log_notice(ours), None, "{ours}");
            let by_rust_log = filter(None, Some(ours), Some("error")).unwrap();
            assert_eq!(by_rust_log, targets(ours).unwrap(), "{ours}");
        }
    }
    #[test]
    fn filter_list_keeps_warnings_of_other_targets() {
        let is_logged = |list: &str, target: &str, level: Level| {
            targets(list).unwrap().would_enable(target, &level)
        };
        for list in ["domo_tokend=debug", "domo_token=debug"] {
            for target in ["domo_tokend", "domo_token::server", "domo_token_client"] {
                assert!(is_logged(list, target, Level::DEBUG), "{list}: {target}");
            }
        }
        for list in [
            "domo_token::server=debug",
            "my_app=off,domo_tokend::server=debug",
        ] {
            assert!(
                is_logged(list, "domo_token::server", Level::DEBUG),
                "{list}"
            );
            for target in ["domo_tokend", "domo_token::daemon"] {
                assert!(is_logged(list, target, Level::WARN), "{list}: {target}");
                assert!(!is_logged(list, target, Level::INFO), "{list}: {target}");
            }
        }
        assert!(!is_logged(
            "domo_token=error",
            "domo_token::server",
            Level::WARN
        ));
        assert!(!is_logged(
            "off,domo_token::server=info",
            "domo_token",
            Level::ERROR
        ));
    }
}
