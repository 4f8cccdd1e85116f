//! Four SDK processes for many minutes, with faults of Domo and restarts of the daemon.
//!
//! `just gateway-soak` runs it. Tokens are valid for 30 s. Each process has an application and a client of its own, so
//! that the sandbox's record shows which calls a fault made fail. A call may fail only if such a call was part of it: it
//! would have failed at Domo, too.

use std::env;
use std::fmt::Write as _;
use std::fs;
use std::io::{self, Write as _};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

use domo_sandbox::{Fault, Limits, ResourceCall, Sandbox};
use domo_token_client::clock::{BootTime, boot_now};
use fastrand::Rng;

use crate::common::gateway::{App, Ports, Sdk, add_app, client_table, write_certificate};
use crate::common::wait::until;
use crate::common::{CANARY_SECRET, Daemon, folder};
use crate::soak::{End, lock};

const LIFETIME: Duration = Duration::from_secs(30);

const NAMES: [&str; 4] = ["python-1", "python-2", "node", "java"];

/// The commands of each SDK, in a loop. The program for Java has no `parts`.
const COMMANDS: [&str; 9] = [
    "prepare",
    "list",
    "upload 1",
    "users",
    "download 1",
    "list",
    "parts 4",
    "upload 4",
    "discard",
];

/// The pause between two samples of the daemon.
const SAMPLE: Duration = Duration::from_secs(10);

/// How much more memory the second half of a process's samples may have than the first, in KiB: the noise of malloc.
const MOST_GROWTH: u64 = 2048;

/// The most descriptors: two for each connection of the SDKs and its upstream, and those of the daemon.
const MOST_DESCRIPTORS: usize = 128;

/// A command that failed.
struct Failure {
    app: &'static str,
    command: &'static str,
    error: String,
    from: BootTime,
    to: BootTime,
}

/// The state of the daemon's process at one time.
#[derive(Clone, Copy)]
struct Sample {
    pid: u32,
    rss_kib: u64,
    descriptors: usize,
}

#[derive(Default)]
struct Run {
    end: End,
    /// The daemon's process, or 0 while it restarts.
    pid: AtomicU32,
    succeeded: Mutex<usize>,
    slowest: Mutex<Duration>,
    failures: Mutex<Vec<Failure>>,
    samples: Mutex<Vec<Sample>>,
}

/// Runs the commands until the end.
fn call(run: &Run, app: &'static str, mut sdk: Sdk) {
    loop {
        let has_parts = app != "java";
        let commands = COMMANDS.into_iter();
        for command in commands.filter(|command| has_parts || !command.starts_with("parts")) {
            if !run.end.wait(Duration::ZERO) {
                return;
            }
            let from = boot_now();
            let result = sdk.run(command);
            let to = boot_now();
            let took = to.saturating_since(from);
            let mut slowest = lock(&run.slowest);
            *slowest = took.max(*slowest);
            drop(slowest);
            let Err(error) = result else {
                *lock(&run.succeeded) += 1;
                continue;
            };
            lock(&run.failures).push(Failure {
                app,
                command,
                error,
                from,
                to,
            });
            // Without its dataset or data, what follows would fail.
            if command == "prepare" || command == "upload 1" {
                break;
            }
        }
    }
}

/// Makes calls of the API and token requests fail.
fn disturb_domo(run: &Run, sandbox: &Sandbox, mut rng: Rng) {
    while run.end.wait(Duration::from_millis(rng.u64(500..2500))) {
        match rng.u8(..8) {
            0..2 => sandbox.script_calls([Fault::status(429).retry_after("1")]),
            2..4 => sandbox.script_calls([Fault::status(503)]),
            4 => sandbox.script_calls([Fault::cut()]),
            5 => sandbox.script_calls([Fault::cut_in_body()]),
            6 => sandbox.script([Fault::status(503), Fault::cut()]),
            _ => {
                sandbox.always_in_calls(Fault::hold());
                run.end.wait(Duration::from_millis(rng.u64(300..3000)));
                // Continues the responses, and ends the fault.
                sandbox.recover();
            }
        }
    }
}

