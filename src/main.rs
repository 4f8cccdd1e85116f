//! `domo-tokend`: flags → config → logging → [`daemon::run`] → exit code.

use std::env::var_os;
use std::io::{self, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;

use domo_token::commands::check::{self, Depth};
use domo_token::commands::init::{self, InitOptions, Written};
use domo_token::config::named_path::shown_path;
use domo_token::config::{self, Env};
use domo_token::daemon::{self, DaemonError, Environment, Options};
use domo_token::flags::{Flags, LogFormat, Verb};
use domo_token::load::load_config;
#[cfg(unix)]
use domo_token::platform::child_processes;
use domo_token::platform::logging::{self, Format};
use domo_token::platform::systemd::{self, InheritedFds};
use domo_token::platform::{descriptors, process_hardening, signals};
#[cfg(unix)]
use domo_token::server;
use tokio::runtime::Runtime;
use tracing::warn;
use zeroizing_alloc::ZeroAlloc;

/// The HTTP and TLS libraries' buffers hold secrets and tokens, too: all freed memory is wiped.
#[global_allocator]
static ALLOCATOR: ZeroAlloc<std::alloc::System> = ZeroAlloc(std::alloc::System);

/// Wrong usage, as clap has it too.
const USAGE: u8 = 2;

/// Standard output is closed or full.
const CANNOT_WRITE: u8 = 74;

/// How errors about inherited descriptors begin.
const HANDED_OVER: &str = "what systemd handed over";

/// How errors about handlers of signals begin.
const NO_SIGNALS: &str = "cannot receive signals";

/// How many descriptors a runtime opens.
const RUNTIME_DESCRIPTORS: usize = 7;

/// The system lacks room for now.
const TRY_AGAIN: u8 = 75;

fn main() -> ExitCode {
    caught(start).unwrap_or_else(|ExitError(error, code)| {
        logging::finish();
        fail(&error, code)
    })
}

/// Makes a call, whose panic is a bug like that of a task: its message was printed by the hook.
fn caught<T>(call: impl FnOnce() -> T) -> Result<T, ExitError> {
    catch_unwind(AssertUnwindSafe(call)).map_err(|_panic| DaemonError::Bug.into())
}

fn start() -> ExitCode {
    #[cfg(unix)]
    signals::fail_writes_past_size_limit();
    #[cfg(unix)]
    child_processes::keep_exit_statuses();
    let flags = match Flags::read() {
        Ok(flags) => flags,
        // Help and version are no errors: they go to standard output, and that may be closed or full.
        Err(other) if !other.use_stderr() => return print(&other.render().to_string()),
        Err(wrong) => wrong.exit(),
    };
    let env: Env<'static> = &|name| var_os(name);
    let options = Options {
        config: flags.config,
        socket: flags.socket,
        log: flags.log,
    };
    let harden = !flags.debuggable;
    if flags.verb.is_some()
        && let Err(ExitError(error, code)) = close_memory(harden)
    {
        return fail(&error, code);
    }
    match flags.verb {
        None => serve(&options, form(flags.log_format), env, harden),
        Some(Verb::Check { schema: true, .. }) => print(&config::schema()),
        Some(Verb::Check { online, syntax, .. }) => {
            let depth = match (online, syntax) {
                (true, _) => Depth::Online,
                (false, true) => Depth::Syntax,
                (false, false) => Depth::Files,
            };
            check(&options, env, depth)
        }
        Some(Verb::Init {
            name,
            client_id,
            tokens,
            token_url,
            proxy,
            proxy_auth_file,
            ca_file,
            offline,
        }) => init(
            &InitOptions {
                config: options.config,
                name,
                client_id,
                tokens,
                token_url,
                proxy,
                proxy_auth_file,
                ca_file,
                offline,
            },
            env,
        ),
    }
}

fn check(options: &Options, env: Env<'static>, depth: Depth) -> ExitCode {
    let judge = match check::judge_as_service(options, env) {
        Ok(judge) => judge,
        Err(error) => return fail(&error, daemon::EX_CONFIG),
    };
    #[cfg(unix)]
    if let Err(error) = signals::end_on_signals() {
        let ExitError(error, code) = ExitError::of_host(NO_SIGNALS, &error);
        return fail(&error, code);
    }
    let report = match run_once(check::run(options, env, depth, judge.is_some())) {
        Ok(report) => report,
        Err(ExitError(error, code)) => return fail(&error, code),
    };
    let mut good = report.good.clone();
    if let Some(user) = judge.filter(|_| !good.is_empty()) {
        good.insert(0, format!("checked as the service's user {user}"));
    }
    // It comes first also where both streams lead to the same place.
    let printed = if good.is_empty() {
        ExitCode::SUCCESS
    } else {
        print(&(good.join("\n") + "\n"))
    };
    for words in &report.warnings {
        say(&format_args!("warning: {words}"));
    }
    for words in &report.wrong {
        say(words);
    }
    if let Some(verdict) = report.verdict() {
        say(&verdict);
    }
    match report.exit_code() {
        0 => printed,
        code => ExitCode::from(code),
    }
}

fn init(wishes: &InitOptions, env: Env<'static>) -> ExitCode {
    // Else the default actions do.
    #[cfg(unix)]
    if child_processes::is_init()
        && let Err(error) = signals::end_on_signals()
    {
        let ExitError(error, code) = ExitError::of_host(NO_SIGNALS, &error);
        return fail(&error, code);
    }
    if let Some(path) = config::named_place(wishes.config.clone(), env)
        && let Some(fault) = config::fault_of_path(&path)
    {
        let error = format!("config {}: {fault}", shown_path(&path));
        return fail(&error, daemon::EX_CONFIG);
    }
    let written = match run_once(init::run(wishes, env)) {
        Ok(written) => written,
        Err(ExitError(error, code)) => return fail(&error, code),
    };
    match written {
        Ok(Written { config, next }) => {
            let printed = print(&next);
            let problems = run_once(check::problems_of_service(&config, env));
            for problem in problems.unwrap_or_else(|ExitError(error, _)| vec![error]) {
                say(&format_args!(
                    "warning: the service cannot use this config yet: {problem}"
                ));
            }
            printed
        }
        Err(error) => fail(&error.message(), error.exit_code()),
    }
}

/// Runs a command's work to its end, and waits for nothing that it has left behind: a name server that
/// does not answer would hold the process up.
fn run_once<T>(work: impl Future<Output = T>) -> Result<T, ExitError> {
    let runtime = runtime()?;
    let result = runtime.block_on(work);
    runtime.shutdown_background();
    Ok(result)
}

fn serve(options: &Options, format: Format, env: Env<'static>, harden: bool) -> ExitCode {
    logging::catch_panics(format);
    #[cfg(unix)]
    write_from_background();
    let inherited = match systemd::take_inherited() {
        Ok(inherited) => inherited,
        Err(error) => {
            let error = format!("{HANDED_OVER}: {error}");
            return end(format, &error, daemon::EX_CONFIG);
        }
    };
    #[cfg(unix)]
    let sockets = inherited.listeners.iter();
    #[cfg(unix)]
    let sockets: Vec<_> = sockets
        .filter_map(|socket| socket.try_clone().ok())
        .collect();
    let run = || {
        close_memory(harden)?;
        run(options, format, env, inherited)
    };
    let ended = caught(run).and_then(|ended| ended);
    // A service manager that ends the whole control group does that; others leave them running.
    #[cfg(unix)]
    child_processes::kill_all();
    let Err(ExitError(error, code)) = ended else {
        logging::finish();
        return ExitCode::SUCCESS;
    };
    // After any other end there is another start, for which callers wait.
    #[cfg(unix)]
    if code == daemon::EX_CONFIG {
        server::reject_backlog(&sockets);
    }
    end(format, &error, code)
}

/// Has a log line of a daemon in the background of its terminal be written even after
/// `stty tostop`, where SIGTTOU would stop the process unless it blocks that. Threads inherit this,
/// so it comes before the first one starts; commands start with nothing blocked.
#[cfg(unix)]
fn write_from_background() {
    use nix::sys::signal::{SigSet, Signal};
    let signals: SigSet = Signal::SIGTTOU.into();
    // No more can go wrong than without it.
    let _ = signals.thread_block();
}

fn run(
    options: &Options,
    format: Format,
    env: Env<'static>,
    inherited: InheritedFds,
) -> Result<(), ExitError> {
    if let Some(error) = &inherited.error {
        return Err(ExitError(
            format!("{HANDED_OVER}: {error}"),
            daemon::EX_CONFIG,
        ));
    }
    let config = load_config(options.config.as_deref(), env).map_err(DaemonError::from)?;
    let rust_log = logging::rust_log(env);
    let level = config.log_level.as_deref();
    let filter = logging::filter(options.log.as_deref(), rust_log.as_deref(), level);
    let filter = filter.map_err(|error| ExitError(error, USAGE))?;
    let journal = env("JOURNAL_STREAM").and_then(|stream| stream.into_string().ok());
    let levels = logging::start(filter, format, journal.as_deref());
    let ignored = rust_log.as_deref().and_then(logging::rust_log_notice);
    if let Some(notice) = ignored.filter(|_| options.log.is_none()) {
        warn!("{notice}");
    }
    let runtime = runtime()?;
    let options = options.clone();
    let daemon = async move {
        let signals = signals::listen().map_err(|error| ExitError::of_host(NO_SIGNALS, &error))?;
        #[cfg(unix)]
        signals::reap_orphans().map_err(|error| ExitError::of_host(NO_SIGNALS, &error))?;
        let environment = Environment {
            env,
            levels,
            signals,
            inherited,
        };
        Ok(daemon::run(config, &options, environment, |_| {}).await?)
    };
    run_to_completion(&runtime, daemon)
}

/// Runs it as a task, as to wake up what a runtime blocks on takes a system call each time.
fn run_to_completion(
    runtime: &Runtime,
    daemon: impl Future<Output = Result<(), ExitError>> + Send + 'static,
) -> Result<(), ExitError> {
    let ended = runtime.block_on(runtime.spawn(daemon));
    ended.unwrap_or_else(|_panicked| Err(DaemonError::Bug.into()))
}

/// The service ends with that: the journal and standard error have the error, the status that every
/// local user can read only its kind.
fn end(format: Format, error: &str, code: u8) -> ExitCode {
    systemd::ended(code);
    let stream = std::env::var("JOURNAL_STREAM");
    let is_journal = stream.is_ok_and(|stream| logging::is_journal(&stream));
    // sd-daemon(3): the priority of the line.
    let priority = if is_journal { "<3>" } else { "" };
    logging::print_fatal(format, priority, error);
    logging::finish();
    ExitCode::from(code)
}

fn form(format: LogFormat) -> Format {
    match format {
        LogFormat::Text => Format::Text,
        LogFormat::Json => Format::Json,
    }
}

fn runtime() -> Result<Runtime, ExitError> {
    // Without room for its descriptors tokio panics.
    let built = descriptors::probe(RUNTIME_DESCRIPTORS).and_then(|()| {
        let mut builder = tokio::runtime::Builder::new_current_thread();
        builder.enable_all().build()
    });
    built.map_err(|error| ExitError::of_host("cannot start the event loop", &error))
}

/// Keeps others out of this process's memory, unless it is to be open to debuggers.
fn close_memory(harden: bool) -> Result<(), ExitError> {
    if !harden {
        return Ok(());
    }
    process_hardening::apply().map_err(|error| {
        let hint = "allow prctl and setrlimit, or run with --debuggable";
        let what = "cannot disable core dumps and ptrace";
        ExitError(format!("{what}: {error}; {hint}"), daemon::EX_CONFIG)
    })
}

fn print(text: &str) -> ExitCode {
    match domo_token_stdout::write(text.as_bytes()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&format!("standard output: {error}"), CANNOT_WRITE),
    }
}

