//! Owners on Windows: security identifiers as text, such as `S-1-5-18`.

use std::io;
use std::os::windows::io::AsRawHandle;

use windows_permissions::constants::{SeObjectType, SecurityInformation};
use windows_permissions::wrappers::GetSecurityInfo;
use winsafe::co::{ERROR, TOKEN_INFORMATION_CLASS};
use winsafe::{ConvertSidToStringSid, HACCESSTOKEN, TokenInfo};

/// The system itself.
pub const SYSTEM: &str = "S-1-5-18";

/// The group of the administrators.
pub const ADMINISTRATORS: &str = "S-1-5-32-544";

/// Returns the owner of the object of an open handle.
///
/// # Errors
///
/// If the handle does not have the right `READ_CONTROL`.
pub fn of(handle: &impl AsRawHandle) -> io::Result<String> {
    let kind = SeObjectType::SE_KERNEL_OBJECT;
    let found = GetSecurityInfo(handle, kind, SecurityInformation::Owner)?;
    let owner = found.owner().map(ToString::to_string);
    owner.ok_or_else(|| io::Error::other("the object has no owner"))
}

/// Returns the user of this process.
///
/// # Errors
///
/// If the system call fails.
pub fn current_user() -> io::Result<String> {
    let token = HACCESSTOKEN::GetCurrentProcessToken();
    let information = token.GetTokenInformation(TOKEN_INFORMATION_CLASS::User);
    let TokenInfo::User(user) = information.map_err(failed)? else {
        return Err(no_identity());
    };
    ConvertSidToStringSid(user.User.Sid().ok_or_else(no_identity)?).map_err(failed)
}

/// Returns the owner for objects that this process creates: the administrators if its token has them as
/// the default owner, as is usual on Windows for their members, else its user.
///
/// # Errors
///
/// If the system call fails.
pub fn default_owner() -> io::Result<String> {
    let token = HACCESSTOKEN::GetCurrentProcessToken();
    let information = token.GetTokenInformation(TOKEN_INFORMATION_CLASS::Owner);
    let TokenInfo::Owner(default) = information.map_err(failed)? else {
        return Err(no_identity());
    };
    let default =
        ConvertSidToStringSid(default.Owner().ok_or_else(no_identity)?).map_err(failed)?;
    if default == ADMINISTRATORS {
        return Ok(default);
    }
    current_user()
}

fn no_identity() -> io::Error {
    io::Error::other("the system returned no user for this process")
}

fn failed(error: ERROR) -> io::Error {
    io::Error::from_raw_os_error(error.raw().cast_signed())
}
