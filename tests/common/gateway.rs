//! A daemon with a gateway, applications that use it, and Domo's SDKs.

use std::fmt::Write as _;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use domo_sandbox::{Builder, Sandbox};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use serde_json::Value;
use tempfile::TempDir;

use super::process::in_shell_after;
use super::wait::until;
use super::{CANARY_SECRET, CLIENT_ID, Daemon, PATIENCE, chmod, folder, print_skip};

/// The application of most tests.
pub(crate) const APP: &str = "etl";

/// The folder with programs that call Domo.
const PROGRAMS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/gateway");

/// How long one command of an SDK may take: an upload with two renewals within the floor.
const COMMAND_LIMIT: Duration = Duration::from_secs(120);

/// A sandbox whose client has the scopes of all paths of the gateway.
pub(crate) fn builder(lifetime: Duration) -> Builder {
    Sandbox::builder()
        .client(CLIENT_ID, CANARY_SECRET, &["data", "user", "dashboard"])
        .lifetime(lifetime)
}

/// Waits for the token of the sandbox with that scope, and returns it.
pub(crate) fn real_token(sandbox: &Sandbox, scope: &str) -> String {
    until(|| {
        let requests = sandbox.requests();
        let mut issued = requests
            .iter()
            .filter(|seen| seen.scope.as_deref() == Some(scope));
        let token = issued.find_map(|seen| seen.token.clone());
        token.ok_or("no token was issued")
    })
}

/// An application of the config: its name, and the client and server that it uses.
pub(crate) struct App<'a> {
    pub(crate) name: &'a str,
    pub(crate) client: &'a str,
    pub(crate) upstream: &'a str,
}

/// Returns the config of a client of the sandbox with three scope sets.
pub(crate) fn client_table(name: &str, id: &str, sandbox: &Sandbox) -> String {
    format!(
        "[clients.{name}]\nclient_id = \"{id}\"\nclient_secret_file = \"acme.secret\"\n\
         tokens = [\"data\", \"user\", \"dashboard\"]\ntoken_url = \"{}\"\nallow_http_loopback = true\n",
        sandbox.token_url()
    )
}

/// The two ports of a gateway, which its daemon inherits as from systemd: they stay open while it restarts.
pub(crate) struct Ports {
    http: TcpListener,
    tls: TcpListener,
}

impl Ports {
    pub(crate) fn bind() -> Self {
        let bind = || TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        Self {
            http: bind(),
            tls: bind(),
        }
    }

    pub(crate) fn http(&self) -> String {
        self.http.local_addr().unwrap().to_string()
    }

    pub(crate) fn tls(&self) -> String {
        self.tls.local_addr().unwrap().to_string()
    }

    /// Returns the table `[gateway]` with these applications.
    pub(crate) fn table(&self, apps: &[App<'_>]) -> String {
        let mut text = format!(
            "[gateway]\nlisten = \"{}\"\ntls_listen = \"{}\"\ntls_cert_file = \"gateway.pem\"\n\
             tls_key_file = \"gateway-key.pem\"\n",
            self.http(),
            self.tls()
        );
        for App {
            name,
            client,
            upstream,
        } in apps
        {
            let rule = |path, scope| {
                format!("{{ methods = [\"*\"], path = \"{path}\", scopes = \"{scope}\" }}")
            };
            let rules = [
                rule("/v1/datasets/**", "data"),
                rule("/v1/streams/**", "data"),
                rule("/v1/users/**", "user"),
                rule("/v1/groups/**", "user"),
                rule("/v1/pages/**", "dashboard"),
            ];
            let _ = write!(
                text,
                "[gateway.apps.{name}]\nsecret_hash_file = \"{name}.hash\"\nclient = \"{client}\"\n\
                 upstream = \"{upstream}\"\nallow = [{}]\n",
                rules.join(", ")
            );
        }
        text
    }

    /// The command of a daemon that inherits both ports.
    pub(crate) fn command(&self, folder: &Path) -> Command {
        self.inherited_by(&Daemon::command(folder))
    }

    pub(crate) fn inherited_by(&self, daemon: &Command) -> Command {
        // A child inherits only its standard descriptors, from which the shell makes descriptor 3 and 4.
        let listen = "export LISTEN_PID=$$ LISTEN_FDS=2 LISTEN_FDNAMES=gateway:gateway-tls; \
                      exec 3<&0 4<&1 </dev/null >/dev/null";
        let mut command = in_shell_after(listen, daemon);
        let [http, tls] =
            [&self.http, &self.tls].map(|port| OwnedFd::from(port.try_clone().unwrap()));
        command.stdin(http).stdout(tls);
        command
    }
}

/// A daemon with a gateway.
pub(crate) struct Gateway {
    pub(crate) daemon: Daemon,
    pub(crate) ports: Ports,
    /// The secret of [`APP`].
    pub(crate) secret: String,
}

impl Gateway {
    /// Starts a daemon whose application uses the sandbox.
    pub(crate) fn start(sandbox: &Sandbox) -> Self {
        Self::with_upstream(sandbox, &sandbox.url(""))
    }

