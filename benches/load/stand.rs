//! The measured programs, and the servers of the lower bounds.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use domo_sandbox::Sandbox;
use domo_token_client::Broker;
use domo_token_protocol::frame::{self, HEAD};
use domo_token_protocol::greeting::{self, GREETING};
use domo_token_protocol::messages::{Request, Response, TokenRequest, TokenSubject, VERSION};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::caller::Caller;
use crate::machine::{SERVER_CORE, pin};

pub(crate) const CLIENT_ID: &str = "441e307a-b2a1-4a99-8561-174e5b153fe1";
pub(crate) const SECRET: &str = "secret-of-the-measurements";

/// The time limit of a wait; only reached by a failure.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// A process that is killed when dropped.
pub(crate) struct Running(Child);

impl Running {
    pub(crate) fn pid(&self) -> u32 {
        self.0.id()
    }

    /// Waits for its end.
    pub(crate) fn wait(&mut self) -> io::Result<()> {
        self.0.wait().map(drop)
    }

    pub(crate) fn signal(&self, signal: Signal) -> io::Result<()> {
        let pid = Pid::from_child(&self.0);
        Ok(kill_process(pid, signal)?)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A sandbox and a daemon.
pub(crate) struct Stand {
    pub(crate) sandbox: Sandbox,
    pub(crate) daemon: Running,
    pub(crate) folder: TempDir,
}

impl Stand {
    /// Starts them with one client that has the scope set `data`, and waits for its token.
    pub(crate) fn plain(lifetime: Duration) -> io::Result<Self> {
        let stand = Self::start(lifetime, &["data"], "")?;
        let broker = stand.broker()?;
        broker.token("data").map_err(io::Error::other)?;
        Ok(stand)
    }

    /// Starts them with one client that has these scope sets; `more` is further config.
    pub(crate) fn start(lifetime: Duration, scopes: &[&str], more: &str) -> io::Result<Self> {
        let sandbox = Sandbox::builder().client(CLIENT_ID, SECRET, scopes);
        let sandbox = sandbox.lifetime(lifetime).start()?;
        let client = client("acme", &sandbox, scopes);
        let folder = tempfile::tempdir()?;
        write_config(folder.path(), &format!("{more}\n{client}"))?;
        let daemon = start_daemon(folder.path())?;
        Ok(Self {
            sandbox,
            daemon,
            folder,
        })
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.folder.path().join("broker.sock")
    }

    pub(crate) fn broker(&self) -> io::Result<Broker> {
        Broker::connect_to(self.socket()).map_err(io::Error::other)
    }
}

/// Returns a client's part of a config.
pub(crate) fn client(name: &str, sandbox: &Sandbox, scopes: &[&str]) -> String {
    format!(
        "[clients.{name}]\nclient_id = \"{CLIENT_ID}\"\nclient_secret = \"{SECRET}\"\n\
         tokens = {scopes:?}\ntoken_url = \"{}\"\nallow_http_loopback = true\n",
        sandbox.token_url()
    )
}

/// Writes the config, readable for this user alone because it contains a secret.
pub(crate) fn write_config(folder: &Path, text: &str) -> io::Result<()> {
    use std::os::unix::fs::OpenOptionsExt;
    let path = folder.join("config.toml");
    let file = File::options()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path);
    io::Write::write_all(&mut file?, text.as_bytes())
}

/// Starts the daemon on the server's core and waits until it listens.
pub(crate) fn start_daemon(folder: &Path) -> io::Result<Running> {
    start(daemon_command(folder), &folder.join("broker.sock"))
}

pub(crate) fn daemon_command(folder: &Path) -> Command {
    let mut command = Command::new(daemon_program());
    command.arg("--config").arg(folder.join("config.toml"));
    command.arg("--socket").arg(folder.join("broker.sock"));
    command.env_clear();
    command
}

/// Starts a server on the server's core and waits until its socket exists.
pub(crate) fn start(mut command: Command, socket: &Path) -> io::Result<Running> {
    pin(SERVER_CORE);
    let log = File::options()
        .create(true)
        .append(true)
        .open(socket.with_extension("log"))?;
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log);
    let mut running = Running(command.spawn()?);
    let end = crate::figures::now() + PATIENCE;
    while std::os::unix::net::UnixStream::connect(socket).is_err() {
        if let Some(status) = running.0.try_wait()? {
            let log = fs::read_to_string(socket.with_extension("log"))?;
            return Err(io::Error::other(format!("{command:?}: {status}: {log}")));
        }
        if crate::figures::now() > end {
            return Err(io::Error::other(format!("{command:?} does not listen")));
        }
        std::thread::yield_now();
    }
    Ok(running)
}

