//! Runs the command that prints a secret, such as that of a password store.

use std::collections::BTreeSet;
use std::io::{self, Read};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError, mpsc};
use std::thread;
use std::time::Duration;

use secrecy::SecretString;
use tracing::debug;
use zeroize::Zeroizing;

use crate::config::named_path::NamedPath;
use crate::config::{Env, SecretCommand};
use crate::platform::child_processes::OwnChild;
use crate::platform::clock::{BootTime, boot_now};

use super::command_program::{self, ProgramError};
use super::permission_advice::{by_hand, on_unstartable};
use super::secret_text::secret_in;
use super::{CredentialsError, MAX_SECRET};

/// The time limit of the command. A daemon does not wait for a person to unlock the store.
const DEADLINE: Duration = Duration::from_secs(10);

/// The most bytes of its standard error that are logged.
const SHOWN: usize = 300;

/// The name of the threads that read its output.
const READER: &str = "command";

/// Runs the command, and returns the first line of its output: in a password store notes follow.
pub(super) fn run(
    command: &SecretCommand,
    what: &'static str,
    env: Env,
) -> Result<SecretString, CredentialsError> {
    run_within(command, what, env, DEADLINE)
}

fn run_within(
    command: &SecretCommand,
    what: &'static str,
    env: Env,
    deadline: Duration,
) -> Result<SecretString, CredentialsError> {
    // Its arguments are not shown: they may contain secrets.
    let name = command.argv.first().map_or("", String::as_str);
    let shown = NamedPath::from(name).shown();
    let failed = |problem| CredentialsError::Command {
        what,
        program: shown.clone(),
        problem,
    };
    let program = command_program::find(name, env("PATH")).map_err(|error| match error {
        ProgramError::Missing(error) => failed(format!("cannot be run: {error}")),
        ProgramError::Unsafe(error) => error,
    })?;
    output(&program, command, &shown, deadline).map_err(|(problem, advice)| {
        let hint = command_program::shell_hint(&command.argv).map(str::to_owned);
        let advice = match advice {
            Advice::Is(advice) if !advice.is_empty() => advice,
            Advice::Is(_) => hint.unwrap_or_default(),
            Advice::RunTo(purpose) => {
                hint.unwrap_or_else(|| format!("; {}", run_by_hand(purpose, command, &shown)))
            }
        };
        failed(problem + &advice)
    })
}

/// What to do about a command that failed.
enum Advice {
    /// This, as the end of the message.
    Is(String),
    /// Run it by hand, for that purpose.
    RunTo(&'static str),
}

impl Advice {
    const NONE: Self = Self::Is(String::new());
}

/// Returns how to run the command by hand. Its arguments may hold secrets, so they are not shown.
fn run_by_hand(purpose: &str, command: &SecretCommand, shown: &str) -> String {
    let name = command.argv.first().map_or("", String::as_str);
    if name != shown {
        return format!("{purpose}, run it by hand as the daemon's user");
    }
    let arguments = if command.argv.len() > 1 {
        " with its arguments"
    } else {
        ""
    };
    format!("{purpose}, run it by hand{arguments}: {}", by_hand(name))
}

fn output(
    program: &Path,
    command: &SecretCommand,
    shown: &str,
    deadline: Duration,
) -> Result<SecretString, (String, Advice)> {
    let plain = |problem: String| (problem, Advice::NONE);
    let mut child = spawn(program, command).map_err(|error| {
        let advice = Advice::Is(on_unstartable(program, &error));
        (format!("cannot be run: {error}"), advice)
    })?;
    // On one thread each, because a command that fills the other pipe would block for ever.
    let end = boot_now() + deadline;
    let printed = collect(child.stdout(), MAX_SECRET, end, false);
    let complaint = collect(child.stderr(), SHOWN, end, true);
    let (Ok(printed), Ok(complaint)) = (printed, complaint) else {
        child.kill();
        let problem = "no thread to read its output: the system's limit is reached; raise the limit on \
                       threads";
        return Err(plain(problem.to_owned()));
    };
    let Ok(Some(printed)) = printed.recv_timeout(deadline) else {
        child.kill();
        let seconds = deadline.as_secs_f32();
        let problem =
            format!("did not finish within {seconds} s; it must print the secret without input");
        return Err((problem, Advice::RunTo("to see what it waits for")));
    };
    // A process that inherited its standard error may still run.
    let complaint = complaint.recv_timeout(Duration::from_millis(100));
    if printed.len() > MAX_SECRET {
        child.kill();
        return Err(plain(format!("printed more than {MAX_SECRET} bytes")));
    }
    let status = wait(&mut child).map_err(|error| plain(error.to_string()))?;
    let is_empty = printed.is_empty();
    if !status.success() || is_empty {
        // It may contain secrets, so it is in no error.
        let message = complaint.ok().flatten().unwrap_or_default();
        let message = one_line(&String::from_utf8_lossy(&message));
        debug!("secret command {shown} failed: {status}; standard error: {message}");
        let nothing = if is_empty { ", it printed nothing" } else { "" };
        let purpose = "to see its message";
        return Err((format!("{status}{nothing}"), Advice::RunTo(purpose)));
    }
    let first = printed.split(|byte| *byte == b'\n').next();
    secret_in(first.unwrap_or_default()).map_err(|problem| {
        plain(format!(
            "the first line that it printed cannot be a secret: {problem}"
        ))
    })
}

/// Returns text of the command as one line without control characters for a terminal.
fn one_line(text: &str) -> String {
    let words: Vec<&str> = text.split_whitespace().collect();
    words.join(" ").replace(char::is_control, "\u{fffd}")
}

/// Variables by which systemd passes credentials, listeners and the notification socket, removed from the environment of
/// commands. `INVOCATION_ID` and `JOURNAL_STREAM` give access to nothing and stay.
const OF_SYSTEMD: [&str; 9] = [
    "CREDENTIALS_DIRECTORY",
    "FDSTORE",
    "LISTEN_FDNAMES",
    "LISTEN_FDS",
    "LISTEN_PID",
    "LISTEN_PIDFDID",
    "NOTIFY_SOCKET",
    "WATCHDOG_PID",
    "WATCHDOG_USEC",
];

/// Variables from which secrets were read. They stay in the environment when the config no longer names them.
static READ: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());

