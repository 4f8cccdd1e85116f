use super::*;

const OWN: &str = "/run/user/1000/domo-token/broker.sock";

/// A host with these paths: directories end in `/`, sockets have a `.sock`.
#[derive(Clone, Copy)]
struct Host<'a> {
    uid: u32,
    paths: &'a [&'a str],
    variables: &'a [(&'a str, &'a str)],
    groups: &'a str,
}

const BARE_HOST: Host = Host {
    uid: 1000,
    paths: &[],
    variables: &[],
    groups: "",
};

impl Host<'_> {
    fn with<T>(&self, ask: impl FnOnce(&Caller) -> T) -> T {
        let kind = |path: &Path| {
            let path = path.to_str().unwrap();
            let is_directory = |found: &&str| found.trim_end_matches('/') == path;
            match self.paths.iter().copied().find(is_directory) {
                None => Kind::Nothing,
                Some(found) if found.ends_with('/') => Kind::Directory,
                Some(_) if path.contains(".sock") => Kind::Socket,
                Some(_) => Kind::Other,
            }
        };
        let variable = |name: &str| {
            let found = self.variables.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| PathBuf::from(value))
        };
        let read = |path: &str| match path {
            "/etc/passwd" => {
                "root:x:0:0::/root:/bin/sh\netl:x:1000:1000::/home/etl:/bin/sh\n".into()
            }
            _ => self.groups.to_owned(),
        };
        ask(&Caller {
            uid: self.uid,
            is_root: self.uid == 0,
            variable: &variable,
            kind: &kind,
            foreign: &|path| (path == Path::new("/run/user/1001")).then_some(1001),
            read: &read,
        })
    }

    fn not_running(&self, socket: &str, has_config: bool, origin: SocketOrigin) -> String {
        self.with(|caller| caller.not_running(Path::new(socket), has_config, origin))
    }
}

#[test]
fn own_broker_with_a_user_unit_is_started_by_systemctl_user() {
    let unit = "/usr/lib/systemd/user/domo-tokend.socket";
    let host = Host {
        paths: &[unit, "/run/user/1000/", "/run/user/1000/systemd/private"],
        variables: &[("XDG_RUNTIME_DIR", "/run/user/1000")],
        ..BARE_HOST
    };
    assert_eq!(
        host.not_running(OWN, true, SocketOrigin::Own),
        "use the host's with --socket /run/domo-token/broker.sock, \
         or start your own with: systemctl --user start domo-tokend.socket"
    );
    let cron = Host {
        variables: &[],
        ..host
    };
    let advice = cron.not_running(OWN, false, SocketOrigin::Variable);
    assert_eq!(
        advice,
        "start your own with: \
         XDG_RUNTIME_DIR=/run/user/1000 systemctl --user start domo-tokend.socket"
    );
    let no_unit = Host {
        paths: &["/run/user/1000/", "/run/user/1000/systemd/private"],
        ..host
    };
    let advice = no_unit.not_running(OWN, true, SocketOrigin::Own);
    assert!(
        advice.ends_with("start your own with: domo-tokend &"),
        "{advice}"
    );
}

#[test]
fn own_broker_without_a_runtime_directory_needs_lingering() {
    let logged_out = Host {
        paths: &["/run/systemd/system/"],
        ..BARE_HOST
    };
    assert_eq!(
        logged_out.not_running(OWN, true, SocketOrigin::Own),
        "/run/user/1000 exists only while you are logged in; \
         use the host's with --socket /run/domo-token/broker.sock, \
         or keep your own running with: sudo loginctl enable-linger etl"
    );
    let no_systemd = BARE_HOST.not_running(OWN, true, SocketOrigin::Own);
    assert!(no_systemd.contains("set XDG_RUNTIME_DIR"), "{no_systemd}");
    let elsewhere = BARE_HOST.not_running("/x y/domo-token/broker.sock", true, SocketOrigin::Own);
    assert!(elsewhere.ends_with("mkdir -p -m 700 '/x y'"), "{elsewhere}");
}

#[test]
fn foreign_runtime_directory_is_replaced_by_that_of_the_user() {
    let foreign = "/run/user/1001/domo-token/broker.sock";
    let after_su = Host {
        paths: &["/run/user/1001/", "/run/user/1000/"],
        variables: &[("XDG_RUNTIME_DIR", "/run/user/1001")],
        ..BARE_HOST
    };
    assert_eq!(
        after_su.not_running(foreign, true, SocketOrigin::Own),
        "$XDG_RUNTIME_DIR belongs to user 1001; \
         use the host's with --socket /run/domo-token/broker.sock, \
         or run: export XDG_RUNTIME_DIR=/run/user/1000"
    );
    let logged_out = Host {
        paths: &["/run/user/1001/"],
        ..after_su
    };
    let advice = logged_out.not_running(foreign, true, SocketOrigin::Own);
    assert!(
        advice.ends_with("or run: unset XDG_RUNTIME_DIR"),
        "{advice}"
    );
}

#[test]
fn own_socket_left_without_a_config_is_started_again_or_removed() {
    let host = Host {
        paths: &[OWN],
        ..BARE_HOST
    };
    let advice = host.not_running(OWN, false, SocketOrigin::Own);
    assert!(advice.ends_with(&format!(": rm {OWN}")), "{advice}");
}

