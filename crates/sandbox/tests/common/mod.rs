//! A sandbox with one client, a minimal HTTP client, and the program.

#![cfg(test)]
#![allow(dead_code, reason = "each test file uses its own part")]

#[cfg(unix)]
pub(crate) mod run;

use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use domo_sandbox::{Builder, Sandbox};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use serde_json::{Value, json};

const PROGRAM: &str = env!("CARGO_BIN_EXE_domo-sandbox");

/// How long an event is waited for before a test fails; only ever reached by a failure.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// How long a silent connection is observed.
pub(crate) const SILENCE: Duration = Duration::from_millis(100);

/// The parameters of a request without scopes.
pub(crate) const GRANT: &str = "grant_type=client_credentials";

/// Prints why a test is skipped. The test harness shows the output of `println!` only for tests that fail, so this is
/// written past it.
pub(crate) fn print_skip(reason: &str) {
    writeln!(io::stderr(), "skipped: {reason}").unwrap();
}

/// A connection to a sandbox.
pub(crate) struct Connection<S = TcpStream>(pub(crate) S);

pub(crate) struct Answer {
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Connection {
    pub(crate) fn open(url: &str) -> Self {
        let stream = TcpStream::connect(host(url)).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Self(stream)
    }

    /// Returns whether nothing arrives, not even the end.
    pub(crate) fn is_silent(&mut self) -> bool {
        self.0.set_read_timeout(Some(SILENCE)).unwrap();
        let outcome = self.0.read(&mut [0]);
        self.0.set_read_timeout(Some(PATIENCE)).unwrap();
        outcome.is_err_and(|e| matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut))
    }
}

impl<S: Read + Write> Connection<S> {
    /// Sends a request with these header lines.
    pub(crate) fn send(&mut self, method: &str, path: &str, headers: &str, body: impl AsRef<[u8]>) {
        let (body, first) = (body.as_ref(), format!("{method} {path} HTTP/1.1"));
        let length = format!("Content-Length: {}", body.len());
        let head = format!("{first}\r\nHost: localhost\r\n{headers}{length}\r\n\r\n");
        // In one write: Nagle's algorithm would delay a second one by 40 ms.
        let request = [head.as_bytes(), body].concat();
        self.0.write_all(&request).unwrap();
    }

    /// Reads the head of a response.
    pub(crate) fn head(&mut self) -> Answer {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.extend(self.exactly(1));
        }
        Answer {
            head: String::from_utf8(head).unwrap(),
            body: Vec::new(),
        }
    }

    pub(crate) fn answer(&mut self) -> Answer {
        let mut answer = self.head();
        answer.body = self.exactly(answer.length());
        answer
    }

    pub(crate) fn exactly(&mut self, bytes: usize) -> Vec<u8> {
        let mut buffer = vec![0; bytes];
        self.0.read_exact(&mut buffer).unwrap();
        buffer
    }

    /// Reads until the end of the connection.
    pub(crate) fn rest(&mut self) -> Vec<u8> {
        let mut buffer = Vec::new();
        self.0.read_to_end(&mut buffer).unwrap();
        buffer
    }
}

impl Answer {
    pub(crate) fn status(&self) -> u16 {
        self.head.split(' ').nth(1).unwrap().parse().unwrap()
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let headers = self.head.lines().filter_map(|line| line.split_once(": "));
        let mut values = headers.filter(|(key, _)| *key == name);
        values.next().map(|(_, value)| value)
    }

    /// Returns the length of the body by the head.
    pub(crate) fn length(&self) -> usize {
        if self.status() == 204 {
            return 0;
        }
        self.header("content-length").unwrap().parse().unwrap()
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    pub(crate) fn json_or_null(&self) -> Value {
        if self.body.is_empty() {
            return Value::Null;
        }
        self.json()
    }

    pub(crate) fn text(&self) -> &str {
        str::from_utf8(&self.body).unwrap()
    }

    pub(crate) fn token(&self) -> String {
        let body = self.json();
        body.get("access_token")
            .unwrap()
            .as_str()
            .unwrap()
            .to_owned()
    }
}

pub(crate) fn sandbox() -> Sandbox {
    let builder = Sandbox::builder().client("id", "secret", &["data", "user"]);
    builder.start().unwrap()
}

/// Returns the host and port of a URL.
pub(crate) fn host(url: &str) -> &str {
    url.split('/').nth(2).unwrap()
}

/// Returns the header line with a client's credentials.
pub(crate) fn basic(id: &str, secret: &str) -> String {
    let encoded = STANDARD.encode(format!("{id}:{secret}"));
    format!("Authorization: Basic {encoded}\r\n")
}

/// Sends one request on a new connection.
pub(crate) fn call(
    url: &str,
    method: &str,
    path: &str,
    headers: &str,
    body: impl AsRef<[u8]>,
) -> Answer {
    let mut connection = Connection::open(url);
    connection.send(method, path, headers, body);
    connection.answer()
}

/// Posts that form with the client's credentials to the token endpoint.
pub(crate) fn post(url: &str, id: &str, secret: &str, form: &str) -> Answer {
    call(url, "POST", "/oauth/token", &basic(id, secret), form)
}

/// Returns the response to the sandbox's client.
pub(crate) fn ask(sandbox: &Sandbox, scope: &str) -> Answer {
    let form = format!("{GRANT}&scope={scope}");
    post(&sandbox.url(""), "id", "secret", &form)
}

/// Requests a protected resource with that token.
pub(crate) fn resource(sandbox: &Sandbox, path: &str, token: &str) -> Answer {
    let bearer = format!("Authorization: Bearer {token}\r\n");
    call(&sandbox.url(""), "GET", path, &bearer, "")
}

/// A sandbox whose API is called with a token.
pub(crate) struct Api {
    pub(crate) sandbox: Sandbox,
    token: String,
}

impl Api {
    pub(crate) fn new() -> Self {
        Self::with(Sandbox::builder())
    }

