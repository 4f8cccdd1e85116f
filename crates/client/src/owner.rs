//! Whose a thing is, on Windows: security identifiers as text, like `S-1-5-18`.

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

/// The owner of what is behind an open handle.
///
/// # Errors
///
/// If the handle doesn't allow to see it (`READ_CONTROL`).
pub fn of(handle: &impl AsRawHandle) -> io::Result<String> {
    let kind = SeObjectType::SE_KERNEL_OBJECT;
    let found = GetSecurityInfo(handle, kind, SecurityInformation::Owner)?;
    let owner = found.owner().map(ToString::to_string);
    owner.ok_or_else(|| io::Error::other("it has no owner"))
}

/// Who runs this process.
///
/// # Errors
///
/// If the system doesn't tell.
pub fn us() -> io::Result<String> {
    let token = HACCESSTOKEN::GetCurrentProcessToken();
    let told = token.GetTokenInformation(TOKEN_INFORMATION_CLASS::User);
    let TokenInfo::User(user) = told.map_err(failed)? else {
        return Err(nonsense());
    };
    ConvertSidToStringSid(user.User.Sid().ok_or_else(nonsense)?).map_err(failed)
}

/// Whose the things should be that this process makes: the administrators' if it works as one of
/// them, as is usual on Windows, else its user's.
///
/// # Errors
///
/// If the system doesn't tell.
pub fn of_ours() -> io::Result<String> {
    let token = HACCESSTOKEN::GetCurrentProcessToken();
    let told = token.GetTokenInformation(TOKEN_INFORMATION_CLASS::Owner);
    let TokenInfo::Owner(usual) = told.map_err(failed)? else {
        return Err(nonsense());
    };
    let usual = ConvertSidToStringSid(usual.Owner().ok_or_else(nonsense)?).map_err(failed)?;
    if usual == ADMINISTRATORS {
        return Ok(usual);
    }
    us()
}

fn nonsense() -> io::Error {
    io::Error::other("the system doesn't tell who this process is")
}

fn failed(error: ERROR) -> io::Error {
    io::Error::from_raw_os_error(error.raw().cast_signed())
}