/// Removes the variable from the environment of all later commands.
pub(super) fn withhold(variable: &str) {
    let mut read = READ.lock().unwrap_or_else(PoisonError::into_inner);
    read.insert(variable.to_owned());
}

fn spawn(program: &Path, secret_command: &SecretCommand) -> io::Result<OwnChild> {
    let mut command = Command::new(program);
    for name in OF_SYSTEMD {
        command.env_remove(name);
    }
    let read = READ.lock().unwrap_or_else(PoisonError::into_inner).clone();
    for name in secret_command.withheld.iter().chain(&read) {
        command.env_remove(name);
    }
    command
        .args(secret_command.argv.iter().skip(1))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    #[cfg(unix)]
    {
        use std::os::unix::process::CommandExt;
        if let Some(name) = secret_command.argv.first() {
            command.arg0(name);
        }
    }
    OwnChild::spawn(&mut command)
}

/// Reads until `end`, up to one byte past `most`; sends `None` if more may follow. With `drain`, the rest is read and
/// discarded, because a closed pipe would end the command by SIGPIPE.
fn collect(
    pipe: Option<impl Pipe + 'static>,
    most: usize,
    end: BootTime,
    drain: bool,
) -> io::Result<mpsc::Receiver<Option<Zeroizing<Vec<u8>>>>> {
    let (sender, receiver) = mpsc::channel();
    let read = move || {
        // Allocated at its final size: growing would leave a copy behind.
        let mut bytes = Zeroizing::new(Vec::with_capacity(most + 2));
        let mut is_whole = true;
        let mut pipe = pipe.map(|pipe| Until { pipe, end });
        if let Some(pipe) = &mut pipe {
            let limit = u64::try_from(most + 1).unwrap_or(u64::MAX);
            // What was read before an error is used.
            let read = pipe.take(limit).read_to_end(&mut bytes);
            is_whole = read
                .err()
                .is_none_or(|error| error.kind() != io::ErrorKind::TimedOut);
        }
        let _ = sender.send(is_whole.then_some(bytes));
        if let Some(mut pipe) = pipe.filter(|_| drain && is_whole) {
            let mut rest = Zeroizing::new([0; 4096]);
            while pipe.read(rest.as_mut_slice()).is_ok_and(|read| read > 0) {}
        }
    };
    thread::Builder::new().name(READER.to_owned()).spawn(read)?;
    Ok(receiver)
}

#[cfg(unix)]
trait Pipe: Read + Send + std::os::fd::AsFd {}
#[cfg(unix)]
impl<P: Read + Send + std::os::fd::AsFd> Pipe for P {}

#[cfg(not(unix))]
trait Pipe: Read + Send {}
#[cfg(not(unix))]
impl<P: Read + Send> Pipe for P {}

/// A pipe that is read until `end`: a process that the command started may keep its other end open for ever.
struct Until<P> {
    pipe: P,
    #[cfg_attr(
        not(unix),
        expect(dead_code, reason = "a read cannot be cancelled there")
    )]
    end: BootTime,
}

impl<P: Pipe> Read for Until<P> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        #[cfg(unix)]
        {
            use rustix::event::{PollFd, PollFlags, Timespec, poll};
            let left = self.end.saturating_since(boot_now());
            let left = Timespec::try_from(left).map_err(io::Error::other)?;
            let mut polled = [PollFd::new(&self.pipe, PollFlags::IN)];
            if poll(&mut polled, Some(&left))? == 0 {
                return Err(io::ErrorKind::TimedOut.into());
            }
        }
        self.pipe.read(buffer)
    }
}

