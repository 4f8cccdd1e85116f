//! The secret as a command prints it: password stores have one for that.

use std::io::{self, Read};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use secrecy::SecretString;
use zeroize::Zeroizing;

use super::{CredentialsError, MAX_SECRET, SECRET, check_secret, unusable};

/// How long the command may take. A person may have to unlock the store, but a daemon can't wait
/// for one.
const DEADLINE: Duration = Duration::from_secs(10);

/// The most of its standard error that is shown, in bytes.
const SHOWN: usize = 300;

/// Runs it, and takes the first line that it prints: what follows in a password store are notes.
pub(super) fn run(argv: &[String]) -> Result<SecretString, CredentialsError> {
    run_within(argv, DEADLINE)
}

fn run_within(argv: &[String], deadline: Duration) -> Result<SecretString, CredentialsError> {
    // Its arguments aren't shown: people put secrets there.
    let from = format!("the command {:?}", argv.first().map_or("", String::as_str));
    let failed = |problem: String| unusable(SECRET, &from, &problem);
    let mut child = spawn(argv).map_err(|error| failed(format!("can't be run: {error}")))?;
    // Read on threads of their own: a command that fills one pipe would wait for us for ever.
    let printed = collect(child.stdout.take(), MAX_SECRET);
    let complaint = collect(child.stderr.take(), SHOWN);
    let Ok(printed) = printed.recv_timeout(deadline) else {
        stop(&mut child);
        let seconds = deadline.as_secs_f32();
        return Err(failed(format!("not done after {seconds} s")));
    };
    // Whoever inherited its standard error may live on.
    let complaint = complaint.recv_timeout(Duration::from_millis(100));
    if printed.len() > MAX_SECRET {
        stop(&mut child);
        return Err(failed(format!("printed more than {MAX_SECRET} bytes")));
    }
    let status = wait(&mut child).map_err(|error| failed(error.to_string()))?;
    if !status.success() {
        let words = complaint.unwrap_or_default();
        let words = String::from_utf8_lossy(&words);
        return Err(failed(format!("{status}: {}", one_line(&words))));
    }
    let first = printed.split(|byte| *byte == b'\n').next();
    check_secret(first.unwrap_or_default(), &from)
}

/// What it complains of must not look like a line of ours, nor do anything to a terminal.
fn one_line(words: &str) -> String {
    let words: Vec<&str> = words.split_whitespace().collect();
    words.join(" ").replace(char::is_control, "\u{fffd}")
}

fn spawn(argv: &[String]) -> io::Result<Child> {
    let (program, arguments) = argv.split_first().ok_or(io::ErrorKind::InvalidInput)?;
    let mut command = Command::new(program);
    command
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    #[cfg(unix)]
    std::os::unix::process::CommandExt::process_group(&mut command, 0);
    command.spawn()
}

/// All that comes, up to one byte past `most`.
fn collect(
    pipe: Option<impl Read + Send + 'static>,
    most: usize,
) -> mpsc::Receiver<Zeroizing<Vec<u8>>> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        // Reserved whole, so that no copy is left behind by its growing.
        let mut bytes = Zeroizing::new(Vec::with_capacity(most + 2));
        if let Some(pipe) = pipe {
            let limit = u64::try_from(most + 1).unwrap_or(u64::MAX);
            // What came before an error is judged like the rest.
            let _read = pipe.take(limit).read_to_end(&mut bytes);
        }
        let _gave_up = sender.send(bytes);
    });
    receiver
}

/// Ends it with all that it started.
fn stop(child: &mut Child) {
    #[cfg(unix)]
    if let Some(group) = i32::try_from(child.id())
        .ok()
        .and_then(rustix::process::Pid::from_raw)
    {
        let _gone = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
    }
    let _gone = child.kill();
    let _reaped = child.wait();
}

/// Its standard output is closed, so it is about to end; if not, it is made to.
fn wait(child: &mut Child) -> io::Result<std::process::ExitStatus> {
    let (sender, receiver) = mpsc::channel::<()>();
    for _ in 0..100 {
        if let Some(status) = child.try_wait()? {
            return Ok(status);
        }
        // Nothing tells of a child's end but asking; the sender is kept, so this only waits.
        let _waited = receiver.recv_timeout(Duration::from_millis(10));
    }
    drop(sender);
    stop(child);
    Err(io::Error::other("closed its output and went on"))
}

#[cfg(all(test, unix))]
mod tests {
    use secrecy::ExposeSecret;

    use super::*;

    fn shell(script: &str) -> Vec<String> {
        ["/bin/sh", "-c", script].map(str::to_owned).into()
    }

    #[test]
    fn the_first_line_is_the_secret() {
        let secret = run(&shell("echo secret; echo note: mine")).unwrap();
        assert_eq!(secret.expose_secret(), "secret");
    }

    #[test]
    fn a_command_past_its_deadline_is_ended_with_all_that_it_started() {
        let folder = tempfile::tempdir().unwrap();
        let pid = folder.path().join("pid");
        let script = format!("sleep 600 & echo $! > {}; wait", pid.display());
        let error = run_within(&shell(&script), Duration::from_millis(500)).unwrap_err();
        assert!(
            error.to_string().contains("not done after 0.5 s"),
            "{error}"
        );
        let pid = std::fs::read_to_string(pid).unwrap();
        let state = || {
            let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.trim())).ok()?;
            stat.rsplit_once(')')?.1.trim().chars().next()
        };
        // Killed, it is gone as soon as somebody has taken note of it.
        while let Some(state) = state() {
            if state == 'Z' {
                break;
            }
            thread::yield_now();
        }
    }
}
