//! Measures each performance row and its lower bound, on pinned cores, interleaved in one run.
//!
//! `just bench` prints a table, `just bench --json` prints JSON. `--write FILE` replaces the table between the markers of
//! a document.

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

use clap::Parser;

use report::Row;

/// Measure each performance row against its lower bound
#[derive(Parser)]
pub(crate) struct Plan {
    /// Measure everything once in each of this many rounds
    #[arg(long, default_value_t = 15)]
    pub(crate) rounds: usize,
    /// Observe an idle daemon for this many seconds
    #[arg(long, default_value = "60", value_parser = seconds)]
    pub(crate) idle: Duration,
    /// Measure this statically linked helper too
    #[arg(long)]
    pub(crate) static_helper: Option<PathBuf>,
    /// Rows to measure [default: all]
    rows: Vec<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Replace the table in this document
    #[arg(long)]
    write: Option<PathBuf>,
    /// Request CALLS tokens from the broker at SOCKET, to count system calls or instructions
    #[arg(long, num_args = 2, value_names = ["CALLS", "SOCKET"])]
    ask: Option<Vec<String>>,
    /// Run a soak test for this many seconds
    #[arg(long, value_parser = seconds)]
    soak: Option<Duration>,
    /// Ignored; cargo passes it
    #[arg(long, hide = true)]
    bench: bool,
}

fn seconds(text: &str) -> Result<Duration, std::num::ParseIntError> {
    text.parse().map(Duration::from_secs)
}

/// The duration of a row's load.
pub(crate) const SPAN: Duration = Duration::from_millis(500);

fn main() -> ExitCode {
    match run(Plan::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) => {
            warn(&error.to_string());
            ExitCode::from(2)
        }
    }
}

fn run(plan: Plan) -> io::Result<bool> {
    if let Some([calls, socket]) = plan.ask.as_deref() {
        let broker = domo_token_client::Broker::connect_to(socket).map_err(io::Error::other)?;
        let calls = calls.parse().map_err(io::Error::other)?;
        return rows::ask(&broker, calls).map(|()| true);
    }
    match plan.soak {
        Some(span) => soak::run(&soak::Plan {
            span,
            write: plan.write,
        }),
        None => measure(&plan),
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

fn print(text: &str) -> io::Result<()> {
    io::stdout().lock().write_all(text.as_bytes())
}

/// Prints a notice on standard error.
pub(crate) fn warn(notice: &str) {
    // Standard error may be closed.
    let _ = writeln!(io::stderr(), "bench: {notice}");
}