/// Waits for the end of a command that has closed its standard output, and kills it after a second.
fn wait(child: &mut OwnChild) -> io::Result<std::process::ExitStatus> {
    let (sender, receiver) = mpsc::channel::<()>();
    for _ in 0..100 {
        if let Some(status) = child.try_wait()? {
            return Ok(status);
        }
        // A pause, because the end of a child can only be polled. The sender is kept, so nothing is received.
        let _ = receiver.recv_timeout(Duration::from_millis(10));
    }
    drop(sender);
    child.kill();
    Err(io::Error::other("closed its output and went on"))
}

#[cfg(all(test, unix))]
mod tests {
    use secrecy::ExposeSecret;

    use super::*;

    fn run(command: &SecretCommand, env: Env) -> Result<SecretString, CredentialsError> {
        super::run(command, "client secret", env)
    }

    fn run_within(
        command: &SecretCommand,
        env: Env,
        deadline: Duration,
    ) -> Result<SecretString, CredentialsError> {
        super::run_within(command, "client secret", env, deadline)
    }

    fn shell(script: &str) -> SecretCommand {
        let argv = ["/bin/sh", "-c", script].map(str::to_owned).into();
        let withheld = Vec::new();
        SecretCommand { argv, withheld }
    }

    #[test]
    fn first_line_of_the_output_is_the_secret() {
        let secret = run(&shell("echo secret; echo note: mine"), &|_| None).unwrap();
        assert_eq!(secret.expose_secret(), "secret");
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "no event reports the end of a thread or a process"
    )]
    fn pause() {
        thread::sleep(Duration::from_millis(5));
    }

    /// Threads that read what a command prints.
    fn readers() -> usize {
        let tasks = std::fs::read_dir("/proc/self/task").into_iter().flatten();
        let names = tasks
            .flatten()
            .filter_map(|task| std::fs::read_to_string(task.path().join("comm")).ok());
        names.filter(|name| name.trim() == READER).count()
    }

    #[test]
    fn background_process_of_a_command_holds_no_thread() {
        let folder = tempfile::tempdir().unwrap();
        let run = |script: &str, deadline| {
            let pid = folder.path().join("pid");
            let script = format!("setsid {script} echo $! >> {}; echo secret", pid.display());
            run_within(&shell(&script), &|_| None, deadline)
        };
        let deadline = Duration::from_secs(2);
        let error = run("sleep 600 &", deadline).unwrap_err();
        assert!(error.to_string().contains("did not finish"), "{error}");
        run("sleep 600 >/dev/null &", deadline).unwrap();
        let end = boot_now() + Duration::from_secs(20);
        while readers() > 0 {
            assert!(boot_now() < end, "{} threads", readers());
            pause();
        }
        for pid in std::fs::read_to_string(folder.path().join("pid"))
            .unwrap()
            .lines()
        {
            let pid = rustix::process::Pid::from_raw(pid.parse().unwrap()).unwrap();
            rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
        }
    }

    #[test]
    fn failed_command_is_a_command_failure_without_its_standard_error() {
        let error = run(&shell("echo 'key c4nary' >&2; exit 3"), &|_| None).unwrap_err();
        assert!(error.is_command_failure());
        let error = error.to_string();
        assert!(
            error.ends_with("exit status: 3, it printed nothing; to see its message, run it by hand with its arguments: /bin/sh"),
            "{error}"
        );
    }

    #[test]
    fn every_way_in_which_a_command_fails_is_a_command_failure() {
        for script in [
            "exit 1",
            "true",
            "printf 'a\\tb'",
            "cat /dev/zero",
            "kill -9 $$",
        ] {
            let error = run(&shell(script), &|_| None).unwrap_err();
            assert!(error.is_command_failure(), "{script}: {error}");
        }
        let missing = SecretCommand {
            argv: vec!["/nowhere/pass".to_owned()],
            withheld: Vec::new(),
        };
        let missing = run(&missing, &|_| None).unwrap_err();
        assert!(missing.is_command_failure(), "{missing}");
    }

    #[test]
    fn command_that_writes_much_to_its_standard_error_goes_on() {
        let script = "head -c 200000 /dev/zero | tr '\\0' x >&2 && echo secret";
        let secret = run(&shell(script), &|_| None).unwrap();
        assert_eq!(secret.expose_secret(), "secret");
    }

    #[test]
    fn logged_standard_error_is_one_line_without_control_characters() {
        let message = one_line("no\u{1b}[2Jkey\n  for\ryou\n");
        assert_eq!(message, "no\u{fffd}[2Jkey for you");
    }

    #[test]
    fn command_past_its_deadline_is_killed_with_its_children() {
        let folder = tempfile::tempdir().unwrap();
        let pid = folder.path().join("pid");
        let script = format!("sleep 600 & echo $! > {}; wait", pid.display());
        let error = run_within(&shell(&script), &|_| None, Duration::from_secs(2)).unwrap_err();
        assert!(
            error.to_string().contains("did not finish within 2 s"),
            "{error}"
        );
        let pid = std::fs::read_to_string(pid).unwrap();
        let state = || {
            let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.trim())).ok()?;
            stat.rsplit_once(')')?.1.trim().chars().next()
        };
        // After it was killed it is a zombie until its parent reaps it.
        while let Some(state) = state() {
            if state == 'Z' {
                break;
            }
            pause();
        }
    }
}