#[test]
fn hosts_broker_is_set_up_before_it_is_started() {
    let unit = "/usr/lib/systemd/system/domo-tokend.service";
    let root = Host {
        uid: 0,
        ..BARE_HOST
    };
    let new = Host {
        paths: &["/run/systemd/system/", unit],
        ..BARE_HOST
    };
    let ask = |host: &Host| host.not_running(HOST_SOCKET, false, SocketOrigin::Host);
    assert_eq!(
        ask(&new),
        "the host's broker is not set up yet; set up your own with domo-tokend init, or the \
         host's with: sudo domo-tokend init"
    );
    let new_root = Host { uid: 0, ..new };
    assert_eq!(
        ask(&new_root),
        "it is not set up yet; run: domo-tokend init"
    );
    let named = new.not_running(HOST_SOCKET, false, SocketOrigin::Variable);
    assert_eq!(named, "it is not set up yet; run: sudo domo-tokend init");

    let set_up = Host {
        paths: &["/run/systemd/system/", unit, HOST_CONFIG],
        ..BARE_HOST
    };
    assert_eq!(
        ask(&set_up),
        "start it with: sudo systemctl start domo-tokend"
    );
    let set_up_root = Host { uid: 0, ..set_up };
    assert_eq!(
        ask(&set_up_root),
        "start it with: systemctl start domo-tokend"
    );
    let no_unit = Host {
        paths: &["/run/systemd/system/", HOST_CONFIG],
        ..root
    };
    assert_eq!(ask(&no_unit), "start it with: domo-tokend &");
    let no_unit = Host {
        uid: 1000,
        ..no_unit
    };
    assert_eq!(ask(&no_unit), "start it with: sudo -b domo-tokend");
    let container = Host {
        paths: &["/run/domo-token/"],
        ..BARE_HOST
    };
    assert!(ask(&container).contains("another container"));
}

#[test]
fn socket_that_was_named_is_started_there_or_replaced_by_one_that_exists() {
    let ask = |paths: &[&str], socket: &str, origin| {
        let variables = [("DOMO_TOKEN_SOCKET", socket)];
        let host = Host {
            paths,
            variables: &variables,
            ..BARE_HOST
        };
        host.not_running(socket, false, origin)
    };
    let (flag, variable) = (SocketOrigin::Caller, SocketOrigin::Variable);
    for origin in [flag, variable] {
        assert_eq!(
            ask(&[], "/x y.sock", origin),
            "start one there with: domo-tokend --socket '/x y.sock' &"
        );
    }
    let relative = ask(&[], "x.sock", flag);
    assert!(
        relative.starts_with("the path is relative to"),
        "{relative}"
    );
    let url = Host {
        variables: &[("DOMO_TOKEN_SOCKET", "unix:///x.sock")],
        ..BARE_HOST
    };
    let url = url.not_running("/x.sock", false, variable);
    assert!(
        url.starts_with("$DOMO_TOKEN_SOCKET is the URL of that path; start one"),
        "{url}"
    );
    let others = [HOST_SOCKET];
    assert_eq!(
        ask(&others, "/x.sock", flag),
        format!("use another broker with: --socket {HOST_SOCKET}")
    );
    assert_eq!(
        ask(&others, "/x.sock", variable),
        format!("use the broker at {HOST_SOCKET} after: unset DOMO_TOKEN_SOCKET")
    );
    let directory = ask(&["/run/x/"], "/run/x", flag);
    assert!(
        directory.ends_with(": --socket /run/x/broker.sock"),
        "{directory}"
    );
    let directory = ask(&["/run/x/"], "/run/x", variable);
    assert!(
        directory.ends_with(": export DOMO_TOKEN_SOCKET=/run/x/broker.sock"),
        "{directory}"
    );
    assert!(ask(&["/file"], "/file", flag).starts_with("it is not a socket"));
    // The fact that the variable is this path comes before the advice.
    let named = ask(&["/file"], "/file", variable);
    assert!(
        named.starts_with("it is not a socket; use another path"),
        "{named}"
    );
    assert!(named.ends_with("after: unset DOMO_TOKEN_SOCKET"), "{named}");
}

#[test]
fn silent_broker_is_inspected_with_systemctl_status() {
    let ask = |host: &Host, socket: &str| host.with(|caller| caller.status(Path::new(socket)));
    let host = ask(&BARE_HOST, HOST_SOCKET).unwrap();
    assert_eq!(host, "run: systemctl status domo-tokend");
    assert_eq!(ask(&BARE_HOST, OWN), None, "no user manager runs");
    let with_manager = Host {
        paths: &["/run/user/1000/systemd/private"],
        variables: &[("XDG_RUNTIME_DIR", "/run/user/1000")],
        ..BARE_HOST
    };
    let own = ask(&with_manager, OWN).unwrap();
    assert_eq!(own, "run: systemctl --user status domo-tokend");
    assert_eq!(ask(&with_manager, "/x.sock"), None);
}

#[test]
fn group_is_joined_by_adduser_and_used_by_newgrp() {
    let ask = |paths: &[&str], groups: &str| {
        let host = Host {
            paths,
            groups,
            ..BARE_HOST
        };
        host.with(|caller| caller.join("tokens"))
    };
    assert_eq!(
        ask(&["/etc/debian_version"], "tokens:x:993:ann,etl2\n"),
        "join it, and log in again: sudo adduser etl tokens"
    );
    assert_eq!(
        ask(&[], ""),
        "join it, and log in again: sudo usermod -aG tokens etl"
    );
    let member = ask(&[], "other:x:992:\ntokens:x:993:ann,etl\n");
    assert!(member.ends_with("or run: newgrp tokens"), "{member}");
}
