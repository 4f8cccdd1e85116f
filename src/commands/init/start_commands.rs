//! The commands that come after `init`, as they are typed on this host.

use std::path::Path;

use crate::commands::check;
use crate::config::Env;
#[cfg(unix)]
use crate::credentials::shell_quoted;
use crate::daemon::runtime_directory::{self, CREATE, Need, SYSTEMD};

/// Starts the service and its socket, now and at each boot.
const ENABLE: &str = "systemctl enable --now domo-tokend.socket domo-tokend";

/// Returns the commands that start the daemon with a new config. `named` is the config if a flag names it.
pub(super) fn commands(config: &Path, named: Option<&Path>, env: Env) -> Vec<String> {
    let host = Host {
        user: user(),
        env,
        owner: &runtime_directory::owner,
    };
    if check::service_group(config).is_some() && host.exists(SYSTEMD) {
        return host.start_service();
    }
    host.start_own(named)
}

/// Returns the user's number and name, unless it is root.
#[cfg(unix)]
fn user() -> Option<(u32, String)> {
    let uid = rustix::process::getuid();
    if uid.is_root() {
        return None;
    }
    let uid = uid.as_raw();
    let identity = crate::platform::users::identity(uid, None).ok();
    let name = identity.and_then(|identity| identity.user);
    Some((uid, name.unwrap_or_else(|| uid.to_string())))
}

#[cfg(windows)]
fn user() -> Option<(u32, String)> {
    None
}

/// What decides which commands work.
struct Host<'a> {
    user: Option<(u32, String)>,
    env: Env<'a>,
    /// Returns the owner of a path that exists.
    owner: &'a dyn Fn(&Path) -> Option<u32>,
}

impl Host<'_> {
    fn start_service(&self) -> Vec<String> {
        let caller = (self.env)("SUDO_USER").and_then(|name| name.into_string().ok());
        let is_plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        let is_user =
            |name: &String| !name.is_empty() && name != "root" && name.chars().all(is_plain);
        match caller.filter(is_user) {
            Some(user) => vec![
                format!("sudo {ENABLE}"),
                format!("sudo adduser {user} domo-token-users   # then log in again"),
            ],
            None => vec![ENABLE.to_owned()],
        }
    }

    /// Returns the commands that start a broker as this user.
    fn start_own(&self, named: Option<&Path>) -> Vec<String> {
        let Some((uid, name)) = &self.user else {
            return vec![by_hand(named)];
        };
        let mut commands = Vec::new();
        // No session has set the variable, as after su; both ways to start the daemon need it.
        let variable = match runtime_directory::need(self.env, *uid, self.owner) {
            Need::Nothing => String::new(),
            Need::Variable(directory) | Need::Lingering(directory) => {
                format!("XDG_RUNTIME_DIR={} ", directory.display())
            }
            Need::Directory => {
                commands.extend(CREATE.map(str::to_owned));
                String::new()
            }
        };
        let has_systemd = self.exists(SYSTEMD);
        if has_systemd && !self.exists(&format!("/var/lib/systemd/linger/{name}")) {
            commands.push(format!(
                "sudo loginctl enable-linger {name}   # else your broker ends when you log out"
            ));
        }
        let has_unit = ["/etc/systemd/user", "/usr/lib/systemd/user"]
            .iter()
            .any(|units| self.exists(&format!("{units}/domo-tokend.socket")));
        let start = if has_systemd && has_unit && named.is_none() {
            "systemctl --user enable --now domo-tokend.socket".to_owned()
        } else {
            by_hand(named)
        };
        commands.push(variable + &start);
        commands
    }

    fn exists(&self, path: &str) -> bool {
        (self.owner)(Path::new(path)).is_some()
    }
}

fn by_hand(named: Option<&Path>) -> String {
    match named {
        Some(config) => {
            let config = quoted(&config.display().to_string());
            format!("domo-tokend --config {config} &")
        }
        None => "domo-tokend &".to_owned(),
    }
}

#[cfg(unix)]
fn quoted(path: &str) -> String {
    shell_quoted(path)
}

