//! Finds the config file.

use std::io;
use std::path::{Path, PathBuf};

use super::Env;

/// Returns the path that a variable holds, unless it is empty.
#[must_use]
pub fn path_in(env: Env, name: &str) -> Option<PathBuf> {
    env(name)
        .filter(|value| !value.is_empty())
        .map(PathBuf::from)
}

/// Returns the absolute path that a variable of the XDG Base Directory Specification holds. By that
/// specification, relative paths are ignored.
#[must_use]
pub fn xdg_path_in(env: Env, name: &str) -> Option<PathBuf> {
    path_in(env, name).filter(|path| path.is_absolute())
}

/// Returns the config file: `flag`, else the first default path that exists, in the order of the manual;
/// `None` if none does. A file named by flag or variable is returned even if it is missing, so that this is
/// an error and no other config is used.
#[must_use]
pub fn find(flag: Option<PathBuf>, env: Env, exists: &dyn Fn(&Path) -> bool) -> Option<PathBuf> {
    if let Some(named) = explicit_config_path(flag, env) {
        return Some(named);
    }
    let service = path_in(env, "CONFIGURATION_DIRECTORY").map(|dir| dir.join("config.toml"));
    let places = if cfg!(windows) {
        [None, None, host_config_path(env)]
    } else {
        [service, user_config_path(env), host_config_path(env)]
    };
    places.into_iter().flatten().find(|path| exists(path))
}

/// Returns [`find`]'s result for the files that this process can see. A user's own config that cannot be looked at counts as
/// absent; a service's or the host's is there, and reading it is an error, unless the environment has a
/// client instead of the host's.
#[must_use]
pub fn locate(flag: Option<PathBuf>, env: Env) -> Option<PathBuf> {
    let is_set = |name| path_in(env, name).is_some();
    let has_client = is_set("DOMO_CLIENT_ID") && !is_set("CONFIGURATION_DIRECTORY");
    let host = host_config_path(env).filter(|_| has_client);
    let optional = [user_config_path(env), host];
    find(flag, env, &|path| match path.try_exists() {
        Ok(exists) => exists,
        Err(error) => {
            let is_denied = error.kind() == io::ErrorKind::PermissionDenied;
            is_denied && !optional.iter().flatten().any(|other| other == path)
        }
    })
}

/// Returns the file that the flag or the variable names.
#[must_use]
pub fn explicit_config_path(flag: Option<PathBuf>, env: Env) -> Option<PathBuf> {
    flag.or_else(|| path_in(env, "DOMO_TOKEN_CONFIG"))
}

/// Returns the default path of the config of a user's own broker; there is none on Windows.
#[must_use]
pub fn user_config_path(env: Env) -> Option<PathBuf> {
    let of_home = || Some(path_in(env, "HOME")?.join(".config"));
    let directory = xdg_path_in(env, "XDG_CONFIG_HOME").or_else(of_home);
    directory.map(|directory| directory.join("domo-token/config.toml"))
}

/// Returns the default path of the host's config.
#[must_use]
pub fn host_config_path(env: Env) -> Option<PathBuf> {
    let directory = if cfg!(windows) {
        path_in(env, "ProgramData")?
    } else {
        PathBuf::from("/etc")
    };
    Some(directory.join("domo-token").join("config.toml"))
}
