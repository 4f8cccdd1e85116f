//! The daemon's log: which lines it has.

mod common;

use common::{Daemon, HOUR, config_text, folder, run_to_end, sandbox};

#[test]
fn rust_log_of_another_program_is_ignored_with_one_notice() {
    let sandbox = sandbox(HOUR);
    let folder = folder(&config_text(&sandbox, "[\"data\"]"));
    let mut command = Daemon::command_of_config(folder.path());
    command.env("RUST_LOG", "my_app=trace");
    let daemon = Daemon::start_as(command, folder);
    let notices = daemon.log.matches("RUST_LOG ignored").count();
    assert_eq!(notices, 1, "{}", daemon.log);
}

#[test]
fn log_flag_of_another_program_is_wrong_usage() {
    let sandbox = sandbox(HOUR);
    let folder = folder(&config_text(&sandbox, "[\"data\"]"));
    let mut command = Daemon::command_of_config(folder.path());
    command.args(["--log", "my_app=trace"]);
    let (code, stderr) = run_to_end(command);
    assert_eq!(code, Some(2), "{stderr}");
    assert!(stderr.contains("no log level"), "{stderr}");
}
