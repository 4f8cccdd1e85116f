//! Forwards signals to the watch.

use std::sync::mpsc::Sender;

use signal_hook::iterator::Signals;

use super::{Event, in_the_background};
use crate::error::CliError;
use crate::exit_code::TEMPORARY;
use crate::signals;
pub(super) use crate::signals::end_by;

pub(super) fn forward_signals(sender: Sender<Event>) -> Result<(), CliError> {
    let failed = |error| {
        CliError::new(
            TEMPORARY,
            format!("cannot install signal handlers: {error}"),
        )
    };
    let mut signals = Signals::new(signals::ending_with_file()).map_err(failed)?;
    signals::disable_immediate_exit();
    in_the_background(move || {
        for signal in signals.forever() {
            if sender.send(Event::Signal(signal)).is_err() {
                return;
            }
        }
    })
}
