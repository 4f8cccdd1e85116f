//! Forwards console events, which Windows has in place of signals, to the watch.

use std::sync::mpsc::Sender;

use tokio::runtime::Builder;
use tokio::signal::windows::{ctrl_break, ctrl_c, ctrl_close};

use super::{Event, in_the_background};
use crate::error::CliError;
use crate::exit_code::SOFTWARE;
use crate::stderr;

/// `STATUS_CONTROL_C_EXIT`, with which the console ends a program without a handler.
const ENDED_BY_CONSOLE: u32 = 0xC000_013A;

pub(super) fn forward_signals(sender: Sender<Event>) -> Result<(), CliError> {
    let failed = |error| {
        CliError::new(
            SOFTWARE,
            format!("cannot install a ctrl-c handler: {error}"),
        )
    };
    let runtime = Builder::new_current_thread().build().map_err(failed)?;
    let listened = (|| Ok((ctrl_c()?, ctrl_break()?, ctrl_close()?)))();
    let (mut c, mut pause, mut close) = listened.map_err(failed)?;
    in_the_background(move || {
        runtime.block_on(async {
            tokio::select! {
                _ = c.recv() => {}
                _ = pause.recv() => {}
                _ = close.recv() => {}
            }
        });
        // Fails only if the watch has ended.
        let _ = sender.send(Event::Signal(ENDED_BY_CONSOLE.cast_signed()));
    })
}

pub(super) fn end_by(code: i32) -> ! {
    stderr::finish();
    std::process::exit(code)
}
