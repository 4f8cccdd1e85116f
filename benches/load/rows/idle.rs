//! L8: an idle daemon.

use std::io;
use std::os::unix::net::UnixDatagram;
use std::time::Duration;

use rustix::process::Signal;

use crate::Plan;
use crate::machine::{memory, sleeps, status};
use crate::report::{Bar, Row};
use crate::stand::{Stand, daemon_command, start};

const HOUR: Duration = Duration::from_secs(3599);

/// The time after its first token in which a daemon releases memory.
const SETTLE: Duration = Duration::from_secs(12);

/// `WatchdogSec=` of `systemd/domo-tokend.service`, in microseconds.
const WATCHDOG: &str = "120000000";

pub(crate) fn run(plan: &Plan) -> io::Result<Vec<Row>> {
    let mut stand = Stand::plain(HOUR)?;
    watch_over(&mut stand)?;
    let pid = stand.daemon.pid();
    rest(SETTLE);
    let before = sleeps(pid);
    rest(plan.idle);
    let woken = u32::try_from(sleeps(pid) - before).map_or(f64::NAN, f64::from);
    let a_minute = woken * 60.0 / plan.idle.as_secs_f64();
    let mib = |name| memory(pid, name).and_then(|kib| u32::try_from(kib).ok());
    let mib = |name| mib(name).map_or(f64::NAN, |kib| f64::from(kib) / 1024.0);
    let threads = status(pid, "Threads").and_then(|count| u32::try_from(count).ok());
    let threads = threads.map_or(f64::NAN, f64::from);
    let row = |what: &str, found: f64, most| {
        Row::new(
            "L8",
            format!("idle daemon: {what}"),
            found.into(),
            Bar::AtMost(most),
        )
    };
    Ok(vec![
        row("wake-ups per minute", a_minute, 2.0),
        row("proportional memory (PSS), MiB", mib("Pss"), 5.0),
        row("anonymous memory, MiB", mib("Anonymous"), 2.0),
        row("threads", threads, 3.0),
    ])
}

/// Restarts the daemon with a socket for its notifications, as systemd does.
fn watch_over(stand: &mut Stand) -> io::Result<()> {
    stand.daemon.signal(Signal::TERM)?;
    stand.daemon.wait()?;
    let path = stand.folder.path().join("notify.sock");
    let manager = UnixDatagram::bind(&path)?;
    // The thread ends with this process, and discards what it receives.
    std::thread::spawn(move || while manager.recv(&mut [0; 4096]).is_ok() {});
    let mut command = daemon_command(stand.folder.path());
    command.env("NOTIFY_SOCKET", path);
    command.env("WATCHDOG_USEC", WATCHDOG);
    stand.daemon = start(command, &stand.socket())?;
    stand.broker()?.token("data").map_err(io::Error::other)?;
    Ok(())
}

#[expect(clippy::disallowed_methods, reason = "there is no event to wait for")]
fn rest(span: Duration) {
    std::thread::sleep(span);
}
