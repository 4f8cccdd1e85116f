//! L7: a long run with short lifetimes and many faults.
//!
//! Callers request tokens continuously. Tokens are valid for five seconds, the sandbox fails, and the daemon is
//! killed, stopped and reloaded. No expired token may be served, no request may be refused while a token is
//! available, and memory and descriptors must not grow.

use std::fmt::Write as _;
use std::fs;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use domo_sandbox::{Fault, Sandbox};
use domo_token_client::{Broker, Token};
use rustix::process::Signal;

use crate::figures::now;
use crate::machine::{descriptors, memory, processor_time, sleeps};
use crate::plot::{Line, plot};
use crate::stand::{CLIENT_ID, Running, SECRET, client, start_daemon, write_config};

/// The duration, and the path of the plot.
pub(crate) struct Plan {
    pub(crate) span: Duration,
    pub(crate) write: Option<PathBuf>,
}

/// The lifetime of a token.
const LIFETIME: Duration = Duration::from_secs(5);

const SCOPES: [&str; 3] = ["audit", "data", "user"];

/// The numbers of callers and watchers.
const CALLERS: usize = 4;
const WATCHERS: usize = 20;

/// The pause between two requests of a caller.
const REST: Duration = Duration::from_millis(5);

/// The results of all callers.
#[derive(Default)]
struct Found {
    served: AtomicU64,
    watched: AtomicU64,
    expired: AtomicU64,
    /// The messages of the refusals.
    refused: Mutex<Vec<String>>,
    over: AtomicBool,
}

/// The state of the daemon at one time.
struct Sample {
    at: f64,
    /// The number of the daemon process.
    life: u32,
    resident: f64,
    descriptors: f64,
    sleeps: f64,
    busy: f64,
    requests: f64,
}

pub(crate) fn run(plan: &Plan) -> io::Result<bool> {
    let sandbox = Sandbox::builder().client(CLIENT_ID, SECRET, &SCOPES);
    let sandbox = sandbox.lifetime(LIFETIME).start()?;
    let folder = tempfile::tempdir()?;
    write_config(folder.path(), &client("acme", &sandbox, &SCOPES))?;
    let socket = folder.path().join("broker.sock");
    let found = Found::default();
    let mut trouble = Trouble {
        daemon: start_daemon(folder.path())?,
        folder: folder.path(),
        sandbox: &sandbox,
        kinds: [0; 6],
        life: 1,
    };
    let start = now();
    let samples = thread::scope(|scope| {
        for number in 0..CALLERS {
            let (found, socket, sandbox) = (&found, &socket, &sandbox);
            scope.spawn(move || call(found, socket, sandbox, number));
        }
        for number in 0..WATCHERS {
            let (found, socket) = (&found, &socket);
            scope.spawn(move || watch(found, socket, number));
        }
        let samples = trouble.make(start, plan.span);
        found.over.store(true, Ordering::Relaxed);
        // Watchers end with the next token.
        samples
    })?;
    report(plan, &found, &trouble, &samples)
}

fn call(found: &Found, socket: &Path, sandbox: &Sandbox, number: usize) {
    let scope = SCOPES.get(number % SCOPES.len()).copied().unwrap_or("data");
    while !found.over.load(Ordering::Relaxed) {
        match Broker::connect_to(socket).and_then(|broker| broker.token(scope)) {
            Ok(token) => {
                let count = found.served.fetch_add(1, Ordering::Relaxed);
                // Not after each token: a request to the sandbox costs more than everything else here.
                let is_expired = token.expires_in().is_zero()
                    || (count.is_multiple_of(20) && scope == "data" && !works(sandbox, &token));
                found
                    .expired
                    .fetch_add(is_expired.into(), Ordering::Relaxed);
            }
            Err(error) => found.refuse(error.to_string()),
        }
        rest(REST);
    }
}

/// Returns whether the sandbox accepts the token.
fn works(sandbox: &Sandbox, token: &Token) -> bool {
    let get = || -> io::Result<bool> {
        let url = sandbox.url("/v1/datasets");
        let (host, path) = url
            .trim_start_matches("http://")
            .split_once('/')
            .unwrap_or_default();
        let mut stream = TcpStream::connect(host)?;
        let token = token.secret();
        write!(
            stream,
            "GET /{path} HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {token}\r\nConnection: close\r\n\r\n"
        )?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer.starts_with("HTTP/1.1 200"))
    };
    get().unwrap_or(false)
}

fn watch(found: &Found, socket: &Path, number: usize) {
    let scope = SCOPES.get(number % SCOPES.len()).copied().unwrap_or("data");
    let watch = Broker::connect_to(socket).and_then(|broker| broker.watch(scope));
    let tokens = match watch {
        Ok(watch) => watch,
        Err(error) => return found.refuse(error.to_string()),
    };
    // Errors about the daemon's absence during a restart are expected.
    for token in tokens.flatten() {
        found.watched.fetch_add(1, Ordering::Relaxed);
        let is_expired = token.expires_in().is_zero();
        found
            .expired
            .fetch_add(is_expired.into(), Ordering::Relaxed);
        if found.over.load(Ordering::Relaxed) {
            return;
        }
    }
}

impl Found {
    fn refuse(&self, words: String) {
        if let Ok(mut refused) = self.refused.lock() {
            refused.push(words);
        }
    }
}

/// Causes faults and observes the daemon.
struct Trouble<'a> {
    daemon: Running,
    folder: &'a Path,
    sandbox: &'a Sandbox,
    /// How often each kind occurred.
    kinds: [u32; 6],
    life: u32,
}

const KINDS: [&str; 6] = [
    "killed and restarted",
    "429 for 2 s",
    "503 for 2 s",
    "no answer for 2 s",
    "frozen for 3 s",
    "reloaded",
];

