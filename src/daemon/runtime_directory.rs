//! The runtime directory of a user's own broker, in which its socket is: `$XDG_RUNTIME_DIR`, which login
//! sessions set, and what to do without it.

use std::path::{Path, PathBuf};

use crate::config::{Env, xdg_path_in};

/// Exists where systemd is the init system (`sd_booted(3)`).
pub(crate) const SYSTEMD: &str = "/run/systemd/system";

/// The commands that create a runtime directory where nothing else does, for daemon and callers.
pub(crate) const CREATE: [&str; 2] = [
    "mkdir -p -m 700 ~/.run",
    "export XDG_RUNTIME_DIR=~/.run   # for callers too",
];

/// What a user other than root needs.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Need {
    /// Nothing: the variable names a directory, and not one of another user's.
    Nothing,
    /// The variable with this directory, which exists.
    Variable(PathBuf),
    /// This directory, which systemd creates for a user that lingers, and the variable.
    Lingering(PathBuf),
    /// A directory of the user's own, and the variable.
    Directory,
}

/// Returns what a user needs. `owner` returns the owner of a path that exists.
pub(crate) fn need(env: Env, uid: u32, owner: &dyn Fn(&Path) -> Option<u32>) -> Need {
    let usual = Path::new("/run/user").join(uid.to_string());
    let named = xdg_path_in(env, "XDG_RUNTIME_DIR");
    if named.is_some_and(|named| owner(&named).is_none_or(|owner| owner == uid)) {
        Need::Nothing
    } else if owner(&usual) == Some(uid) {
        Need::Variable(usual)
    } else if owner(Path::new(SYSTEMD)).is_some() {
        Need::Lingering(usual)
    } else {
        Need::Directory
    }
}

/// Returns the owner of a path that exists.
#[cfg(unix)]
pub(crate) fn owner(path: &Path) -> Option<u32> {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata(path).ok().map(|found| found.uid())
}

#[cfg(windows)]
pub(crate) fn owner(path: &Path) -> Option<u32> {
    path.exists().then_some(0)
}

/// Returns what to do if the daemon has no directory for its socket, with the command to type last.
#[cfg(unix)]
pub(super) fn advice(env: Env) -> String {
    let uid = rustix::process::getuid().as_raw();
    let name = crate::platform::users::identity(uid, None).ok();
    let name = name.and_then(|identity| identity.user);
    of_need(&need(env, uid, &owner), &name.unwrap_or(uid.to_string()))
}

/// Returns nothing: a pipe needs no directory.
#[cfg(windows)]
pub(super) fn advice(_: Env) -> String {
    of_need(&Need::Nothing, "")
}

/// Returns what to do if the variable names the socket's directory and that is another user's, as after `su`
/// without `-`.
#[cfg(unix)]
pub(super) fn advice_if_foreign(env: Env, socket: &Path) -> Option<String> {
    let uid = rustix::process::getuid().as_raw();
    let directory = xdg_path_in(env, "XDG_RUNTIME_DIR").filter(|_| uid != 0)?;
    let directory = socket.starts_with(&directory).then_some(directory)?;
    let other = owner(&directory).filter(|owner| *owner != uid)?;
    // Callers need it, too.
    let advice = match need(env, uid, &owner) {
        Need::Variable(own) => {
            format!("run: export XDG_RUNTIME_DIR={}; domo-tokend", own.display())
        }
        Need::Nothing | Need::Lingering(_) | Need::Directory => advice(env),
    };
    let directory = directory.display();
    Some(format!(
        "$XDG_RUNTIME_DIR is {directory}, which belongs to user {other}; {advice}"
    ))
}

#[cfg(windows)]
pub(super) fn advice_if_foreign(_: Env, _: &Path) -> Option<String> {
    None
}

fn of_need(need: &Need, user: &str) -> String {
    match need {
        Need::Nothing => "name one with --socket".to_owned(),
        Need::Variable(directory) => {
            format!("run: XDG_RUNTIME_DIR={} domo-tokend", directory.display())
        }
        Need::Lingering(directory) => format!(
            "{} exists only while you are logged in; to keep it, run: sudo loginctl enable-linger \
             {user}",
            directory.display()
        ),
        Need::Directory => {
            let [create, export] = CREATE.map(|line| line.split("   #").next().unwrap_or(line));
            format!(
                "set XDG_RUNTIME_DIR to a directory of your own, for callers too: {create}; \
                 {export}; domo-tokend &"
            )
        }
    }
}

// Paths and systemd of Unix.
#[cfg(all(test, unix))]
mod tests {
    use super::*;

    #[test]
    fn need_is_found_by_the_variable_the_directory_and_systemd() {
        let need = |variable: &str, paths: &[(&str, u32)]| {
            let env = |name: &str| (name == "XDG_RUNTIME_DIR").then(|| variable.into());
            let owner = |path: &Path| {
                let mut paths = paths.iter();
                let found = paths.find(|(known, _)| Path::new(known) == path);
                found.map(|(_, owner)| *owner)
            };
            need(&env, 1000, &owner)
        };
        let usual = PathBuf::from("/run/user/1000");
        let (own, foreign) = (("/run/user/1000", 1000), ("/run/user/1000", 0));
        assert_eq!(need("/run/user/1000", &[]), Need::Nothing);
        assert_eq!(need("/run/user/1000", &[own]), Need::Nothing);
        let root = ("/run/user/0", 0);
        assert_eq!(
            need("/run/user/0", &[root, own]),
            Need::Variable(usual.clone())
        );
        assert_eq!(need("", &[own]), Need::Variable(usual.clone()));
        assert_eq!(need("relative", &[own]), Need::Variable(usual.clone()));
        let systemd = (SYSTEMD, 0);
        assert_eq!(need("", &[systemd, foreign]), Need::Lingering(usual));
        assert_eq!(need("", &[]), Need::Directory);
    }

    #[test]
    fn advice_ends_with_a_command_that_can_be_pasted() {
        let usual = PathBuf::from("/run/user/1000");
        let ends = |need: &Need, end: &str| {
            let advice = of_need(need, "etl");
            assert!(advice.ends_with(end), "{advice}");
        };
        ends(
            &Need::Variable(usual.clone()),
            "run: XDG_RUNTIME_DIR=/run/user/1000 domo-tokend",
        );
        ends(
            &Need::Lingering(usual),
            "run: sudo loginctl enable-linger etl",
        );
        ends(
            &Need::Directory,
            ": mkdir -p -m 700 ~/.run; export XDG_RUNTIME_DIR=~/.run; domo-tokend &",
        );
    }
}
