//! L8: a daemon that nobody asks.

use std::io;
use std::time::Duration;

use crate::Plan;
use crate::machine::{memory, sleeps, status};
use crate::report::{Bar, Row};
use crate::stand::Stand;

const HOUR: Duration = Duration::from_secs(3599);

/// How long after its first token a daemon still puts things away.
const SETTLE: Duration = Duration::from_secs(12);

pub(crate) fn run(plan: &Plan) -> io::Result<Vec<Row>> {
    let stand = Stand::plain(HOUR)?;
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
        row("wake-ups a minute", a_minute, 2.0),
        row("its share of memory (PSS), MiB", mib("Pss"), 5.0),
        row("anonymous memory, MiB", mib("Anonymous"), 2.0),
        row("threads", threads, 3.0),
    ])
}

#[expect(
    clippy::disallowed_methods,
    reason = "that nothing happens can't be waited for"
)]
fn rest(span: Duration) {
    std::thread::sleep(span);
}
