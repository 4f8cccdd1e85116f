//! The exit codes, from sysexits.h, and those of errors and refusals.

use domo_token_client::Error;
use domo_token_protocol::messages::RefusalKind;

pub(crate) const USAGE: u8 = 2;
pub(crate) const UNAVAILABLE: u8 = 69;
pub(crate) const SOFTWARE: u8 = 70;
pub(crate) const IO_ERROR: u8 = 74;
pub(crate) const TEMPORARY: u8 = 75;
pub(crate) const PROTOCOL: u8 = 76;
pub(crate) const NO_PERMISSION: u8 = 77;
pub(crate) const CONFIG: u8 = 78;

pub(crate) fn of_error(error: &Error) -> u8 {
    match error {
        Error::NotRunning { .. } | Error::Io { .. } => UNAVAILABLE,
        Error::NotPermitted { .. } | Error::Untrusted { .. } => NO_PERMISSION,
        Error::Unknown { .. }
        | Error::MinTtlTooLong { .. }
        | Error::Denied { .. }
        | Error::Gone { .. } => CONFIG,
        Error::TryLater { .. } => TEMPORARY,
        Error::Protocol { .. } => PROTOCOL,
        Error::InvalidScope(_) | Error::InvalidSocket { .. } => USAGE,
        Error::Broken { .. } | _ => SOFTWARE,
    }
}

/// Returns the exit code of a request with this result of `--explain`.
pub(crate) fn of_explanation(refused: Option<RefusalKind>) -> u8 {
    match refused {
        None => 0,
        Some(RefusalKind::NotPermitted) => NO_PERMISSION,
        Some(RefusalKind::Unavailable | RefusalKind::Busy) => TEMPORARY,
        Some(_) => CONFIG,
    }
}
