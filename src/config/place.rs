//! Where a config file is, by what the environment says.

use std::path::{Path, PathBuf};

use super::Env;

/// The path that a variable holds, unless it is empty.
#[must_use]
pub fn path_in(env: Env, name: &str) -> Option<PathBuf> {
    env(name)
        .filter(|value| !value.is_empty())
        .map(PathBuf::from)
}

/// The absolute path that a variable of the XDG Base Directory Specification holds, which has
/// relative ones ignored.
#[must_use]
pub fn xdg_path_in(env: Env, name: &str) -> Option<PathBuf> {
    path_in(env, name).filter(|path| path.is_absolute())
}

/// Where the config file is: `flag`, else the first of the places of the manual; `None` if there
/// is no file at any of them. A file named by flag or variable is taken as named, so that its
/// absence is an error and not another config.
#[must_use]
pub fn find(flag: Option<PathBuf>, env: Env, exists: &dyn Fn(&Path) -> bool) -> Option<PathBuf> {
    if let Some(named) = named_place(flag, env) {
        return Some(named);
    }
    let service = path_in(env, "CONFIGURATION_DIRECTORY").map(|dir| dir.join("config.toml"));
    let places = if cfg!(windows) {
        [None, None, host_place(env)]
    } else {
        [service, own_place(env), host_place(env)]
    };
    places.into_iter().flatten().find(|path| exists(path))
}

/// The file that flag or variable names.
#[must_use]
pub fn named_place(flag: Option<PathBuf>, env: Env) -> Option<PathBuf> {
    flag.or_else(|| path_in(env, "DOMO_TOKEN_CONFIG"))
}

/// Where the config of a user's own broker is; there is none on Windows.
#[must_use]
pub fn own_place(env: Env) -> Option<PathBuf> {
    let of_home = || Some(path_in(env, "HOME")?.join(".config"));
    let directory = xdg_path_in(env, "XDG_CONFIG_HOME").or_else(of_home);
    directory.map(|directory| directory.join("domo-token/config.toml"))
}

/// Where the host's config is.
#[must_use]
pub fn host_place(env: Env) -> Option<PathBuf> {
    let directory = if cfg!(windows) {
        path_in(env, "ProgramData")?
    } else {
        PathBuf::from("/etc")
    };
    Some(directory.join("domo-token").join("config.toml"))
}
