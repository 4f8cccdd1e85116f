//! Advice on Windows.

use std::path::PathBuf;

use domo_token_client::{Error, ErrorKind};

/// Returns the advice for an error, with the command to type last.
pub(crate) fn advice(error: &Error) -> Option<String> {
    if error.kind() != ErrorKind::NotRunning {
        return None;
    }
    let data = std::env::var_os("ProgramData").map(PathBuf::from);
    let config = data.map(|data| data.join(r"domo-token\config.toml"));
    let is_set_up = config.is_none_or(|config| config.exists());
    let advice = if is_set_up {
        "start it with: domo-tokend"
    } else {
        "it is not set up yet; run: domo-tokend init"
    };
    Some(advice.to_owned())
}