pub(crate) fn daemon_program() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_domo-tokend"))
}

pub(crate) fn helper_program() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_domo-token"))
}

/// The compiled programs of the lower bounds, and the bytes of the daemon's requests and responses.
pub(crate) struct Floors {
    folder: TempDir,
    /// Hello and request.
    pub(crate) request: Vec<u8>,
    /// Hello and response.
    pub(crate) answer: Vec<u8>,
    /// The position of the token's text in the response.
    pub(crate) text: std::ops::Range<usize>,
}

impl Floors {
    /// Compiles the programs, and records one exchange with `stand`.
    pub(crate) fn build(stand: &Stand) -> io::Result<Self> {
        let folder = tempfile::tempdir()?;
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/floor");
        for name in ["client", "echo", "epoll", "rss"] {
            let mut compile = Command::new("cc");
            compile.args([
                "-O2",
                "-Wall",
                "-Wextra",
                "-Werror",
                "-D_GNU_SOURCE",
                "-pthread",
                "-o",
            ]);
            compile.arg(folder.path().join("compiled"));
            compile.arg(source.join(name).with_extension("c"));
            succeed(&mut compile)?;
            fs::copy(folder.path().join("compiled"), folder.path().join(name))?;
        }
        let mut compile = Command::new("cc");
        compile.args(["-O2", "-static", "-D_GNU_SOURCE", "-o"]);
        compile
            .arg(folder.path().join("compiled"))
            .arg(source.join("client.c"));
        succeed(&mut compile)?;
        fs::copy(
            folder.path().join("compiled"),
            folder.path().join("client-static"),
        )?;
        let request = request("data")?;
        let answer = Caller::connect(&stand.socket())?.first(&request)?;
        let body = answer.get(GREETING + HEAD..).unwrap_or_default();
        let Ok(Response::Token(token)) = frame::decode(body) else {
            return Err(io::Error::other("the daemon sent no token"));
        };
        let text = token.access_token.expose().as_bytes();
        let start = answer.windows(text.len()).position(|window| window == text);
        let start = start.unwrap_or_default();
        let text = start..start + text.len();
        fs::write(folder.path().join("request"), &request)?;
        fs::write(folder.path().join("answer"), &answer)?;
        Ok(Self {
            folder,
            request,
            answer,
            text,
        })
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Copies a program, as an installer does. A file that a linker wrote takes longer to start: 1.10 times the time of
    /// /bin/true, against 1.04 times for a copy of it.
    pub(crate) fn install(&self, program: &Path, name: &str) -> io::Result<PathBuf> {
        let installed = self.path(name);
        fs::copy(program, &installed)?;
        Ok(installed)
    }

    /// Starts a minimal server that responds with the daemon's bytes.
    pub(crate) fn serve(&self, name: &str) -> io::Result<(Running, PathBuf)> {
        let socket = self.path(name).with_extension("sock");
        let mut command = Command::new(self.path(name));
        command.arg(&socket).arg(self.path("answer"));
        let running = start(command, &socket)?;
        Ok((running, socket))
    }

    /// Returns the helper's lower bound: a C program that does the same on the same socket.
    pub(crate) fn client(&self, name: &str, socket: &Path) -> Command {
        let mut command = Command::new(self.path(name));
        command.arg(socket).arg(self.path("request"));
        command
            .arg(self.text.start.to_string())
            .arg(self.text.len().to_string());
        command.arg(self.answer.len().to_string());
        command
    }
}

/// Returns a hello and a request for a token of that scope set.
pub(crate) fn request(scope: &str) -> io::Result<Vec<u8>> {
    let request = Request::Token(TokenRequest {
        subject: TokenSubject {
            client: None,
            scope: scope.to_owned(),
        },
        min_ttl_ms: None,
        time_left_ms: 60_000,
        renew: None,
    });
    opening(&request)
}

/// Returns a hello and that request.
pub(crate) fn opening(request: &Request) -> io::Result<Vec<u8>> {
    let frame = frame::encode(request).map_err(io::Error::other)?;
    let mut bytes = greeting::hello(VERSION).to_vec();
    bytes.extend_from_slice(&frame);
    Ok(bytes)
}

pub(crate) fn succeed(command: &mut Command) -> io::Result<()> {
    let status = command.status()?;
    if status.success() {
        return Ok(());
    }
    Err(io::Error::other(format!("{command:?}: {status}")))
}
