//! squid between the daemon and the token endpoint.

use std::fs::{self};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::time::Duration;

use domo_sandbox::Sandbox;
use domo_token_client::clock::boot_now;
use rustix::process::geteuid;
use tempfile::TempDir;

use super::common::wait::until;
use super::common::{CANARY_SECRET, CLIENT_ID, Daemon, check, folder, parts, token};
use super::programs::{Running, are_installed, installed};
use crate::common::chmod;
use crate::common::print_skip;

/// squid's permissions besides its defaults.
const ALL: &str = "http_access allow all\n";

/// Accepts two logins. squid sends each as a line, with `%` escaped.
const LOGINS: &str = r#"
while IFS= read -r login; do
    case $login in
    "alice s3cret"|"alice 100%2525sure") echo OK ;;
    *) echo ERR ;;
    esac
done
"#;

struct Squid {
    running: Option<Running>,
    folder: TempDir,
    port: u16,
}

impl Squid {
    /// Starts squid with these config lines, in which `PORT` and `FOLDER` are replaced.
    fn start(folder: TempDir, lines: &str) -> Self {
        let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr();
        let port = free.unwrap().port();
        let path = folder.path().to_str().unwrap();
        let port_line = if lines.contains("http_port") {
            ""
        } else {
            "http_port 127.0.0.1:PORT\n"
        };
        let config = format!(
            "{port_line}{lines}pid_filename none\ncache_log FOLDER/cache.log\n\
             logformat short %>Hs %rm %ru %un\naccess_log stdio:FOLDER/access.log short\n\
             coredump_dir FOLDER\nshutdown_lifetime 0 seconds\nvisible_hostname proxy.test\n\
             max_filedescriptors 1024\ncache deny all\ncache_mem 8 MB\npinger_enable off\n"
        );
        let config = config
            .replace("PORT", &port.to_string())
            .replace("FOLDER", path);
        fs::write(folder.path().join("squid.conf"), config).unwrap();
        fs::write(folder.path().join("logins"), LOGINS).unwrap();
        chmod(folder.path(), 0o755);
        if geteuid().is_root() {
            // squid drops root's privileges.
            let owned = Command::new("chown")
                .args(["-R", "proxy:proxy", path])
                .status();
            assert!(owned.unwrap().success());
        }
        let mut command = Command::new(installed("squid").unwrap());
        command
            .args(["-N", "-f"])
            .arg(folder.path().join("squid.conf"));
        command.stdout(Stdio::null()).stderr(Stdio::null());
        let running = Some(Running::start(&mut command));
        until(|| TcpStream::connect(("127.0.0.1", port)));
        Self {
            running,
            folder,
            port,
        }
    }

    /// A squid that requires a login.
    fn with_login() -> Self {
        let lines = "auth_param basic program /bin/sh FOLDER/logins\n\
                     acl known proxy_auth REQUIRED\nhttp_access allow known\nhttp_access deny all\n";
        Self::start(tempfile::tempdir().unwrap(), lines)
    }

    fn line(&self) -> String {
        format!("proxy = \"http://127.0.0.1:{}\"\n", self.port)
    }

    /// Returns how many CONNECT requests it answered with that status.
    fn answered(&self, status: &str) -> usize {
        let log = fs::read_to_string(self.folder.path().join("access.log")).unwrap_or_default();
        let start = format!("{status} CONNECT ");
        log.lines().filter(|line| line.starts_with(&start)).count()
    }
}

impl Drop for Squid {
    fn drop(&mut self) {
        // Before its folder is removed.
        drop(self.running.take());
    }
}

fn https() -> Sandbox {
    let builder = Sandbox::builder().client(CLIENT_ID, CANARY_SECRET, &["data", "user", "audit"]);
    builder.https(true).start().unwrap()
}

/// The config of a client behind a proxy.
fn client(name: &str, url: &str, tokens: &str, lines: &str) -> String {
    format!(
        "[clients.{name}]\nclient_id = \"{CLIENT_ID}\"\nclient_secret_file = \"acme.secret\"\n\
         tokens = {tokens}\ntoken_url = \"{url}\"\nca_file = \"ca.pem\"\n{lines}"
    )
}

/// A folder with a config, a CA and a proxy login.
fn folder_with(config: &str, ca: &str, login: &str) -> TempDir {
    let folder = folder(config);
    fs::write(folder.path().join("ca.pem"), ca).unwrap();
    let path = folder.path().join("login");
    fs::write(&path, login).unwrap();
    chmod(path, 0o600);
    folder
}

fn check_online(folder: &TempDir) -> (Option<i32>, String, String) {
    check(&folder.path().join("config.toml"), &["--online"])
}

#[test]
fn login_is_sent_to_the_proxy_as_written_in_its_file() {
    if !are_installed(&["squid"]) {
        return;
    }
    let (sandbox, squid) = (https(), Squid::with_login());
    let lines = squid.line() + "proxy_auth_file = \"login\"\n";
    let config = client("acme", &sandbox.token_url(), "[\"data\"]", &lines);
    for login in ["alice:s3cret\n", "alice:s3cret\r\n", "alice:100%25sure\n"] {
        let folder = folder_with(&config, &sandbox.ca_pem().unwrap(), login);
        let (code, _, stderr) = check_online(&folder);
        assert_eq!(code, Some(0), "{login:?}: {stderr}");
    }
}

