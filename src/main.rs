//! `domo-tokend`: flags → config → logging → [`daemon::run`] → exit code.

use std::env::var_os;
use std::io::{self, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::process::ExitCode;

use domo_token::commands::app;
use domo_token::commands::check::{self, Depth};
use domo_token::commands::init::{self, InitOptions, Written};
use domo_token::config::named_path::shown_path;
use domo_token::config::{self, Env};
use domo_token::daemon::{self, DaemonError, Environment, Options};
use domo_token::flags::{AppVerb, Flags, LogFormat, Verb};
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

/// The exit code for wrong usage, which is clap's, too.
const EX_USAGE: u8 = 2;

/// The exit code if standard output is closed or full (`EX_IOERR` of sysexits).
const EX_IOERR: u8 = 74;

/// How errors about inherited descriptors begin.
const INHERITED: &str = "cannot use the descriptors that systemd passed";

/// How errors about handlers of signals begin.
const NO_SIGNALS: &str = "cannot receive signals";

/// How many descriptors a runtime opens.
const RUNTIME_DESCRIPTORS: usize = 7;

/// The exit code if the system lacks resources (`EX_TEMPFAIL` of sysexits).
const EX_TEMPFAIL: u8 = 75;

fn main() -> ExitCode {
    catch_panic(start).unwrap_or_else(|ExitError(error, code)| {
        logging::finish();
        fail(&error, code)
    })
}

/// Makes a call, and returns [`DaemonError::Bug`] if it panics. The hook has printed the message.
fn catch_panic<T>(call: impl FnOnce() -> T) -> Result<T, ExitError> {
    catch_unwind(AssertUnwindSafe(call)).map_err(|_panic| DaemonError::Bug.into())
}

fn start() -> ExitCode {
    #[cfg(unix)]
    signals::fail_writes_past_size_limit();
    #[cfg(unix)]
    child_processes::keep_exit_statuses();
    let flags = match Flags::read() {
        Ok(flags) => flags,
        // Help and version are no errors: they go to standard output, which may be closed or full.
        Err(output) if !output.use_stderr() => return print(&output.render().to_string()),
        Err(error) => error.exit(),
    };
    let env: Env<'static> = &|name| var_os(name);
    let options = Options {
        config: flags.config,
        socket: flags.socket,
        log: flags.log,
    };
    let harden = !flags.debuggable;
    if flags.verb.is_some()
        && let Err(ExitError(error, code)) =
            validate_log_flag(&options).and_then(|()| harden_process(harden))
    {
        return fail(&error, code);
    }
    match flags.verb {
        None => serve(&options, log_format(flags.log_format), env, harden),
        Some(Verb::Check { schema: true, .. }) => print(config::schema::SCHEMA),
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
        Some(Verb::App { verb }) => app(&options, env, &verb),
    }
}

/// Validates `--log` for the commands, which log nothing.
fn validate_log_flag(options: &Options) -> Result<(), ExitError> {
    let filter = logging::filter(options.log.as_deref(), None, None);
    filter.map(drop).map_err(|error| ExitError(error, EX_USAGE))
}

fn check(options: &Options, env: Env<'static>, depth: Depth) -> ExitCode {
    let service_user = match check::become_service_user(options, env) {
        Ok(user) => user,
        Err(error) => return fail(&error, daemon::EX_CONFIG),
    };
    #[cfg(unix)]
    if let Err(error) = signals::end_on_signals() {
        let ExitError(error, code) = ExitError::of_host(NO_SIGNALS, &error);
        return fail(&error, code);
    }
    let report = match run_once(check::run(options, env, depth, service_user.is_some())) {
        Ok(report) => report,
        Err(ExitError(error, code)) => return fail(&error, code),
    };
    let mut good = report.good.clone();
    if let Some(user) = service_user.filter(|_| !good.is_empty()) {
        good.insert(0, format!("checked as the service's user {user}"));
    }
    // Printed before the errors also if both streams have the same target.
    let printed = if good.is_empty() {
        ExitCode::SUCCESS
    } else {
        print(&(good.join("\n") + "\n"))
    };
    for message in &report.warnings {
        print_error(&format_args!("warning: {message}"));
    }
    for message in &report.wrong {
        print_error(message);
    }
    if let Some(verdict) = report.verdict() {
        print_error(&verdict);
    }
    match report.exit_code() {
        0 => printed,
        code => ExitCode::from(code),
    }
}

fn init(options: &InitOptions, env: Env<'static>) -> ExitCode {
    // Without PID 1 the default actions end the process.
    #[cfg(unix)]
    if child_processes::is_init()
        && let Err(error) = signals::end_on_signals()
    {
        let ExitError(error, code) = ExitError::of_host(NO_SIGNALS, &error);
        return fail(&error, code);
    }
    if let Err(ExitError(error, code)) = validate_config_path(options.config.as_deref(), env) {
        return fail(&error, code);
    }
    let written = match run_once(init::run(options, env)) {
        Ok(written) => written,
        Err(ExitError(error, code)) => return fail(&error, code),
    };
    match written {
        Ok(Written { config, next }) => {
            let printed = print(&next);
            let problems = run_once(check::problems_of_service(&config, env));
            for problem in problems.unwrap_or_else(|ExitError(error, _)| vec![error]) {
                print_error(&format_args!(
                    "warning: the service cannot use this config yet: {problem}"
                ));
            }
            printed
        }
        Err(error) => fail(&error.to_string(), error.exit_code()),
    }
}

fn app(options: &Options, env: Env, verb: &AppVerb) -> ExitCode {
    let config = options.config.as_deref();
    if let Err(ExitError(error, code)) = validate_config_path(config, env) {
        return fail(&error, code);
    }
    match app::run(verb, config, env, &mut domo_token_stdout::write) {
        Ok(notes) => {
            // If standard error is closed, there is only the exit code.
            write!(io::stderr(), "{notes}").ok();
            ExitCode::SUCCESS
        }
        Err(error) => fail(&error, error.exit_code()),
    }
}

fn validate_config_path(flag: Option<&Path>, env: Env) -> Result<(), ExitError> {
    let path = config::explicit_config_path(flag.map(Path::to_owned), env);
    match path.and_then(|path| Some((config::validate_path(&path)?, path))) {
        None => Ok(()),
        Some((fault, path)) => Err(ExitError(
            format!("config {}: {fault}", shown_path(&path)),
            daemon::EX_CONFIG,
        )),
    }
}

/// Runs a command to its end, and does not wait for what it has left behind: a name server that does not
/// answer would delay the end of the process.
fn run_once<T>(command: impl Future<Output = T>) -> Result<T, ExitError> {
    let runtime = runtime()?;
    let result = runtime.block_on(command);
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
            let error = format!("{INHERITED}: {error}");
            return exit(format, &error, daemon::EX_CONFIG);
        }
    };
    #[cfg(unix)]
    let sockets = inherited.listeners.iter();
    #[cfg(unix)]
    let sockets: Vec<_> = sockets
        .filter_map(|socket| socket.try_clone().ok())
        .collect();
    let run = || {
        harden_process(harden)?;
        run(options, format, env, inherited)
    };
    let result = catch_panic(run).and_then(|result| result);
    // systemd ends the whole control group; other supervisors leave the commands running.
    #[cfg(unix)]
    child_processes::kill_all();
    let Err(ExitError(error, code)) = result else {
        logging::finish();
        return ExitCode::SUCCESS;
    };
    // After any other exit code the daemon is started again, and callers wait for that.
    #[cfg(unix)]
    if code == daemon::EX_CONFIG {
        server::reject_backlog(&sockets);
    }
    exit(format, &error, code)
}

