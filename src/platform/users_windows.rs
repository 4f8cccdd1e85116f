//! The user database: groups by name. Blocks: the database may be on the network.
//!
//! Windows has no numeric user ids, and callers are not identified by user there, so that no user is looked
//! up.

use std::io;

use domo_token_core::access_policy::Identity;
use winsafe::co::SID_NAME_USE;
use winsafe::{ConvertSidToStringSid, ConvertStringSidToSid, LookupAccountName};

/// # Errors
///
/// None.
pub fn identity(_uid: u32, _gid: Option<u32>) -> io::Result<Identity> {
    Ok(Identity::default())
}

/// No number is without a user, as none has one.
#[must_use]
pub fn overflow_uid() -> u32 {
    u32::MAX
}

/// No user has a number.
#[must_use]
pub fn ids(_name: &str) -> Option<(u32, u32)> {
    None
}

/// No group has a number.
#[must_use]
pub fn group(_name: &str) -> Option<u32> {
    None
}

/// Returns the security identifier of the group of that name, as text. An identifier stands for itself.
#[must_use]
pub fn group_sid(name: &str) -> Option<String> {
    const KINDS: [SID_NAME_USE; 3] = [
        SID_NAME_USE::Group,
        SID_NAME_USE::Alias,
        SID_NAME_USE::WellKnownGroup,
    ];
    if let Ok(sid) = ConvertStringSidToSid(name) {
        return ConvertSidToStringSid(&sid).ok();
    }
    let (_, sid, kind) = LookupAccountName(None, name).ok()?;
    let sid = ConvertSidToStringSid(&sid).ok()?;
    KINDS.contains(&kind).then_some(sid)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn group_is_found_by_name_and_by_sid() {
        assert_eq!(group_sid("Everyone").as_deref(), Some("S-1-1-0"));
        assert_eq!(group_sid("S-1-5-32-545").as_deref(), Some("S-1-5-32-545"));
        assert_eq!(
            (group_sid("no-such-group"), group_sid("S-1-x")),
            (None, None)
        );
    }
}
