//! L2: the client crate with a cached token.

use std::io;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use domo_token_client::Broker;

use crate::Plan;
use crate::figures::{Rounds, worked};
use crate::machine::{CALLER_CORE, pin};
use crate::report::{Bar, Row};
use crate::stand::Stand;

const HOUR: Duration = Duration::from_secs(3599);

/// Calls in one round.
const CALLS: u32 = 100_000;

pub(crate) fn run(plan: &Plan) -> io::Result<Vec<Row>> {
    let stand = Stand::plain(HOUR)?;
    pin(CALLER_CORE);
    let broker = stand.broker()?;
    ask(&broker, 2)?;
    let mut each = Rounds::default();
    for _round in 0..plan.rounds {
        let (span, asked) = worked(|| ask(&broker, CALLS));
        asked?;
        each.push(span.as_secs_f64() * 1e9 / f64::from(CALLS));
    }
    let name = "client crate, cached token: nanoseconds of CPU time per call".to_owned();
    let mut rows = vec![Row::new("L2", name, each, Bar::AtMost(100.0))];
    if let Some(calls) = system_calls(&stand.socket())? {
        let name = "client crate, cached token: system calls of 1000 calls".to_owned();
        rows.push(Row::new("L2", name, calls.into(), Bar::AtMost(0.0)));
    }
    Ok(rows)
}

/// Requests a token that many times.
pub(crate) fn ask(broker: &Broker, calls: u32) -> io::Result<()> {
    for _call in 0..calls {
        std::hint::black_box(broker.token("data").map_err(io::Error::other)?);
    }
    Ok(())
}

/// Returns the additional system calls of a thousand more calls.
fn system_calls(socket: &Path) -> io::Result<Option<f64>> {
    let (Some(few), Some(many)) = (traced(socket, 1000)?, traced(socket, 2000)?) else {
        return Ok(None);
    };
    Ok(Some(many - few))
}

/// Returns the number of system calls of this program for that many calls.
fn traced(socket: &Path, calls: u32) -> io::Result<Option<f64>> {
    let mut command = Command::new("strace");
    command.args(["-f", "-c", "-U", "calls", "-o", "/dev/stderr"]);
    command
        .arg(std::env::current_exe()?)
        .arg("--ask")
        .arg(calls.to_string())
        .arg(socket);
    command.stdout(Stdio::null()).stderr(Stdio::piped());
    let output = match command.output() {
        Ok(output) => output,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            crate::warn("system calls are not counted: strace is not installed");
            return Ok(None);
        }
        Err(error) => return Err(error),
    };
    let text = String::from_utf8_lossy(&output.stderr);
    let total = text
        .lines()
        .find_map(|line| line.trim().strip_suffix("total"));
    let sum = total.and_then(|count| count.trim().parse::<f64>().ok());
    let sum = sum.filter(|_| output.status.success());
    sum.map(Some)
        .ok_or_else(|| io::Error::other(text.into_owned()))
}
