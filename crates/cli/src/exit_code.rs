//! The exit codes, from sysexits.h, and those of errors and refusals.

use domo_token_client::ErrorKind;

pub(crate) const USAGE: u8 = 2;
pub(crate) const UNAVAILABLE: u8 = 69;
pub(crate) const SOFTWARE: u8 = 70;
pub(crate) const IO_ERROR: u8 = 74;
pub(crate) const TEMPORARY: u8 = 75;
pub(crate) const PROTOCOL: u8 = 76;
pub(crate) const NO_PERMISSION: u8 = 77;
pub(crate) const CONFIG: u8 = 78;

/// Returns the exit code for a failed request.
pub(crate) fn of_kind(kind: ErrorKind) -> u8 {
    match kind {
        ErrorKind::NotRunning | ErrorKind::Io => UNAVAILABLE,
        ErrorKind::NotPermitted | ErrorKind::Untrusted => NO_PERMISSION,
        ErrorKind::UnknownClient
        | ErrorKind::UnknownScope
        | ErrorKind::MinTtlTooLong
        | ErrorKind::Rejected
        | ErrorKind::Gone => CONFIG,
        ErrorKind::Unavailable | ErrorKind::Busy | ErrorKind::Timeout => TEMPORARY,
        ErrorKind::IncompatibleVersion => PROTOCOL,
        ErrorKind::InvalidScope | ErrorKind::InvalidSocket => USAGE,
        ErrorKind::Protocol | _ => SOFTWARE,
    }
}
