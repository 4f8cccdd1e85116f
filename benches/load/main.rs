//! Measures the performance rows: each against its floor, pinned, interleaved in one run.
//!
//! `just bench` prints the table, `just bench --json` the same as JSON; `--write FILE` puts the table between the
//! markers of a document.

mod caller;
mod figures;
mod machine;
mod plot;
mod report;
mod rows;
mod soak;
mod stand;

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use lexopt::{Arg, Parser, ValueExt};

use report::Row;

/// What is measured, and how much.
pub(crate) struct Plan {
    /// Rounds; each measures everything once.
    pub(crate) rounds: usize,
    /// The duration of the load by many connections.
    pub(crate) span: Duration,
    /// How long an idle daemon is observed.
    pub(crate) idle: Duration,
    /// The helper, linked statically.
    pub(crate) static_helper: Option<PathBuf>,
    /// All rows if empty.
    rows: Vec<String>,
    json: bool,
    write: Option<PathBuf>,
}

enum Task {
    Measure(Plan),
    /// Sends that many requests to this socket, for counting their cost.
    Ask(u32, PathBuf),
    Soak(soak::Plan),
}

fn main() -> ExitCode {
    match read_arguments().map_err(io::Error::other).and_then(run) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) => {
            warn(&error.to_string());
            ExitCode::from(2)
        }
    }
}

fn run(task: Task) -> io::Result<bool> {
    match task {
        Task::Measure(plan) => measure(&plan),
        Task::Ask(calls, socket) => {
            let broker = domo_token_client::Broker::connect_to(socket);
            rows::ask(&broker.map_err(io::Error::other)?, calls).map(|()| true)
        }
        Task::Soak(plan) => soak::run(&plan),
    }
}

fn measure(plan: &Plan) -> io::Result<bool> {
    let machine = machine::description();
    let mut rows: Vec<Row> = Vec::new();
    for (id, measure) in rows::ALL {
        if plan.rows.is_empty() || plan.rows.iter().any(|wanted| wanted == id) {
            warn(&format!("measuring {id}"));
            rows.extend(measure(plan)?);
        }
    }
    if plan.json {
        print(&report::json(&rows, &machine, plan.rounds))?;
    } else {
        print(&report::table(&rows))?;
    }
    if let Some(path) = &plan.write {
        report::write(path, &rows, &machine, plan.rounds)?;
    }
    Ok(report::all_hold(&rows))
}

fn read_arguments() -> Result<Task, lexopt::Error> {
    let mut plan = Plan {
        rounds: 15,
        span: Duration::from_millis(500),
        idle: Duration::from_secs(60),
        static_helper: None,
        rows: Vec::new(),
        json: false,
        write: None,
    };
    let mut soak = None;
    let mut parser = Parser::from_env();
    while let Some(argument) = parser.next()? {
        match argument {
            // Cargo passes it.
            Arg::Long("bench") => {}
            Arg::Long("json") => plan.json = true,
            Arg::Long("rounds") => plan.rounds = parser.value()?.parse()?,
            Arg::Long("idle") => plan.idle = Duration::from_secs(parser.value()?.parse()?),
            Arg::Long("static-helper") => plan.static_helper = Some(parser.value()?.into()),
            Arg::Long("write") => plan.write = Some(parser.value()?.into()),
            Arg::Long("ask") => {
                let calls = parser.value()?.parse()?;
                return Ok(Task::Ask(calls, parser.value()?.into()));
            }
            Arg::Long("soak") => soak = Some(Duration::from_secs(parser.value()?.parse()?)),
            Arg::Value(row) => plan.rows.push(row.string()?),
            Arg::Long(_) | Arg::Short(_) => return Err(argument.unexpected()),
        }
    }
    Ok(match soak {
        Some(span) => Task::Soak(soak::Plan {
            span,
            write: plan.write,
        }),
        None => Task::Measure(plan),
    })
}

fn print(text: &str) -> io::Result<()> {
    io::stdout().lock().write_all(text.as_bytes())
}

/// Prints a remark for the reader of the figures.
pub(crate) fn warn(words: &str) {
    // Standard error may be closed.
    let _ = writeln!(io::stderr(), "bench: {words}");
}
