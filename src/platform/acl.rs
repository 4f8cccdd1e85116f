//! Access lists of files on Windows: which users may read, change or replace a file.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::windows::fs::OpenOptionsExt;
use std::os::windows::io::AsRawHandle;
use std::path::Path;

use domo_token_client::windows_owner::{ADMINISTRATORS, SYSTEM, current_user};
use windows_permissions::LocalBox;
use windows_permissions::constants::{AceFlags, AceType, SeObjectType, SecurityInformation};
use windows_permissions::structures::{Ace, SecurityDescriptor};
use windows_permissions::wrappers::{GetSecurityInfo, SetSecurityInfo};

/// The owner of Windows itself (`NT SERVICE\TrustedInstaller`).
const INSTALLER: &str = "S-1-5-80-956008885-3418522649-1831038044-1853292631-2271478464";

/// The owner of the file, which is checked separately.
const OWNER_RIGHTS: &str = "S-1-3-4";

/// `FILE_READ_DATA`, `GENERIC_READ`, `GENERIC_ALL`.
const READ: u32 = 0x1 | 0x8000_0000 | 0x1000_0000;

/// The rights to change a file or its permissions: `FILE_WRITE_DATA`, `FILE_APPEND_DATA`, `DELETE`, `WRITE_DAC`,
/// `WRITE_OWNER`, `GENERIC_WRITE`, `GENERIC_ALL`.
const WRITE: u32 = 0x2 | 0x4 | 0x1_0000 | 0x4_0000 | 0x8_0000 | 0x4000_0000 | 0x1000_0000;

/// The rights to replace files in a directory: `FILE_DELETE_CHILD`, `DELETE`, `WRITE_DAC`, `WRITE_OWNER`, `GENERIC_ALL`.
/// The right to add files is not sufficient.
const REPLACE: u32 = 0x40 | 0x1_0000 | 0x4_0000 | 0x8_0000 | 0x1000_0000;

/// The access to write a new file and to set its access list: `GENERIC_WRITE`, `READ_CONTROL`, `WRITE_DAC`.
const NEW: u32 = 0x4000_0000 | 0x2_0000 | 0x4_0000;

/// `FILE_FLAG_BACKUP_SEMANTICS`, which opening a directory requires.
const DIRECTORY: u32 = 0x0200_0000;

/// `READ_CONTROL`.
const READ_CONTROL: u32 = 0x2_0000;

/// What only this user, the system and the administrators may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Closed {
    /// Change the file.
    ToWriters,
    /// Change or read the file.
    ToReaders,
}

/// Returns which access other users have to an open file, as the end of a message; `None` if they have none.
///
/// # Errors
///
/// If the system returns an error.
pub fn fault(file: &File, closed: Closed) -> io::Result<Option<String>> {
    let wanted = match closed {
        Closed::ToWriters => vec![(WRITE, "change")],
        Closed::ToReaders => vec![(WRITE, "change"), (READ, "read")],
    };
    fault_of(file, &wanted)
}

/// Returns the same for a directory in which other users could replace files.
///
/// # Errors
///
/// If the directory can't be opened or the system returns an error.
pub fn validate_directory(directory: &Path) -> io::Result<Option<String>> {
    let mut options = OpenOptions::new();
    let opened = options
        .access_mode(READ_CONTROL)
        .custom_flags(DIRECTORY)
        .open(directory)?;
    fault_of(&opened, &[(REPLACE, "replace files in")])
}

fn fault_of(file: &File, wanted: &[(u32, &str)]) -> io::Result<Option<String>> {
    let us = current_user()?;
    let trusted = [&us, SYSTEM, ADMINISTRATORS, INSTALLER];
    let parts = SecurityInformation::Owner | SecurityInformation::Dacl;
    let found = GetSecurityInfo(file, SeObjectType::SE_FILE_OBJECT, parts)?;
    let owner = found.owner().map(ToString::to_string).unwrap_or_default();
    if !trusted.contains(&owner.as_str()) {
        let message = "must belong to you, the system or the administrators";
        return Ok(Some(format!("belongs to {owner}, {message}")));
    }
    let Some(list) = found.dacl() else {
        return Ok(Some(
            "has no access list, so every user has full access".to_owned(),
        ));
    };
    let grants = (0..list.len()).filter_map(|index| list.get_ace(index).and_then(grant));
    for (who, rights) in grants {
        if trusted.contains(&who.as_str()) || who == OWNER_RIGHTS {
            continue;
        }
        if let Some((_, what)) = wanted.iter().find(|(mask, _)| rights & mask != 0) {
            return Ok(Some(format!("lets {who} {what} it")));
        }
    }
    Ok(None)
}

/// Returns which rights an entry grants to whom. Entries that deny rights are ignored, because their order may vary.
fn grant(entry: &Ace) -> Option<(String, u32)> {
    const GRANTS: [AceType; 4] = [
        AceType::ACCESS_ALLOWED_ACE_TYPE,
        AceType::ACCESS_ALLOWED_CALLBACK_ACE_TYPE,
        AceType::ACCESS_ALLOWED_OBJECT_ACE_TYPE,
        AceType::ACCESS_ALLOWED_CALLBACK_OBJECT_ACE_TYPE,
    ];
    // An inherit-only entry is for what is created below, and not for the directory itself.
    if entry.flags().contains(AceFlags::InheritOnly) || !GRANTS.contains(&entry.ace_type()) {
        return None;
    }
    Some((entry.sid()?.to_string(), entry.mask().bits()))
}

/// Returns the command that closes a file to other users.
///
/// # Errors
///
/// If the system does not return the user of this process.
pub fn remedy(path: &Path) -> io::Result<String> {
    let us = current_user()?;
    let path = path.display();
    Ok(format!(
        "icacls \"{path}\" /inheritance:r /grant:r *{us}:F *{SYSTEM}:F *{ADMINISTRATORS}:F"
    ))
}

/// Creates a file that only this user, the system and the administrators can open at any time. Never replaces a file.
///
/// # Errors
///
/// If the file exists, or the system returns an error.
pub fn create_closed(path: &Path) -> io::Result<File> {
    let us = current_user()?;
    let list = format!("D:P(A;;FA;;;{us})(A;;FA;;;SY)(A;;FA;;;BA)");
    let list: LocalBox<SecurityDescriptor> = list.parse()?;
    let mut options = OpenOptions::new();
    let mut file = options
        .write(true)
        .create_new(true)
        .access_mode(NEW)
        // Until it has its access list no other process may open it.
        .share_mode(0)
        .open(path)?;
    let parts = SecurityInformation::Dacl | SecurityInformation::ProtectedDacl;
    // As a file object it would also get the directory's list on some systems.
    let kind = SeObjectType::SE_KERNEL_OBJECT;
    let closed = SetSecurityInfo(&mut file, kind, parts, None, None, list.dacl(), None);
    if let Err(error) = closed {
        drop(file);
        // It would prevent the next attempt.
        let _ = std::fs::remove_file(path);
        return Err(error);
    }
    Ok(file)
}

/// Returns owner and access list of a handle's object as text (SDDL).
///
/// # Errors
///
/// If the handle does not have the right `READ_CONTROL`.
pub fn text(handle: &impl AsRawHandle) -> io::Result<String> {
    let parts = SecurityInformation::Owner | SecurityInformation::Dacl;
    let found = GetSecurityInfo(handle, SeObjectType::SE_KERNEL_OBJECT, parts)?;
    Ok(found.as_sddl()?.to_string_lossy().into_owned())
}
