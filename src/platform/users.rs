//! The user database: names of ids, and groups of users. Blocks: the database may be on the network.

use std::ffi::CString;
use std::io;
use std::sync::OnceLock;

use domo_token_core::access_policy::Identity;
use nix::unistd::{Gid, Group, Uid, User, getgrouplist, initgroups, setgid, setuid};

/// Looks up a user. The groups include `gid`, that of its process.
///
/// # Errors
///
/// What the system returns if the database is not available.
pub fn identity(uid: u32, gid: Option<u32>) -> io::Result<Identity> {
    let user = User::from_uid(Uid::from_raw(uid))?;
    let mut groups: Vec<Gid> = gid.map(Gid::from_raw).into_iter().collect();
    if let Some(user) = &user
        && let Ok(name) = CString::new(user.name.clone())
    {
        groups.extend(getgrouplist(&name, user.gid)?);
    }
    groups.sort_unstable_by_key(|group| group.as_raw());
    groups.dedup();
    let named = |gid: Gid| {
        let group = Group::from_gid(gid)?;
        Ok((gid.as_raw(), group.map(|group| group.name)))
    };
    Ok(Identity {
        user: user.map(|user| user.name),
        groups: groups.into_iter().map(named).collect::<io::Result<_>>()?,
    })
}

/// Returns the user id that stands for ids without a mapping in a user namespace.
#[must_use]
pub fn overflow_uid() -> u32 {
    static FOUND: OnceLock<u32> = OnceLock::new();
    *FOUND.get_or_init(|| overflow("/proc/sys/kernel/overflowuid"))
}

/// Returns the group id that stands for ids without a mapping in a user namespace.
#[must_use]
pub fn overflow_gid() -> u32 {
    static FOUND: OnceLock<u32> = OnceLock::new();
    *FOUND.get_or_init(|| overflow("/proc/sys/kernel/overflowgid"))
}

fn overflow(setting: &str) -> u32 {
    const DEFAULT: u32 = 65534;
    let text = std::fs::read_to_string(setting);
    let parsed = text.ok().and_then(|text| text.trim().parse().ok());
    parsed.unwrap_or(DEFAULT)
}

/// Returns the ids of the user of that name and of its primary group.
#[must_use]
pub fn ids(name: &str) -> Option<(u32, u32)> {
    let user = User::from_name(name).ok()??;
    Some((user.uid.as_raw(), user.gid.as_raw()))
}

/// Changes this process to the user of that name, with its groups, irrevocably.
///
/// # Errors
///
/// A message if there is no such user or the system denies it.
pub fn become_user(name: &str) -> Result<(), String> {
    let user = User::from_name(name).map_err(|error| error.to_string())?;
    let user = user.ok_or("no such user")?;
    let c_name = CString::new(name).map_err(|error| error.to_string())?;
    let changed = initgroups(&c_name, user.gid)
        .and_then(|()| setgid(user.gid))
        .and_then(|()| setuid(user.uid));
    changed.map_err(|error| error.to_string())
}

/// Returns the id of the group of that name.
#[must_use]
pub fn group(name: &str) -> Option<u32> {
    Some(Group::from_name(name).ok()??.gid.as_raw())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_has_a_name_and_the_process_group_counts_without_a_name() {
        let root = identity(0, Some(4_000_000_000)).unwrap();
        assert_eq!(root.user.as_deref(), Some("root"));
        assert!(root.groups.contains(&(0, Some("root".to_owned()))));
        assert!(root.groups.contains(&(4_000_000_000, None)));
        assert_eq!((ids("root"), ids("no-such-user")), (Some((0, 0)), None));
        assert_eq!((group("root"), group("no-such-group")), (Some(0), None));
    }

    #[test]
    fn user_missing_in_the_database_has_no_name_and_its_own_group() {
        let unknown = identity(3_999_999_999, Some(7)).unwrap();
        assert_eq!(unknown.user, None);
        assert_eq!(unknown.groups.len(), 1);
    }
}