/// Restarts the daemon after each third of the run.
fn restart(run: &Run, daemon: &mut Daemon, ports: &Ports, third: Duration) {
    for _ in 0..2 {
        if !run.end.wait(third) {
            return;
        }
        run.pid.store(0, Ordering::Relaxed);
        let command = ports.inherited_by(&Daemon::command_of_config(daemon.folder()));
        daemon.restart_as("-TERM", command);
        run.pid.store(daemon.pid(), Ordering::Relaxed);
    }
}

fn sample(pid: u32) -> Option<Sample> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let rss = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    Some(Sample {
        pid,
        rss_kib: rss.split_whitespace().next()?.parse().ok()?,
        descriptors: fs::read_dir(format!("/proc/{pid}/fd")).ok()?.count(),
    })
}

fn watch(run: &Run) {
    while run.end.wait(SAMPLE) {
        let pid = run.pid.load(Ordering::Relaxed);
        if let Some(sample) = sample(pid).filter(|_| pid != 0) {
            lock(&run.samples).push(sample);
        }
    }
}

/// Returns how much more memory the second half of the samples of one process has, in KiB. The first samples are those
/// of its warm-up.
fn growth(samples: &[Sample]) -> Option<u64> {
    const WARM_UP: usize = 6;
    let samples = samples
        .get(WARM_UP..)
        .filter(|samples| samples.len() >= 4)?;
    let (first, second) = samples.split_at(samples.len() / 2);
    let median = |samples: &[Sample]| {
        let mut sizes: Vec<u64> = samples.iter().map(|sample| sample.rss_kib).collect();
        sizes.sort_unstable();
        sizes[sizes.len() / 2]
    };
    Some(median(second).saturating_sub(median(first)))
}

/// Returns whether a fault of the sandbox made a call of that command fail.
fn is_of_domo(failure: &Failure, calls: &[ResourceCall], zero: BootTime) -> bool {
    calls.iter().any(|call| {
        call.client_id.as_deref() == Some(failure.app)
            && call.is_fault
            && !(200..300).contains(&call.status)
            && zero + call.answered_at >= failure.from
            && zero + call.at <= failure.to
    })
}

/// Returns the report, and whether all is within its limits.
fn report(run: &Run, sandbox: &Sandbox, zero: BootTime, idle: usize) -> (String, bool) {
    let (failures, samples) = (lock(&run.failures), lock(&run.samples));
    let calls = sandbox.resource_calls();
    let (excused, violations): (Vec<_>, Vec<_>) = failures
        .iter()
        .partition(|failure| is_of_domo(failure, &calls, zero));
    let count = |status: u16| calls.iter().filter(|call| call.status == status).count();
    let most = samples.iter().map(|sample| sample.descriptors).max();
    let most = most.unwrap_or_default();
    let succeeded = *lock(&run.succeeded);
    let mut text = format!(
        "commands: {succeeded} succeeded, {} failed by faults of Domo, {} failed otherwise (at most 0)\n\
         slowest command: {:?}\n\
         calls at Domo: {}; 401: {}; faults: 429: {}, 503: {}, cut: {}, slow: {}\n\
         token requests at Domo: {}\n\
         descriptors: at most {most} (at most {MOST_DESCRIPTORS}), {idle} after the calls\n",
        excused.len(),
        violations.len(),
        *lock(&run.slowest),
        calls.len(),
        count(401),
        count(429),
        count(503),
        count(0),
        calls
            .iter()
            .filter(|call| call.is_fault && call.status < 300 && call.status > 0)
            .count(),
        sandbox.requests().len(),
    );
    let mut is_flat = true;
    for process in samples.chunk_by(|one, other| one.pid == other.pid) {
        let sizes: Vec<u64> = process.iter().map(|sample| sample.rss_kib).collect();
        let growth = growth(process);
        is_flat &= growth.is_none_or(|growth| growth <= MOST_GROWTH);
        let _ = writeln!(
            text,
            "memory: growth {growth:?} KiB (at most {MOST_GROWTH}), samples {sizes:?}"
        );
    }
    for failure in violations.iter().take(20) {
        let at = failure.from.saturating_since(zero);
        let took = failure.to.saturating_since(failure.from);
        let (app, command, error) = (failure.app, failure.command, &failure.error);
        let _ = writeln!(
            text,
            "failure: {app}, {command} at {at:?}, took {took:?}: {error}"
        );
    }
    let is_good = violations.is_empty()
        && is_flat
        && most <= MOST_DESCRIPTORS
        && idle <= MOST_DESCRIPTORS / 2;
    (text, is_good && succeeded > 0)
}