    /// Starts a daemon whose application uses that server with tokens of the sandbox.
    pub(crate) fn with_upstream(sandbox: &Sandbox, upstream: &str) -> Self {
        Self::with_lines(sandbox, upstream, "")
    }

    /// The same with more lines in the config.
    pub(crate) fn with_lines(sandbox: &Sandbox, upstream: &str, lines: &str) -> Self {
        let ports = Ports::bind();
        let app = App {
            name: APP,
            client: "acme",
            upstream,
        };
        let tables = [
            client_table("acme", CLIENT_ID, sandbox),
            ports.table(&[app]),
            lines.to_owned(),
        ];
        let folder = folder(&tables.concat());
        write_certificate(folder.path());
        let secret = add_app(&folder, APP);
        let daemon = Daemon::start_as(ports.command(folder.path()), folder);
        Self {
            daemon,
            ports,
            secret,
        }
    }

    /// Restarts the daemon by that signal.
    pub(crate) fn restart(&mut self, signal: &str) {
        let command = self.ports.command(self.daemon.folder());
        self.daemon.restart_as(signal, command);
    }

    /// Returns the file with the CA's certificate of the port for HTTPS.
    pub(crate) fn ca_file(&self) -> PathBuf {
        self.daemon.folder().join("gateway-ca.pem")
    }

    /// Sends any bytes over a new connection and returns the answer, if one comes, up to the end of the connection.
    pub(crate) fn raw(&self, request: impl AsRef<[u8]>) -> Answer {
        raw(&self.ports.http(), request)
    }

    /// Requests a local token.
    pub(crate) fn token_request(&self, secret: &str, scope: &str) -> Answer {
        let basic = STANDARD.encode(format!("{APP}:{secret}"));
        let form = format!("grant_type=client_credentials&scope={scope}");
        self.raw(format!(
            "POST /oauth/token HTTP/1.1\r\nHost: localhost\r\nAuthorization: Basic {basic}\r\n\
             Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\nConnection: close\r\n\r\n\
             {form}",
            form.len()
        ))
    }

    /// Returns a local token for these scopes.
    pub(crate) fn local_token(&self, scope: &str) -> String {
        let answer = self.token_request(&self.secret, scope);
        let json = answer.json();
        json["access_token"]
            .as_str()
            .unwrap_or_else(|| panic!("{}", answer.text))
            .to_owned()
    }

    /// Sends a GET with that token.
    pub(crate) fn get(&self, path: &str, token: &str) -> Answer {
        self.raw(format!(
            "GET {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\nConnection: close\r\n\r\n"
        ))
    }
}

/// Creates an application by `domo-tokend app add`, and returns its secret.
pub(crate) fn add_app(folder: &TempDir, name: &str) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_domo-tokend"));
    command.env_clear().args(["app", "add", name, "--config"]);
    let output = command.arg(folder.path().join("config.toml")).output();
    let output = output.unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{stderr}");
    String::from_utf8(output.stdout)
        .unwrap()
        .trim_end()
        .to_owned()
}

/// Writes a certificate for 127.0.0.1, its key, and the CA that it is from.
pub(crate) fn write_certificate(folder: &Path) {
    let mut authority = CertificateParams::new(Vec::new()).unwrap();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let name = &mut authority.distinguished_name;
    name.push(DnType::CommonName, "gateway CA");
    let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let names = ["localhost", "127.0.0.1"].map(str::to_owned);
    let certificate = CertificateParams::new(names).unwrap();
    let certificate = certificate.signed_by(&key, &authority).unwrap();
    fs::write(folder.join("gateway-ca.pem"), authority.pem()).unwrap();
    fs::write(folder.join("gateway.pem"), certificate.pem()).unwrap();
    let file = folder.join("gateway-key.pem");
    fs::write(&file, key.serialize_pem()).unwrap();
    chmod(file, 0o600);
}

/// An answer as text; empty if the connection was closed without one.
pub(crate) struct Answer {
    pub(crate) text: String,
}

impl Answer {
    fn head(&self) -> &str {
        self.text.split("\r\n\r\n").next().unwrap_or_default()
    }

    pub(crate) fn status(&self) -> u16 {
        let status = self.text.split(' ').nth(1).unwrap_or_default();
        status.parse().unwrap_or_else(|_| panic!("{:?}", self.text))
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let fields = self.head().lines().filter_map(|line| line.split_once(':'));
        let mut fields = fields.filter(|(found, _)| found.eq_ignore_ascii_case(name));
        fields.next().map(|(_, value)| value.trim())
    }

