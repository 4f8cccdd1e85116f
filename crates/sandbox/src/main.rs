//! `domo-sandbox`: a token endpoint like Domo's, for users without a Domo account.

use std::process::ExitCode;

use clap::Parser;
use domo_sandbox::program::{Flags, run};

fn main() -> ExitCode {
    run(&Flags::parse())
}