/// Blocks SIGTTOU, which after `stty tostop` would stop a daemon in the background of its terminal when it
/// writes a log line. Threads inherit the mask, so this comes before the first one starts; commands start
/// with nothing blocked.
#[cfg(unix)]
fn write_from_background() {
    use nix::sys::signal::{SigSet, Signal};
    let signals: SigSet = Signal::SIGTTOU.into();
    // On failure the default applies.
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
            format!("{INHERITED}: {error}"),
            daemon::EX_CONFIG,
        ));
    }
    let config = load_config(options.config.as_deref(), env).map_err(DaemonError::from)?;
    let rust_log = logging::rust_log(env);
    let level = config.log.level.as_deref();
    let filter = logging::filter(options.log.as_deref(), rust_log.as_deref(), level);
    let filter = filter.map_err(|error| ExitError(error, EX_USAGE))?;
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
        Ok(Box::pin(daemon::run(config, &options, environment, |_| {})).await?)
    };
    run_to_completion(&runtime, daemon)
}

/// Runs the daemon as a task: waking up the future that a runtime blocks on takes a system call each time.
fn run_to_completion(
    runtime: &Runtime,
    daemon: impl Future<Output = Result<(), ExitError>> + Send + 'static,
) -> Result<(), ExitError> {
    let result = runtime.block_on(runtime.spawn(daemon));
    result.unwrap_or_else(|_panicked| Err(DaemonError::Bug.into()))
}