    pub(crate) fn body(&self) -> &str {
        self.text
            .split_once("\r\n\r\n")
            .map_or("", |(_, body)| body)
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(self.body()).unwrap_or_else(|_| panic!("{:?}", self.text))
    }
}

/// Sends any bytes over a new connection and returns all that is received.
pub(crate) fn raw(host: &str, request: impl AsRef<[u8]>) -> Answer {
    let mut stream = TcpStream::connect(host).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    // A server may answer, and close, before it has read everything.
    let _ = stream.write_all(request.as_ref());
    let mut bytes = Vec::new();
    let _ = stream.read_to_end(&mut bytes);
    Answer {
        text: String::from_utf8_lossy(&bytes).into_owned(),
    }
}

/// A program of `tests/gateway` that runs an SDK's calls on command.
pub(crate) struct Sdk {
    child: Child,
    commands: ChildStdin,
    answers: Receiver<String>,
}

impl Sdk {
    /// Starts pydomo, which requests a token; `None` where it is not installed.
    pub(crate) fn pydomo(host: &str, app: &str, secret: &str, scopes: &str) -> Option<Self> {
        let mut command = python()?;
        command.arg(format!("{PROGRAMS}/pydomo_commands.py"));
        command.args([host, app, secret, scopes]);
        Some(Self::start(command))
    }

    /// Starts domo-sdk, which trusts this CA; `None` where it is not installed.
    pub(crate) fn domo_sdk(host: &str, app: &str, secret: &str, ca: &Path) -> Option<Self> {
        let mut command = node(ca)?;
        command.arg(format!("{PROGRAMS}/domo_sdk_commands.js"));
        command.args([host, app, secret]);
        Some(Self::start(command))
    }

    /// Starts the program that sends what the SDK for Java sends; `None` without a JDK.
    pub(crate) fn java(host: &str, app: &str, secret: &str, scopes: &str) -> Option<Self> {
        let probe = Command::new("javac").arg("-version").output();
        if !probe.is_ok_and(|output| output.status.success()) {
            print_skip("no JDK is installed");
            return None;
        }
        let mut command = Command::new("java");
        command.arg(format!("{PROGRAMS}/JavaSdk.java"));
        command.args([host, app, secret, scopes]);
        Some(Self::start(command))
    }

    fn start(mut command: Command) -> Self {
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let (sender, answers) = channel();
        thread::spawn(move || {
            let mut lines = stdout.lines().map_while(Result::ok);
            lines.try_for_each(|line| sender.send(line))
        });
        let commands = child.stdin.take().unwrap();
        let sdk = Self {
            child,
            commands,
            answers,
        };
        sdk.answer("its start").unwrap();
        sdk
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Runs a command, and returns the SDK's error.
    pub(crate) fn run(&mut self, command: &str) -> Result<(), String> {
        self.commands
            .write_all(format!("{command}\n").as_bytes())
            .map_err(|error| error.to_string())?;
        self.answer(command)
    }

    fn answer(&self, command: &str) -> Result<(), String> {
        match self.answers.recv_timeout(COMMAND_LIMIT) {
            Ok(line) if line == "ok" => Ok(()),
            Ok(line) => Err(line),
            Err(RecvTimeoutError::Timeout) => Err(format!("{command} hangs")),
            Err(RecvTimeoutError::Disconnected) => Err(format!("{command} ended the program")),
        }
    }
}

impl Drop for Sdk {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn tools() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("target/tools")
}

/// A Python with pydomo.
pub(crate) fn python() -> Option<Command> {
    let python = tools().join("pydomo/bin/python");
    if !python.exists() {
        print_skip("pydomo is not installed; run: .ci/sdks");
        return None;
    }
    Some(Command::new(python))
}

/// Returns how often each text is in the memory of a process, or `None` without permission to read it. In Python: a
/// search in hundreds of MiB by a debug build takes minutes.
pub(crate) fn found_in_memory(mut python: Command, pid: u32, texts: &[&str]) -> Option<Vec<usize>> {
    python.args([format!("{PROGRAMS}/memory.py"), pid.to_string()]);
    python.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = python.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(texts.join("\n").as_bytes()).unwrap();
    drop(stdin);
    let output = child.wait_with_output().unwrap();
    let counts = str::from_utf8(&output.stdout).unwrap().lines();
    output
        .status
        .success()
        .then(|| counts.map(|count| count.parse().unwrap()).collect())
}

/// A Node with domo-sdk that trusts this CA.
pub(crate) fn node(ca: &Path) -> Option<Command> {
    let modules = tools().join("domo-sdk/node_modules");
    if !modules.join("domo-sdk").exists() {
        print_skip("domo-sdk is not installed; run: .ci/sdks");
        return None;
    }
    let mut command = Command::new("node");
    command
        .env("NODE_PATH", modules)
        .env("NODE_EXTRA_CA_CERTS", ca);
    Some(command)
}
