//! Signals as messages.

use std::sync::mpsc::Sender;

use signal_hook::iterator::Signals;

use super::{News, in_the_background};
use crate::error::{CliError, TEMPORARY};
use crate::signals;
pub(super) use crate::signals::end_by;

pub(super) fn pass_on_signals(sender: Sender<News>) -> Result<(), CliError> {
    let failed = |error| CliError::new(TEMPORARY, format!("signals can't be caught: {error}"));
    let mut signals = Signals::new(signals::ending_with_file()).map_err(failed)?;
    signals::take_over();
    in_the_background(move || {
        for signal in signals.forever() {
            if sender.send(News::Signal(signal)).is_err() {
                return;
            }
        }
    })
}