#[test]
fn wrong_login_is_tried_once_and_a_corrected_one_within_a_second() {
    if !are_installed(&["squid"]) {
        return;
    }
    let (sandbox, squid) = (https(), Squid::with_login());
    let lines = squid.line() + "proxy_auth_file = \"login\"\n";
    let tokens = "[\"data\", \"user\", \"data user\", \"audit\"]";
    let config =
        ["acme", "beta", "gamma"].map(|name| client(name, &sandbox.token_url(), tokens, &lines));
    let config = format!("[broker]\ndefault_client = \"acme\"\n{}", config.concat());
    let folder = folder_with(&config, &sandbox.ca_pem().unwrap(), "alice:wrong\n");
    let (code, _, stderr) = check_online(&folder);
    assert_eq!(code, Some(78), "{stderr}");
    assert!(stderr.contains("proxy_auth_file"), "{stderr}");
    // squid writes its log at the end of a connection.
    until(|| {
        (squid.answered("407") > 0)
            .then_some(())
            .ok_or("not logged")
    });
    assert_eq!(squid.answered("407"), 1, "check tries it once");
    let start = boot_now();
    let daemon = Daemon::start_in(folder);
    until(|| {
        (squid.answered("407") > 1)
            .then_some(())
            .ok_or("no request")
    });
    for client in ["acme", "gamma"] {
        let (code, _, stderr) = parts(&daemon.ask(&["--client", client, "data"]));
        assert_eq!(code, Some(78), "{stderr}");
        assert!(stderr.contains("proxy_auth_file"), "{stderr}");
    }
    let end = start + Duration::from_secs(10);
    until(|| {
        if boot_now() > end {
            Ok(())
        } else {
            Err("10 s are not over")
        }
    });
    let requests = squid.answered("407") - 1;
    assert!(
        requests <= 2,
        "{requests} requests with the wrong login in 10 s"
    );
    let corrected = boot_now();
    daemon.write("login", "alice:s3cret\n");
    until(|| (squid.answered("200") > 0).then_some(()).ok_or("no tunnel"));
    let took = boot_now().saturating_since(corrected);
    println!("the corrected login was used after {took:?}");
    assert!(took < Duration::from_secs(1), "{took:?}");
    for client in ["acme", "beta", "gamma"] {
        token(&daemon.ask(&["--client", client, "data user"]));
    }
}

#[test]
fn response_of_a_proxy_without_a_tunnel_is_named() {
    if !are_installed(&["squid"]) {
        return;
    }
    let (sandbox, closed) = (
        https(),
        TcpListener::bind("127.0.0.1:0").unwrap().local_addr(),
    );
    let down = format!("https://{}/oauth/token", closed.unwrap());
    let strict = "acl https port 443\nhttp_access deny CONNECT !https\nhttp_access allow all\n";
    for (lines, url, status) in [(strict, &sandbox.token_url(), "403"), (ALL, &down, "503")] {
        let squid = Squid::start(tempfile::tempdir().unwrap(), lines);
        let config = client("acme", url, "[\"data\"]", &squid.line());
        let folder = folder_with(&config, &sandbox.ca_pem().unwrap(), "");
        let (code, _, stderr) = check_online(&folder);
        assert_eq!(code, Some(75), "{stderr}");
        until(|| {
            (squid.answered(status) == 1)
                .then_some(())
                .ok_or("not logged")
        });
        let address = format!("127.0.0.1:{}", squid.port);
        for word in [status, "proxy", &address] {
            assert!(stderr.contains(word), "{word} in {stderr}");
        }
    }
}

/// A folder with the certificate and the key of a CA.
fn authority() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let mut command = Command::new(installed("openssl").unwrap());
    command.current_dir(folder.path()).args([
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:prime256v1",
        "-nodes",
        "-keyout",
        "bump.key",
        "-out",
        "bump.pem",
        "-days",
        "30",
        "-subj",
        "/CN=proxy CA",
    ]);
    assert!(command.output().unwrap().status.success());
    folder
}

#[test]
fn proxy_that_intercepts_tls_is_trusted_by_its_ca_alone() {
    const CERTGEN: &str = "/usr/lib/squid/security_file_certgen";
    if !are_installed(&["squid", "openssl"]) {
        return;
    }
    if !std::path::Path::new(CERTGEN).exists() {
        print_skip("this squid cannot intercept TLS");
        return;
    }
    let (sandbox, authority) = (https(), authority());
    let path = |name: &str| authority.path().join(name);
    let (ca, origin) = (
        fs::read_to_string(path("bump.pem")).unwrap(),
        sandbox.ca_pem().unwrap(),
    );
    fs::write(path("origin.pem"), &origin).unwrap();
    let database = path("certificates");
    let made = Command::new(CERTGEN)
        .args(["-c", "-s"])
        .arg(database)
        .args(["-M", "4MB"])
        .output();
    assert!(made.unwrap().status.success());
    let lines = format!(
        "http_port 127.0.0.1:PORT ssl-bump tls-cert=FOLDER/bump.pem tls-key=FOLDER/bump.key \
         generate-host-certificates=on dynamic_cert_mem_cache_size=4MB\n\
         sslcrtd_program {CERTGEN} -s FOLDER/certificates -M 4MB\n\
         tls_outgoing_options cafile=FOLDER/origin.pem\n\
         acl step1 at_step SslBump1\nssl_bump peek step1\nssl_bump bump all\n{ALL}"
    );
    let squid = Squid::start(authority, &lines);
    // squid creates no certificates for addresses.
    let url = sandbox.token_url().replace("127.0.0.1", "localhost");
    let config = client("acme", &url, "[\"data\"]", &squid.line());
    let (code, _, stderr) = check_online(&folder_with(&config, &origin, ""));
    assert_eq!(code, Some(75), "{stderr}");
    assert!(stderr.contains("ca_file"), "{stderr}");
    assert_eq!(sandbox.requests().len(), 0, "the proxy read the secret");
    let (code, _, stderr) = check_online(&folder_with(&config, &ca, ""));
    assert_eq!(code, Some(0), "{stderr}");
}
