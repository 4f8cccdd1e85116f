//! What the performance rows come to: each against its floor, pinned, in the same interleaved run.
//!
//! `just bench` prints the table, `just bench --json` the same for machines.

mod caller;
mod figures;
mod machine;
mod report;
mod rows;
mod stand;

use std::io::{self, Write};
use std::process::ExitCode;
use std::time::Duration;

use report::Row;

/// How much is measured.
pub(crate) struct Plan {
    /// Rounds, in each of which everything is measured once.
    pub(crate) rounds: usize,
    /// How long a crowd asks.
    pub(crate) span: Duration,
}

fn main() -> ExitCode {
    match measure() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) => {
            warn(&error.to_string());
            ExitCode::from(2)
        }
    }
}

fn measure() -> io::Result<bool> {
    let plan = Plan {
        rounds: 5,
        span: Duration::from_millis(500),
    };
    let machine = machine::description();
    let rows: Vec<Row> = rows::trip::run(&plan)?;
    print(&report::table(&rows))?;
    print(&report::json(&rows, &machine, plan.rounds))?;
    Ok(report::all_hold(&rows))
}

fn print(text: &str) -> io::Result<()> {
    io::stdout().lock().write_all(text.as_bytes())
}

/// What the reader of the figures should know.
pub(crate) fn warn(words: &str) {
    // With standard error closed there is nobody to tell.
    let _told = writeln!(io::stderr(), "bench: {words}");
}