#[cfg(windows)]
fn quoted(path: &str) -> String {
    if path.contains(' ') {
        format!("\"{path}\"")
    } else {
        path.to_owned()
    }
}

// Paths and systemd of Unix.
#[cfg(all(test, unix))]
mod tests {
    use std::ffi::OsString;

    use super::*;

    const UNIT: &str = "/usr/lib/systemd/user/domo-tokend.socket";

    fn with<T>(paths: &[&str], variables: &[(&str, &str)], ask: impl FnOnce(&Host) -> T) -> T {
        let variables: Vec<_> = variables
            .iter()
            .map(|(name, value)| ((*name).to_owned(), OsString::from(value)))
            .collect();
        ask(&Host {
            user: Some((1000, "etl".to_owned())),
            env: &|name| {
                let found = variables.iter().find(|(known, _)| known == name);
                found.map(|(_, value)| value.clone())
            },
            owner: &|path| {
                let mut paths = paths.iter();
                paths.any(|known| Path::new(known) == path).then_some(1000)
            },
        })
    }

    #[test]
    fn own_broker_needs_lingering_once_and_its_unit_if_there_is_one() {
        let session = [("XDG_RUNTIME_DIR", "/run/user/1000")];
        let linger = "sudo loginctl enable-linger etl   # else your broker ends when you log out";
        let enable = "systemctl --user enable --now domo-tokend.socket";
        let commands = with(&[SYSTEMD, UNIT], &session, |host| host.start_own(None));
        assert_eq!(commands, [linger, enable]);
        let commands = with(&[SYSTEMD], &session, |host| host.start_own(None));
        assert_eq!(commands, [linger, "domo-tokend &"]);
        let lingers = [SYSTEMD, UNIT, "/var/lib/systemd/linger/etl"];
        let commands = with(&lingers, &[], |host| host.start_own(None));
        assert_eq!(
            commands,
            [format!("XDG_RUNTIME_DIR=/run/user/1000 {enable}")]
        );
        let named = Some(Path::new("/c.toml"));
        let commands = with(&lingers, &session, |host| host.start_own(named));
        assert_eq!(commands, ["domo-tokend --config /c.toml &"]);
        let named = Some(Path::new("/my dir/c.toml"));
        let commands = with(&lingers, &session, |host| host.start_own(named));
        assert_eq!(commands, ["domo-tokend --config '/my dir/c.toml' &"]);
        let commands = with(&[UNIT], &session, |host| host.start_own(None));
        assert_eq!(commands, ["domo-tokend &"], "no systemd");
    }

    #[test]
    fn own_broker_without_systemd_is_given_a_runtime_directory_first() {
        let commands = with(&[UNIT], &[], |host| host.start_own(None));
        let [create, export] = CREATE;
        assert_eq!(commands, [create, export, "domo-tokend &"]);
        let relative = [("XDG_RUNTIME_DIR", "run")];
        let commands = with(&[UNIT], &relative, |host| host.start_own(None));
        assert_eq!(commands, [create, export, "domo-tokend &"]);
        let runtime = "/run/user/1000";
        let commands = with(&[runtime], &[], |host| host.start_own(None));
        assert_eq!(commands, ["XDG_RUNTIME_DIR=/run/user/1000 domo-tokend &"]);
        let root = with(&[], &[], |host| {
            let root = Host {
                user: None,
                ..*host
            };
            root.start_own(None)
        });
        assert_eq!(root, ["domo-tokend &"]);
    }

    fn service(host: &Host) -> Vec<String> {
        host.start_service()
    }

    #[test]
    fn service_is_enabled_and_the_user_behind_sudo_joins_its_callers() {
        assert_eq!(with(&[], &[], service), [ENABLE]);
        let sudo = with(&[], &[("SUDO_USER", "ann")], service);
        let join = "sudo adduser ann domo-token-users   # then log in again";
        assert_eq!(sudo, [format!("sudo {ENABLE}"), join.to_owned()]);
        let odd = with(&[], &[("SUDO_USER", "a; b")], service);
        assert_eq!(odd, [ENABLE]);
    }
}