/// Why it ended, and with which exit code.
#[derive(Debug)]
struct ExitError(String, u8);

impl ExitError {
    /// The system refused what the daemon cannot do without: for good, or while it lacks room.
    fn of_host(what: &str, error: &io::Error) -> Self {
        use io::ErrorKind::{PermissionDenied, Unsupported};
        let for_good = matches!(error.kind(), PermissionDenied | Unsupported);
        let code = if for_good {
            daemon::EX_CONFIG
        } else {
            TRY_AGAIN
        };
        let hint = if descriptors::is_exhausted(error) {
            descriptors::RAISE_LIMIT
        } else {
            ""
        };
        Self(format!("{what}: {error}{hint}"), code)
    }
}

impl From<DaemonError> for ExitError {
    fn from(error: DaemonError) -> Self {
        Self(error.to_string(), error.exit_code())
    }
}

fn fail(error: &impl std::fmt::Display, code: u8) -> ExitCode {
    say(error);
    ExitCode::from(code)
}

fn say(words: &impl std::fmt::Display) {
    // With standard error closed the exit code still tells.
    let _told = writeln!(io::stderr(), "domo-tokend: {words}");
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;
    use std::thread;
    use std::time::Duration;

    use domo_token::platform::threads;

    use super::*;

    #[test]
    fn a_panic_ends_it_as_a_bug_and_no_lookup_holds_that_up() {
        let (_held, lookup) = channel::<()>();
        let (ended, end) = channel();
        thread::spawn(move || {
            let daemon = async {
                let (begun, begins) = tokio::sync::oneshot::channel();
                tokio::spawn(threads::run(move || {
                    begun.send(()).unwrap();
                    lookup.recv()
                }));
                begins.await.unwrap();
                panic!("a planted bug");
            };
            ended.send(run_to_completion(&runtime().unwrap(), daemon))
        });
        let end = end.recv_timeout(Duration::from_secs(30)).unwrap();
        let ExitError(words, code) = end.unwrap_err();
        assert_eq!(code, 70);
        assert!(words.contains("please report it"), "{words}");
    }

    #[test]
    fn panic_outside_of_tasks_is_a_bug_too() {
        let ExitError(message, code) = caught(|| panic!("a planted bug")).unwrap_err();
        assert_eq!(code, 70);
        assert!(message.contains("please report it"), "{message}");
    }
}