/// Prints the error and returns the exit code. systemd's status, which every local user can read, has only
/// the kind of error.
fn exit(format: Format, error: &str, code: u8) -> ExitCode {
    systemd::ended(code);
    let stream = std::env::var("JOURNAL_STREAM");
    let is_journal = stream.is_ok_and(|stream| logging::is_journal(&stream));
    // sd-daemon(3): the priority of the line.
    let priority = if is_journal { "<3>" } else { "" };
    logging::print_fatal(format, priority, error);
    logging::finish();
    ExitCode::from(code)
}

fn log_format(format: LogFormat) -> Format {
    match format {
        LogFormat::Text => Format::Text,
        LogFormat::Json => Format::Json,
    }
}

fn runtime() -> Result<Runtime, ExitError> {
    // tokio panics if it cannot open its descriptors.
    let built = descriptors::probe(RUNTIME_DESCRIPTORS).and_then(|()| {
        let mut builder = tokio::runtime::Builder::new_current_thread();
        builder.enable_all().build()
    });
    built.map_err(|error| ExitError::of_host("cannot start the event loop", &error))
}

/// Disables core dumps and ptrace, unless the process is to be debuggable.
fn harden_process(harden: bool) -> Result<(), ExitError> {
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
        Err(error) => fail(
            &format!("cannot write to standard output: {error}"),
            EX_IOERR,
        ),
    }
}

/// An error message and the exit code.
#[derive(Debug)]
struct ExitError(String, u8);

impl ExitError {
    /// Returns the error of a system call that the daemon needs: a permanent one, or a lack of resources.
    fn of_host(what: &str, error: &io::Error) -> Self {
        use io::ErrorKind::{PermissionDenied, Unsupported};
        let is_permanent = matches!(error.kind(), PermissionDenied | Unsupported);
        let code = if is_permanent {
            daemon::EX_CONFIG
        } else {
            EX_TEMPFAIL
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
    print_error(error);
    ExitCode::from(code)
}

fn print_error(message: &impl std::fmt::Display) {
    // If standard error is closed, there is only the exit code.
    writeln!(io::stderr(), "domo-tokend: {message}").ok();
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;
    use std::thread;
    use std::time::Duration;

    use domo_token::platform::threads;

    use super::*;

    #[test]
    fn panic_exits_70_without_waiting_for_lookups() {
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
        let ExitError(message, code) = end.unwrap_err();
        assert_eq!(code, 70);
        assert!(message.contains("please report it"), "{message}");
    }

    #[test]
    fn panic_outside_of_tasks_exits_70() {
        let ExitError(message, code) = catch_panic(|| panic!("a planted bug")).unwrap_err();
        assert_eq!(code, 70);
        assert!(message.contains("please report it"), "{message}");
    }
}
