//! Signals that end the helper.

use std::fs;
use std::process::exit;
use std::sync::atomic::{AtomicBool, Ordering};

use signal_hook::consts::{SIGALRM, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2, SIGXCPU};
use signal_hook::flag::register_conditional_shutdown;
use signal_hook::low_level::emulate_default_handler;

use crate::stderr;

/// The signals that end the helper. Those that were ignored when the helper was started (by `nohup`,
/// or by a shell for a job in the background) stay ignored.
const ENDING: [i32; 4] = [SIGHUP, SIGINT, SIGQUIT, SIGTERM];

/// Further signals whose default action ends a process, which would leave a file behind.
const ENDING_BY_DEFAULT: [i32; 4] = [SIGUSR1, SIGUSR2, SIGALRM, SIGXCPU];

/// Added to a signal's number, it is the exit code that shells use.
const EXIT_BASE: i32 = 128;

/// Whether the handlers of [`end_first_process`] end the process.
static ENDS_IMMEDIATELY: AtomicBool = AtomicBool::new(true);

/// Makes signals end this process if it is the first of its PID namespace, as in a container: to such
/// a process the kernel does not apply the default action. `execve` removes the handlers.
pub(crate) fn end_first_process() {
    if !is_first_process() {
        return;
    }
    for signal in not_ignored(&status(), &ENDING) {
        // Without the handler, the process ends later, by SIGKILL.
        let _ = register_conditional_shutdown(signal, EXIT_BASE + signal, &ENDS_IMMEDIATELY);
    }
}

/// Stops the handlers of [`end_first_process`] from exiting: the caller has its own handlers now.
pub(crate) fn disable_immediate_exit() {
    ENDS_IMMEDIATELY.store(false, Ordering::SeqCst);
}

/// Returns the signals that a process must handle to remove a file when it ends.
pub(crate) fn ending_with_file() -> Vec<i32> {
    let mut ending = ENDING.to_vec();
    // They do not end the first process.
    if !is_first_process() {
        ending.extend(ENDING_BY_DEFAULT);
    }
    not_ignored(&status(), &ending)
}

fn status() -> String {
    fs::read_to_string("/proc/self/status").unwrap_or_default()
}

/// Ends the process by the signal, so that its parent sees what ended it. The first process of a PID
/// namespace cannot end like that, and exits with the code that shells use for the signal.
pub(crate) fn end_by(signal: i32) -> ! {
    stderr::finish();
    if !is_first_process() {
        let _ = emulate_default_handler(signal);
    }
    exit(EXIT_BASE + signal)
}

fn is_first_process() -> bool {
    std::process::id() == 1
}

/// Returns those of `signals` that `/proc/self/status` does not list as ignored (proc(5)).
fn not_ignored(status: &str, signals: &[i32]) -> Vec<i32> {
    let mask = status
        .lines()
        .find_map(|line| line.strip_prefix("SigIgn:"))
        .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .unwrap_or(0);
    // The lowest bit is signal 1.
    let is_ignored = |signal: &i32| mask >> (signal - 1) & 1 == 1;
    let signals = signals.iter().copied();
    signals.filter(|signal| !is_ignored(signal)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_ignored_at_the_start_are_not_handled() {
        assert_eq!(
            not_ignored("Name:\tx\nSigIgn:\t0000000000001001\n", &ENDING),
            [2, 3, 15]
        );
        let two_ignored = "SigIgn:\t0000000000000006\n";
        assert_eq!(not_ignored(two_ignored, &ENDING), [1, 15]);
        for unknown in ["", "SigIgn:\t0\n", "SigIgn:\tx\n"] {
            assert_eq!(not_ignored(unknown, &ENDING), ENDING);
        }
    }
}