    pub(crate) fn with(builder: Builder) -> Self {
        let scopes = ["data", "user", "dashboard"];
        let sandbox = builder.client("id", "secret", &scopes).start().unwrap();
        let token = post(&sandbox.url(""), "id", "secret", GRANT).token();
        Self { sandbox, token }
    }

    pub(crate) fn call(
        &self,
        method: &str,
        path: &str,
        headers: &str,
        body: impl AsRef<[u8]>,
    ) -> Answer {
        let headers = format!("Authorization: Bearer {}\r\n{headers}", self.token);
        call(&self.sandbox.url(""), method, path, &headers, body)
    }

    pub(crate) fn csv(&self, method: &str, path: &str, body: impl AsRef<[u8]>) -> Answer {
        self.call(method, path, "Content-Type: text/csv\r\n", body)
    }

    /// Sends JSON. Returns the status and the JSON of the response, which is null without a body.
    pub(crate) fn json(&self, method: &str, path: &str, body: &Value) -> (u16, Value) {
        let json = "Content-Type: application/json\r\n";
        let answer = self.call(method, path, json, body.to_string());
        (answer.status(), answer.json_or_null())
    }

    pub(crate) fn get(&self, path: &str) -> (u16, Value) {
        let answer = self.call("GET", path, "", "");
        (answer.status(), answer.json_or_null())
    }

    pub(crate) fn delete(&self, path: &str) -> u16 {
        self.call("DELETE", path, "", "").status()
    }

    /// Creates a dataset with these columns, `TYPE name`, and imports the rows. Returns its path.
    pub(crate) fn dataset(&self, columns: &[&str], csv: &str) -> String {
        let schema = schema(columns);
        let new = json!({"name": "Test", "schema": schema});
        let (status, dataset) = self.json("POST", "/v1/datasets", &new);
        assert_eq!(status, 201, "{dataset}");
        let path = format!("/v1/datasets/{}", dataset["id"].as_str().unwrap());
        let imported = self.csv("PUT", &format!("{path}/data"), csv);
        assert_eq!(imported.status(), 204, "{:?}", imported.json_or_null());
        path
    }
}

pub(crate) fn schema(columns: &[&str]) -> Value {
    let columns = columns.iter().map(|column| {
        let (kind, name) = column.split_once(' ').unwrap();
        json!({"type": kind, "name": name})
    });
    json!({"columns": columns.collect::<Vec<Value>>()})
}

pub(crate) type Tls = StreamOwned<ClientConnection, TcpStream>;

/// Opens a connection that trusts this CA.
pub(crate) fn open_tls(url: &str, ca_pem: &str) -> Connection<Tls> {
    let mut roots = RootCertStore::empty();
    let authority = CertificateDer::from_pem_slice(ca_pem.as_bytes()).unwrap();
    roots.add(authority).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider);
    let config = config.with_safe_default_protocol_versions().unwrap();
    let config = config.with_root_certificates(roots).with_no_client_auth();
    let name = "127.0.0.1".try_into().unwrap();
    let session = ClientConnection::new(Arc::new(config), name).unwrap();
    Connection(StreamOwned::new(session, Connection::open(url).0))
}

/// A running `domo-sandbox`, killed when dropped.
pub(crate) struct Program {
    child: Child,
    lines: Receiver<String>,
}

impl Program {
    pub(crate) fn start(flags: &[&str]) -> Self {
        let mut command = Command::new(PROGRAM);
        command.args(["--port", "0"]).args(flags);
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let (sender, lines) = channel();
        thread::spawn(move || {
            let mut lines = stdout.lines().map_while(Result::ok);
            lines.try_for_each(|line| sender.send(line))
        });
        Self { child, lines }
    }

    /// Returns the next line without its number, if it has one.
    pub(crate) fn line(&self) -> String {
        let line = self.lines.recv_timeout(PATIENCE).unwrap();
        line.trim_start_matches("# ").to_owned()
    }

    /// Returns the URL in its first line, and skips the second one, which introduces the config.
    pub(crate) fn url(&self) -> String {
        let [line, _config_follows] = [self.line(), self.line()];
        line.strip_prefix("Token endpoint: ").unwrap().to_owned()
    }

    /// Sends SIGTERM and returns the exit code.
    #[cfg(unix)]
    pub(crate) fn terminate(mut self) -> Option<i32> {
        let mut kill = Command::new("kill");
        let kill = kill.args(["-TERM", &self.child.id().to_string()]);
        assert!(kill.status().unwrap().success());
        self.child.wait().unwrap().code()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs a program that ends by itself. Returns exit code, standard output and standard error.
pub(crate) fn run(flags: &[&str]) -> (Option<i32>, String, String) {
    let output = Command::new(PROGRAM).args(flags).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (
        output.status.code(),
        text(output.stdout),
        text(output.stderr),
    )
}
