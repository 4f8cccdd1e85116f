//! Advice on Unix, based on the files of the host. Nothing here runs unless there is an error.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use domo_token_client::{Error, HOST_SOCKET, SocketOrigin};

use crate::shell_quote;
use rustix::fs::{Access, access};

const HOST_CONFIG: &str = "/etc/domo-token/config.toml";

/// Exists where systemd is the init system (`sd_booted(3)`).
const SYSTEMD: &str = "/run/systemd/system";

/// Where systemd finds units (`systemd.unit(5)`), below each `system` or `user`.
const UNITS: [&str; 4] = [
    "/etc/systemd",
    "/usr/local/lib/systemd",
    "/usr/lib/systemd",
    "/lib/systemd",
];

/// The advice if `$DOMO_TOKEN_SOCKET` is not the path of a socket.
const OTHER_THAN_VARIABLE: &str =
    "use another path with --socket, or the default one after: unset DOMO_TOKEN_SOCKET";

/// Returns the advice for an error, with the command to type last.
pub(crate) fn advice(error: &Error) -> Option<String> {
    let variable = |name: &str| std::env::var_os(name).map(PathBuf::from);
    let caller = Caller {
        uid: rustix::process::getuid().as_raw(),
        is_root: rustix::process::geteuid().is_root(),
        variable: &variable,
        kind: &Kind::of,
        foreign: &foreign,
        read: &|path| fs::read_to_string(path).unwrap_or_default(),
    };
    match error {
        Error::NotRunning {
            tried,
            own_config,
            origin,
            ..
        } => Some(caller.not_running(tried.last()?, own_config.is_some(), *origin)),
        Error::NotPermitted {
            group: Some(group), ..
        } => Some(caller.join(group)),
        Error::NotPermitted { cause, .. } => caller.closed(cause),
        Error::TryLater {
            silent: Some(socket),
            ..
        } => caller.status(socket),
        Error::Io { path, .. } => Some(caller.other_socket(path)),
        Error::TryLater { .. } | _ => None,
    }
}

/// The type of the file at a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Nothing,
    Directory,
    Socket,
    Other,
}

impl Kind {
    fn of(path: &Path) -> Self {
        match fs::metadata(path) {
            Err(_) => Self::Nothing,
            Ok(found) if found.is_dir() => Self::Directory,
            Ok(found) if found.file_type().is_socket() => Self::Socket,
            Ok(_) => Self::Other,
        }
    }
}

/// Returns the owner of a path, if that is another user and this process cannot create files there.
fn foreign(path: &Path) -> Option<u32> {
    let owner = fs::metadata(path).ok()?.uid();
    let is_own = owner == rustix::process::getuid().as_raw();
    let can_create = access(path, Access::WRITE_OK | Access::EXEC_OK).is_ok();
    (!is_own && !can_create).then_some(owner)
}

/// The calling process, and its access to the host.
struct Caller<'a> {
    uid: u32,
    is_root: bool,
    variable: &'a dyn Fn(&str) -> Option<PathBuf>,
    kind: &'a dyn Fn(&Path) -> Kind,
    foreign: &'a dyn Fn(&Path) -> Option<u32>,
    read: &'a dyn Fn(&str) -> String,
}

