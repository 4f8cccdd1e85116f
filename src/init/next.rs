//! The commands that come after `init`, as they are typed on this host.

use std::path::Path;

use crate::check;
use crate::config::{Env, xdg_path_in};

/// Exists where systemd is the init system (`sd_booted(3)`).
const SYSTEMD: &str = "/run/systemd/system";

/// Starts the service and its socket, now and at each boot.
const ENABLE: &str = "systemctl enable --now domo-tokend.socket domo-tokend";

/// The commands that start the daemon with a new config. `named` is the config if a flag names it.
pub(super) fn commands(config: &Path, named: Option<&Path>, env: Env) -> Vec<String> {
    let host = Host {
        user: user(),
        env,
        exists: &Path::exists,
    };
    if check::service_group(config).is_some() && host.exists(SYSTEMD) {
        return host.start_service();
    }
    host.start_own(named)
}

/// Number and name of the user, unless that is root.
#[cfg(unix)]
fn user() -> Option<(u32, String)> {
    let uid = rustix::process::getuid();
    if uid.is_root() {
        return None;
    }
    let identity = crate::users::identity(uid.as_raw(), None).ok()?;
    Some((uid.as_raw(), identity.user?))
}

#[cfg(windows)]
fn user() -> Option<(u32, String)> {
    None
}

/// What decides which commands work.
struct Host<'a> {
    user: Option<(u32, String)>,
    env: Env<'a>,
    exists: &'a dyn Fn(&Path) -> bool,
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

    /// A broker that runs as this user.
    fn start_own(&self, named: Option<&Path>) -> Vec<String> {
        let Some((uid, name)) = self.user.as_ref().filter(|_| self.exists(SYSTEMD)) else {
            return vec![by_hand(named)];
        };
        let mut commands = Vec::new();
        if !self.exists(&format!("/var/lib/systemd/linger/{name}")) {
            commands.push(format!(
                "sudo loginctl enable-linger {name}   # else your broker ends when you log out"
            ));
        }
        let has_unit = ["/etc/systemd/user", "/usr/lib/systemd/user"]
            .iter()
            .any(|units| self.exists(&format!("{units}/domo-tokend.socket")));
        let start = if has_unit && named.is_none() {
            "systemctl --user enable --now domo-tokend.socket".to_owned()
        } else {
            by_hand(named)
        };
        // No session has set the variable, as after su; both commands need it.
        let variable = match xdg_path_in(self.env, "XDG_RUNTIME_DIR") {
            Some(_) => String::new(),
            None => format!("XDG_RUNTIME_DIR=/run/user/{uid} "),
        };
        commands.push(variable + &start);
        commands
    }

    fn exists(&self, path: &str) -> bool {
        (self.exists)(Path::new(path))
    }
}

fn by_hand(named: Option<&Path>) -> String {
    match named {
        Some(config) => format!("domo-tokend --config {} &", config.display()),
        None => "domo-tokend &".to_owned(),
    }
}

#[cfg(test)]
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
            exists: &|path| paths.iter().any(|known| Path::new(known) == path),
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
        let commands = with(&[UNIT], &[], |host| host.start_own(None));
        assert_eq!(commands, ["domo-tokend &"], "no systemd");
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