/// Starts the SDKs, without those that are not installed.
fn start_sdks(ports: &Ports, secrets: &[String], daemon: &Daemon) -> Vec<(&'static str, Sdk)> {
    let ca_file = daemon.folder().join("gateway-ca.pem");
    let sdks = NAMES.iter().zip(secrets).map(|(name, secret)| {
        let sdk = match *name {
            "node" => Sdk::domo_sdk(&ports.tls(), name, secret, &ca_file),
            "java" => Sdk::java(&ports.http(), name, secret, "data user"),
            _ => Sdk::pydomo(&ports.http(), name, secret, "data user"),
        };
        Some((*name, sdk?))
    });
    sdks.flatten().collect()
}

/// Returns a number from the environment.
fn number(name: &str) -> Option<u64> {
    env::var(name).ok()?.parse().ok()
}

#[test]
#[ignore = "takes many minutes; run: just gateway-soak"]
fn calls_of_four_sdks_fail_only_where_domo_fails() {
    let minutes = number("DOMO_TOKEN_GATEWAY_MINUTES").unwrap_or(20);
    let seed = number("DOMO_TOKEN_GATEWAY_SEED").unwrap_or_else(|| fastrand::u64(..1_000_000));
    writeln!(io::stderr(), "seed {seed}, {minutes} minutes").unwrap();
    // The start of the sandbox's clock, to within the time that this takes.
    let zero = boot_now();
    let mut builder = Sandbox::builder().lifetime(LIFETIME).limits(Limits {
        objects: 100_000,
        data_bytes: 2 << 30,
        ..Limits::default()
    });
    for name in NAMES {
        builder = builder.client(name, CANARY_SECRET, &["data", "user", "dashboard"]);
    }
    let sandbox = builder.start().unwrap();
    let (ports, upstream) = (Ports::bind(), sandbox.url(""));
    let apps = NAMES.map(|name| App {
        name,
        client: name,
        upstream: &upstream,
    });
    let clients = NAMES
        .map(|name| client_table(name, name, &sandbox))
        .concat();
    let folder = folder(&(clients + &ports.table(&apps)));
    write_certificate(folder.path());
    let secrets = NAMES.map(|name| add_app(&folder, name));
    let command = ports.inherited_by(&Daemon::command_of_config(folder.path()));
    let mut daemon = Daemon::start_as(command, folder);
    let sdks = start_sdks(&ports, &secrets, &daemon);
    let run = Run::default();
    run.pid.store(daemon.pid(), Ordering::Relaxed);
    let span = Duration::from_secs(minutes * 60);
    thread::scope(|scope| {
        let (run, sandbox, ports, daemon) = (&run, &sandbox, &ports, &mut daemon);
        for (name, sdk) in sdks {
            scope.spawn(move || call(run, name, sdk));
        }
        scope.spawn(move || disturb_domo(run, sandbox, Rng::with_seed(seed)));
        scope.spawn(move || restart(run, daemon, ports, span / 3));
        scope.spawn(move || watch(run));
        run.end.wait(span);
        run.end.set();
    });
    // The SDKs' connections have ended with their processes.
    let idle = until(|| match sample(daemon.pid()).unwrap().descriptors {
        count if count <= MOST_DESCRIPTORS / 2 => Ok(count),
        count => Err(count),
    });
    let (text, is_good) = report(&run, &sandbox, zero, idle);
    write!(io::stderr(), "{text}").unwrap();
    assert!(is_good, "seed {seed}");
}

#[test]
fn growth_of_memory_ignores_the_warm_up() {
    let samples = |sizes: &[u64]| -> Vec<Sample> {
        let sample = |rss_kib: &u64| Sample {
            pid: 1,
            rss_kib: *rss_kib,
            descriptors: 0,
        };
        sizes.iter().map(sample).collect()
    };
    assert_eq!(growth(&samples(&[1, 2, 3, 4, 5, 6, 7, 7, 9])), None);
    let sizes = [1, 2, 3, 4, 5, 6, 7, 7, 7, 9, 9, 9];
    assert_eq!(growth(&samples(&sizes)), Some(2));
}