impl Caller<'_> {
    fn not_running(&self, socket: &Path, has_config: bool, origin: SocketOrigin) -> String {
        let is_own = socket == self.own_socket();
        match origin {
            SocketOrigin::Own if has_config => self.own(socket, true),
            SocketOrigin::Own => {
                let socket = quoted(socket);
                format!("start your own broker again, or use the host's after: rm {socket}")
            }
            SocketOrigin::Host => self.host(true),
            SocketOrigin::Caller | SocketOrigin::Variable if is_own => self.own(socket, false),
            SocketOrigin::Caller | SocketOrigin::Variable if socket == Path::new(HOST_SOCKET) => {
                self.host(false)
            }
            SocketOrigin::Caller | SocketOrigin::Variable => self.named(socket, origin),
        }
    }

    /// Returns the advice for the user's own broker. `or_host`: because of its config, the host's broker is
    /// not used.
    fn own(&self, socket: &Path, or_host: bool) -> String {
        let runtime = socket.parent().and_then(Path::parent);
        let runtime = runtime.unwrap_or(Path::new("/"));
        let (fact, command) = self.start_own(runtime);
        let host = if or_host {
            format!("use the host's with --socket {HOST_SOCKET}, or ")
        } else {
            String::new()
        };
        format!("{fact}{host}{command}")
    }

    /// Returns why the user's own broker cannot run, if that is known, and the command that helps.
    fn start_own(&self, runtime: &Path) -> (String, String) {
        let shown = quoted(runtime);
        if let Some(owner) = (self.foreign)(runtime) {
            return self.leave_foreign(owner);
        }
        if self.exists(runtime) {
            let environment = self.runtime_variable(runtime);
            let has_unit =
                self.has_user_manager(runtime) && self.has_unit("user", "domo-tokend.socket");
            let command = if has_unit {
                "systemctl --user start domo-tokend.socket"
            } else {
                "domo-tokend &"
            };
            let command = format!("start your own with: {environment}{command}");
            return (String::new(), command);
        }
        if !runtime.starts_with("/run/user") {
            let command = format!("create that directory with: mkdir -p -m 700 {shown}");
            return (format!("{shown} does not exist; "), command);
        }
        if self.exists(Path::new(SYSTEMD)) {
            let (sudo, user) = (self.sudo(), self.user());
            let fact = format!("{shown} exists only while you are logged in; ");
            let command =
                format!("keep your own running with: {sudo}loginctl enable-linger {user}");
            return (fact, command);
        }
        let fact = format!("{shown} does not exist; ");
        let command = "set XDG_RUNTIME_DIR to your own directory, for callers too: mkdir -p -m 700 \
                       ~/.run; export XDG_RUNTIME_DIR=~/.run; domo-tokend &";
        (fact, command.to_owned())
    }

    /// Returns the advice if the socket that cannot be opened is in another user's runtime directory.
    fn closed(&self, cause: &str) -> Option<String> {
        let socket = self.own_socket();
        let owner = (self.foreign)(socket.parent()?.parent()?)?;
        let (fact, command) = self.leave_foreign(owner);
        let is_socket = cause.contains(&*socket.to_string_lossy());
        is_socket.then(|| format!("{fact}{command}"))
    }

    /// Returns fact and advice if the runtime directory belongs to another user, as after `su` without `-`.
    fn leave_foreign(&self, owner: u32) -> (String, String) {
        let fact = format!("$XDG_RUNTIME_DIR belongs to user {owner}; ");
        let usual = self.usual_runtime();
        let command = if self.exists(&usual) && (self.foreign)(&usual).is_none() {
            format!("run: export XDG_RUNTIME_DIR={}", usual.display())
        } else {
            "run: unset XDG_RUNTIME_DIR".to_owned()
        };
        (fact, command)
    }

    /// Returns the advice for the host's broker. `or_own`: the user may also set up an own one.
    fn host(&self, or_own: bool) -> String {
        let sudo = self.sudo();
        let has_systemd = self.exists(Path::new(SYSTEMD));
        if self.exists(Path::new(HOST_CONFIG)) {
            if has_systemd && self.has_unit("system", "domo-tokend.service") {
                return format!("start it with: {sudo}systemctl start domo-tokend");
            }
            return if self.is_root {
                "start it with: domo-tokend &".to_owned()
            } else {
                "start it with: sudo -b domo-tokend".to_owned()
            };
        }
        let directory = Path::new(HOST_SOCKET).parent();
        if !has_systemd && directory.is_some_and(|directory| self.exists(directory)) {
            return "start the broker of this directory, which may be in another container, or start \
                    one here with: domo-tokend &"
                .to_owned();
        }
        if or_own && !self.is_root {
            return format!(
                "the host's broker is not set up yet; set up your own with domo-tokend init, or the \
                 host's with: {sudo}domo-tokend init"
            );
        }
        format!("it is not set up yet; run: {sudo}domo-tokend init")
    }

    /// Returns the advice for a socket that is neither the user's own nor the host's.
    fn named(&self, socket: &Path, origin: SocketOrigin) -> String {
        match (self.kind)(socket) {
            Kind::Directory => {
                let socket = quoted(&socket.join("broker.sock"));
                let option = match origin {
                    SocketOrigin::Variable => "with --socket, or: export DOMO_TOKEN_SOCKET=",
                    SocketOrigin::Caller | SocketOrigin::Own | SocketOrigin::Host => {
                        "with: --socket "
                    }
                };
                return format!("it is a directory; use the socket in it {option}{socket}");
            }
            Kind::Other if origin == SocketOrigin::Variable => {
                return format!("it is not a socket; {OTHER_THAN_VARIABLE}");
            }
            Kind::Other => return format!("it is not a socket; {}", self.other_socket(socket)),
            Kind::Nothing | Kind::Socket => {}
        }
        let own = self.own_socket();
        let others = [own.as_path(), Path::new(HOST_SOCKET)];
        let other = others
            .iter()
            .find(|other| (self.kind)(other) == Kind::Socket);
        let is_plain = |value: PathBuf| value == socket;
        let is_url = origin == SocketOrigin::Variable
            && !(self.variable)("DOMO_TOKEN_SOCKET").is_some_and(is_plain);
        let note = if is_url {
            "$DOMO_TOKEN_SOCKET is the URL of that path; "
        } else if socket.is_relative() {
            "the path is relative to the working directory; "
        } else {
            ""
        };
        match (other, origin) {
            (Some(other), SocketOrigin::Variable) => {
                let other = other.display();
                format!("{note}use the broker at {other} after: unset DOMO_TOKEN_SOCKET")
            }
            (Some(other), _) => {
                let other = quoted(other);
                format!("{note}use another broker with: --socket {other}")
            }
            (None, _) => {
                let socket = quoted(socket);
                format!("{note}start one there with: domo-tokend --socket {socket} &")
            }
        }
    }

    /// Returns the advice for a path that is not a socket.
    fn other_socket(&self, path: &Path) -> String {
        let is_variables = (self.variable)("DOMO_TOKEN_SOCKET").is_some_and(|value| value == path);
        if is_variables {
            format!("$DOMO_TOKEN_SOCKET is that path; {OTHER_THAN_VARIABLE}")
        } else {
            "use another path with --socket, or omit --socket to use the default one".to_owned()
        }
    }

    /// Returns the command that inspects a broker that sends nothing.
    fn status(&self, socket: &Path) -> Option<String> {
        if socket == Path::new(HOST_SOCKET) {
            return Some("run: systemctl status domo-tokend".to_owned());
        }
        let runtime = socket.parent()?.parent()?;
        let is_own = socket == self.own_socket() && self.has_user_manager(runtime);
        is_own.then(|| {
            let environment = self.runtime_variable(runtime);
            format!("run: {environment}systemctl --user status domo-tokend")
        })
    }

    /// Returns the advice to join a group.
    fn join(&self, group: &str) -> String {
        let user = self.user();
        if self.is_member(&user, group) {
            return format!(
                "you have joined it since this session began; log in again, or run: newgrp {group}"
            );
        }
        // On other systems, `adduser` is another name of `useradd`.
        let command = if self.exists(Path::new("/etc/debian_version")) {
            format!("adduser {user} {group}")
        } else {
            format!("usermod -aG {group} {user}")
        };
        format!("join it, and log in again: sudo {command}")
    }

    /// Returns the socket of the user's own broker.
    fn own_socket(&self) -> PathBuf {
        let runtime = (self.variable)("XDG_RUNTIME_DIR").filter(|path| path.is_absolute());
        let runtime = runtime.unwrap_or_else(|| self.usual_runtime());
        runtime.join("domo-token/broker.sock")
    }

    /// Returns the runtime directory that systemd creates for the user.
    fn usual_runtime(&self) -> PathBuf {
        Path::new("/run/user").join(self.uid.to_string())
    }

    /// Returns the assignment that daemon and `systemctl --user` need if the variable has another value.
    fn runtime_variable(&self, runtime: &Path) -> String {
        if (self.variable)("XDG_RUNTIME_DIR").is_some_and(|set| set == runtime) {
            return String::new();
        }
        format!("XDG_RUNTIME_DIR={} ", quoted(runtime))
    }

    /// Returns whether the user's instance of systemd runs.
    fn has_user_manager(&self, runtime: &Path) -> bool {
        self.exists(&runtime.join("systemd/private"))
    }

    fn has_unit(&self, kind: &str, name: &str) -> bool {
        let is_in = |directory: &Path| self.exists(&directory.join(kind).join(name));
        UNITS.into_iter().map(Path::new).any(is_in)
            || (self.variable)("HOME").is_some_and(|home| is_in(&home.join(".config/systemd")))
    }

    fn exists(&self, path: &Path) -> bool {
        (self.kind)(path) != Kind::Nothing
    }

    fn sudo(&self) -> &'static str {
        if self.is_root { "" } else { "sudo " }
    }

    /// Returns the user's name, or a command substitution for it.
    fn user(&self) -> String {
        let users = (self.read)("/etc/passwd");
        let name = users.lines().find_map(|line| {
            let mut fields = line.split(':');
            let (name, _password, uid) = (fields.next()?, fields.next()?, fields.next()?);
            (uid.parse() == Ok(self.uid)).then_some(name)
        });
        name.unwrap_or("$(id -un)").to_owned()
    }

    /// Returns whether a local group lists the user.
    fn is_member(&self, user: &str, group: &str) -> bool {
        (self.read)("/etc/group").lines().any(|line| {
            let mut fields = line.split(':');
            let is_it = fields.next() == Some(group);
            is_it
                && fields
                    .nth(2)
                    .is_some_and(|all| all.split(',').any(|member| member == user))
        })
    }
}

fn quoted(path: &Path) -> String {
    shell_quote::quoted(&path.display().to_string())
}

#[cfg(test)]
mod tests;