impl Trouble<'_> {
    fn make(&mut self, start: Instant, span: Duration) -> io::Result<Vec<Sample>> {
        let mut samples = Vec::new();
        let mut turn = 0_u32;
        while now() < start + span {
            self.watch_for(start, 2 + turn % 3, &mut samples);
            // Each kind once, in random order.
            let kind = (turn + turn / 6) % 6;
            self.once(kind, start, &mut samples)?;
            let index = usize::try_from(kind).unwrap_or(0);
            if let Some(count) = self.kinds.get_mut(index) {
                *count += 1;
            }
            turn += 1;
        }
        self.watch_for(start, 3, &mut samples);
        Ok(samples)
    }

    fn once(&mut self, kind: u32, start: Instant, samples: &mut Vec<Sample>) -> io::Result<()> {
        match kind {
            0 => {
                self.daemon.signal(Signal::KILL)?;
                self.daemon.wait()?;
                self.daemon = start_daemon(self.folder)?;
                self.life += 1;
            }
            1 => self.faulty(Fault::status(429).retry_after("1"), start, samples),
            2 => self.faulty(Fault::status(503), start, samples),
            3 => self.faulty(Fault::hang(), start, samples),
            4 => {
                self.daemon.signal(Signal::STOP)?;
                rest(Duration::from_secs(3));
                self.daemon.signal(Signal::CONT)?;
            }
            _ => self.daemon.signal(Signal::HUP)?,
        }
        Ok(())
    }

    fn faulty(&mut self, fault: Fault, start: Instant, samples: &mut Vec<Sample>) {
        self.sandbox.always(fault);
        self.watch_for(start, 2, samples);
        self.sandbox.recover();
    }

    fn watch_for(&self, start: Instant, seconds: u32, samples: &mut Vec<Sample>) {
        for _second in 0..seconds {
            rest(Duration::from_secs(1));
            samples.push(self.sample(start));
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "a plot needs no exact values")]
    fn sample(&self, start: Instant) -> Sample {
        let pid = self.daemon.pid();
        Sample {
            at: (now() - start).as_secs_f64(),
            life: self.life,
            resident: memory(pid, "Rss").unwrap_or_default() as f64 / 1024.0,
            descriptors: descriptors(pid) as f64,
            sleeps: sleeps(pid) as f64,
            busy: processor_time(pid) as f64 / 1e9,
            requests: self.sandbox.requests().len() as f64,
        }
    }
}

fn report(plan: &Plan, found: &Found, trouble: &Trouble, samples: &[Sample]) -> io::Result<bool> {
    let refused = found
        .refused
        .lock()
        .map(|refused| refused.clone())
        .unwrap_or_default();
    let (early, late) = (middle(samples, 0.0, 0.25), middle(samples, 0.75, 1.0));
    let seconds = plan.span.as_secs();
    let mut text = format!(
        "{seconds} s, tokens of {} s, {CALLERS} callers and {WATCHERS} watchers\n\
         tokens served {}, sent to watchers {}, requests to Domo {}\n\
         expired tokens served {}, refusals {}\n\
         resident MiB: first quarter {:.2}, last quarter {:.2}; descriptors: {} and {}\n",
        LIFETIME.as_secs(),
        found.served.load(Ordering::Relaxed),
        found.watched.load(Ordering::Relaxed),
        trouble.sandbox.requests().len(),
        found.expired.load(Ordering::Relaxed),
        refused.len(),
        early.0,
        late.0,
        early.1,
        late.1,
    );
    for (kind, count) in KINDS.iter().zip(trouble.kinds) {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{kind}: {count} times");
    }
    for words in refused.iter().take(20) {
        let _ = writeln!(text, "refused: {words}");
    }
    crate::print(&text)?;
    if let Some(path) = &plan.write {
        fs::write(path, picture(samples))?;
    }
    let flat = late.0 <= early.0 * 1.1 && late.1 <= early.1 + 4.0;
    Ok(flat && refused.is_empty() && found.expired.load(Ordering::Relaxed) == 0)
}

/// Returns the medians of memory and descriptors over a part of the time.
fn middle(samples: &[Sample], from: f64, to: f64) -> (f64, f64) {
    let end = samples.last().map_or(0.0, |sample| sample.at);
    let part = || {
        samples
            .iter()
            .filter(|sample| (end * from..=end * to).contains(&sample.at))
    };
    let median = |of: fn(&Sample) -> f64| {
        let mut rounds = crate::figures::Rounds::default();
        part().for_each(|sample| rounds.push(of(sample)));
        rounds.median()
    };
    (
        median(|sample| sample.resident),
        median(|sample| sample.descriptors),
    )
}

fn picture(samples: &[Sample]) -> String {
    let line = |name, of: fn(&Sample) -> f64| Line {
        name,
        points: samples
            .iter()
            .map(|sample| (sample.at, of(sample)))
            .collect(),
    };
    // The change within a second; there is none across a restart.
    let rate = |name, of: fn(&Sample) -> f64| Line {
        name,
        points: samples
            .iter()
            .zip(samples.iter().skip(1))
            .filter(|(before, after)| before.life == after.life)
            .map(|(before, after)| (after.at, (of(after) - of(before)) / (after.at - before.at)))
            .collect(),
    };
    plot(&[
        line("resident memory, MiB", |sample| sample.resident),
        line("descriptors", |sample| sample.descriptors),
        rate("wake-ups a second", |sample| sample.sleeps),
        rate("processor time, part of a core", |sample| sample.busy),
        rate("requests to Domo a second", |sample| sample.requests),
    ])
}

#[expect(clippy::disallowed_methods, reason = "a soak test takes real time")]
fn rest(span: Duration) {
    thread::sleep(span);
}
