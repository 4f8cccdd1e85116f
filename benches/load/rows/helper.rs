//! L1: the helper as a process.

use std::io;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::Plan;
use crate::figures::{Rounds, quantile, timed};
use crate::machine::{SERVER_CORE, pin};
use crate::report::{Bar, Row};
use crate::stand::{Floors, Stand, helper_program};

const HOUR: Duration = Duration::from_secs(3599);

/// Processes of each kind in one round.
const PROCESSES: usize = 80;

pub(crate) fn run(plan: &Plan) -> io::Result<Vec<Row>> {
    let stand = Stand::plain(HOUR)?;
    let floors = Floors::build(&stand)?;
    pin(SERVER_CORE);
    let mut rows = of(plan, &stand, &floors, helper_program(), "dynamic")?;
    match &plan.static_helper {
        Some(program) => rows.extend(of(plan, &stand, &floors, program, "static")?),
        None => crate::warn("the rows of the static helper are missing: use --static-helper PATH"),
    }
    Ok(rows)
}

fn of(
    plan: &Plan,
    stand: &Stand,
    floors: &Floors,
    program: &Path,
    linked: &str,
) -> io::Result<Vec<Row>> {
    let is_static = linked == "static";
    let socket = stand.socket();
    let floor = if is_static { "client-static" } else { "client" };
    let program = floors.install(program, &format!("{linked}-helper"))?;
    let mut kinds = [
        helper(&program, &socket),
        floors.client(floor, &socket),
        floors.client("client", &socket),
        Command::new("/bin/true"),
    ];
    let (mut of_floor, mut of_dynamic) = (Rounds::default(), Rounds::default());
    let mut of_true = Rounds::default();
    for _round in 0..plan.rounds {
        let [ours, floor, dynamic, nothing] = round(&mut kinds)?;
        of_floor.push_ratio(ours, floor);
        of_dynamic.push_ratio(ours, dynamic);
        of_true.push_ratio(ours, nothing);
    }
    let name = |what: &str| format!("{linked} helper: ratio to {what}");
    let memory = memory(floors, &program, &socket)?;
    let mut rows = Vec::new();
    if is_static {
        let same = name("a static C program that does the same");
        rows.push(Row::new("L1", same, of_floor, Bar::None));
        let dynamic = name("a C program that does the same");
        rows.push(Row::new("L1", dynamic, of_dynamic, Bar::AtMost(1.25)));
        rows.push(Row::new(
            "L1",
            name("/bin/true"),
            of_true,
            Bar::AtMost(1.05),
        ));
    } else {
        let same = name("a C program that does the same");
        rows.push(Row::new("L1", same, of_floor, Bar::AtMost(1.5)));
        rows.push(Row::new("L1", name("/bin/true"), of_true, Bar::None));
    }
    let name = format!("{linked} helper: resident memory, MiB");
    rows.push(Row::new("L1", name, memory.into(), Bar::AtMost(4.0)));
    Ok(rows)
}

fn helper(program: &Path, socket: &Path) -> Command {
    let mut command = Command::new(program);
    command
        .arg("data")
        .env_clear()
        .env("DOMO_TOKEN_SOCKET", socket);
    command
}

/// Returns the median duration of each kind, run alternately.
fn round(kinds: &mut [Command; 4]) -> io::Result<[Duration; 4]> {
    let mut spans: [Vec<Duration>; 4] = Default::default();
    for _process in 0..PROCESSES {
        for (command, spans) in kinds.iter_mut().zip(&mut spans) {
            command.stdin(Stdio::null()).stdout(Stdio::null());
            let (span, wait) = timed(|| command.status());
            if !wait?.success() {
                return Err(io::Error::other(format!("{command:?} failed")));
            }
            spans.push(span);
        }
    }
    Ok(spans.map(|mut spans| quantile(&mut spans, 0.5)))
}

/// Returns the peak memory of the helper, in MiB.
fn memory(floors: &Floors, program: &Path, socket: &Path) -> io::Result<f64> {
    let mut command = Command::new(floors.path("rss"));
    command.arg(program).arg("data").env_clear();
    command
        .env("DOMO_TOKEN_SOCKET", socket)
        .stdout(Stdio::null());
    let output = command.stderr(Stdio::piped()).output()?;
    let text = String::from_utf8_lossy(&output.stderr);
    let kib: Option<f64> = text.trim().parse().ok();
    let kib = kib.filter(|_| output.status.success());
    kib.map(|kib| kib / 1024.0)
        .ok_or_else(|| io::Error::other(text.into_owned()))
}
