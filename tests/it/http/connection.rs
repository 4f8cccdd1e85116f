//! One HTTP connection, and a reader of responses that accepts only what RFC 9110, 9112, 9457 and the API permit.

use std::io::{ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::panic::catch_unwind;
use std::thread;

use rustix::fs::{Gid, Uid};
use rustix::thread::{set_thread_groups, set_thread_res_gid, set_thread_res_uid};
use serde_json::Value;

use crate::common::{Daemon, PATIENCE};

/// The kinds of error with their status and exit code.
const KINDS: [(&str, u16, u64); 15] = [
    ("bad_request", 400, 2),
    ("forbidden_origin", 403, 2),
    ("not_permitted", 403, 77),
    ("not_found", 404, 2),
    ("unknown_client", 404, 78),
    ("unknown_scope", 404, 78),
    ("method_not_allowed", 405, 2),
    ("min_ttl_too_long", 409, 78),
    ("gone", 410, 78),
    ("denied", 424, 78),
    ("busy", 429, 75),
    ("head_too_large", 431, 2),
    ("bug", 500, 70),
    ("unavailable", 503, 75),
    ("version_not_supported", 505, 2),
];

/// Options and variables of the helper, and the method of the crate: advice that helps no caller of HTTP.
const ADVICE_FOR_OTHERS: [&str; 7] = [
    "--client",
    "--min-ttl",
    "--timeout",
    "--renew",
    "--wait",
    "DOMO_TOKEN_CLIENT",
    "with_client",
];

/// A response.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    headers: Vec<(String, String)>,
    pub(super) body: Vec<u8>,
}

impl Answer {
    /// Returns the values of a header, by its name in lower case.
    pub(super) fn all(&self, name: &str) -> Vec<&str> {
        let fields = self.headers.iter().filter(|(found, _)| found == name);
        fields.map(|(_, value)| value.as_str()).collect()
    }

    /// Returns the value of a header that may be there once.
    #[track_caller]
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        let all = self.all(name);
        assert!(all.len() < 2, "{name} twice: {all:?}");
        all.first().copied()
    }

    /// Returns the headers without the date, sorted.
    pub(super) fn headers_but_date(&self) -> Vec<(String, String)> {
        let fields = self.headers.iter().filter(|(name, _)| name != "date");
        let mut fields: Vec<_> = fields.cloned().collect();
        fields.sort();
        fields
    }

    pub(super) fn is_chunked(&self) -> bool {
        self.header("transfer-encoding") == Some("chunked")
    }

    /// Returns whether the connection ends after this response.
    pub(super) fn closes(&self) -> bool {
        self.header("connection")
            .is_some_and(|value| value.eq_ignore_ascii_case("close"))
    }

    #[track_caller]
    pub(super) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    /// Returns the JSON of a success.
    #[track_caller]
    pub(super) fn json(&self) -> Value {
        assert_eq!(self.status, 200, "{}", self.text());
        assert_eq!(self.header("content-type"), Some("application/json"));
        serde_json::from_slice(&self.body).unwrap()
    }

    /// Returns the problem, after a check that it is of this kind.
    #[track_caller]
    pub(super) fn problem(&self, kind: &str) -> Value {
        let problem = self.any_problem();
        let found = problem["type"].as_str().unwrap();
        assert_eq!(found, format!("urn:domo-token:{kind}"), "{problem}");
        problem
    }

    /// Returns the kind of a problem.
    #[track_caller]
    pub(super) fn kind(&self) -> String {
        let problem = self.any_problem();
        let urn = problem["type"].as_str().unwrap();
        urn.strip_prefix("urn:domo-token:").unwrap().to_owned()
    }

    /// Returns the message of a problem of this kind.
    #[track_caller]
    pub(super) fn detail(&self, kind: &str) -> String {
        self.problem(kind)["detail"].as_str().unwrap().to_owned()
    }

    /// Checks what is the same for all problems.
    #[track_caller]
    fn any_problem(&self) -> Value {
        assert_eq!(
            self.header("content-type"),
            Some("application/problem+json"),
            "{} {}",
            self.status,
            self.text()
        );
        let problem: Value = serde_json::from_slice(&self.body).unwrap();
        let kind = problem["type"].as_str().unwrap();
        let kind = kind.strip_prefix("urn:domo-token:").unwrap();
        let found = KINDS.iter().find(|(name, ..)| *name == kind);
        let (_, status, exit_code) = found.unwrap_or_else(|| panic!("{problem}"));
        assert_eq!(self.status, *status, "{problem}");
        assert_eq!(problem["status"], *status, "{problem}");
        assert_eq!(problem["exit_code"], *exit_code, "{problem}");
        for field in ["title", "detail"] {
            let text = problem[field].as_str().unwrap();
            assert!(!text.is_empty() && !text.contains(['\n', '\r']), "{text:?}");
            for advice in ADVICE_FOR_OTHERS {
                assert!(!text.contains(advice), "{advice} in {text}");
            }
        }
        match (self.header("retry-after"), &problem["retry_after_ms"]) {
            (None, Value::Null) => {}
            (Some(seconds), wait) => {
                let seconds: u64 = seconds.parse().unwrap();
                let wait = wait.as_u64().unwrap_or_else(|| panic!("{problem}"));
                // The least whole number of seconds that is not earlier.
                assert!(seconds * 1000 >= wait, "{seconds} s, {problem}");
                assert!(
                    seconds.saturating_sub(1) * 1000 <= wait,
                    "{seconds} s, {problem}"
                );
            }
            (None, wait) => panic!("retry_after_ms {wait} without Retry-After"),
        }
        problem
    }

    /// Checks what is the same for all responses to a method.
    #[track_caller]
    fn check(&self, method: &str) {
        assert_ne!(self.status, 401, "never");
        assert_eq!(
            self.header("cache-control"),
            Some("no-store"),
            "{} {}",
            self.status,
            self.text()
        );
        assert!(self.all("set-cookie").is_empty());
        assert!(self.all("access-control-allow-origin").is_empty());
        if self.status >= 400 && self.header("content-type") == Some("application/problem+json") {
            if method == "HEAD" {
                assert!(KINDS.iter().any(|(_, status, _)| *status == self.status));
            } else {
                self.any_problem();
            }
        }
        if self.status == 405 {
            assert!(!self.all("allow").is_empty(), "RFC 9110 §15.5.6");
        }
    }
}

/// The connection of a caller.
#[derive(Debug)]
pub(super) struct Connection {
    stream: UnixStream,
    /// What was received and not read.
    unread: Vec<u8>,
}

impl Connection {
    #[track_caller]
    pub(super) fn open(daemon: &Daemon) -> Self {
        Self::of(UnixStream::connect(daemon.socket()).unwrap())
    }

    /// Connects as another user. The identity of one thread is changed, and the kernel keeps it with the connection.
    #[track_caller]
    pub(super) fn open_as(daemon: &Daemon, uid: u32, gid: u32) -> Self {
        let socket = daemon.socket();
        let thread = thread::spawn(move || {
            let (user, group) = (Uid::from_raw(uid), Gid::from_raw(gid));
            set_thread_groups(&[]).unwrap();
            set_thread_res_gid(group, group, group).unwrap();
            set_thread_res_uid(user, user, user).unwrap();
            UnixStream::connect(socket).unwrap()
        });
        Self::of(thread.join().unwrap())
    }

    fn of(stream: UnixStream) -> Self {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let unread = Vec::new();
        Self { stream, unread }
    }

    /// Sends any bytes. The daemon may close the connection before it has received all of them.
    pub(super) fn send(&mut self, bytes: impl AsRef<[u8]>) {
        if let Err(error) = self.stream.write_all(bytes.as_ref()) {
            let ended = [ErrorKind::BrokenPipe, ErrorKind::ConnectionReset];
            assert!(ended.contains(&error.kind()), "{error}");
        }
    }

    /// Ends the direction to the daemon.
    pub(super) fn finish(&mut self) {
        self.stream.shutdown(Shutdown::Write).unwrap();
    }

    pub(super) fn duplicate(&self) -> UnixStream {
        self.stream.try_clone().unwrap()
    }

    #[track_caller]
    pub(super) fn get(&mut self, target: &str) -> Answer {
        self.request("GET", target, &[])
    }

    /// Returns whether the daemon still answers on this connection.
    #[track_caller]
    pub(super) fn is_served(&mut self) -> bool {
        self.send(head("GET", "/livez", &[]));
        self.receive() > 0 && self.answer("GET").status == 200
    }

    /// Sends a request to `localhost` and reads the response.
    #[track_caller]
    pub(super) fn request(
        &mut self,
        method: &str,
        target: &str,
        headers: &[(&str, &str)],
    ) -> Answer {
        self.send(head(method, target, headers));
        self.answer(method)
    }

    /// Sends any bytes and reads the response to a GET.
    #[track_caller]
    pub(super) fn exchange(&mut self, bytes: impl AsRef<[u8]>) -> Answer {
        self.send(bytes);
        self.answer("GET")
    }

    /// Reads the response to a request of that method.
    #[track_caller]
    pub(super) fn answer(&mut self, method: &str) -> Answer {
        let mut answer = self.head_of_answer();
        let has_body = method != "HEAD" && answer.status != 304;
        if answer.is_chunked() && has_body {
            while let Some(chunk) = self.chunk() {
                answer.body.extend(chunk);
            }
        } else if has_body {
            let length = answer.header("content-length");
            let length = length.unwrap_or_else(|| panic!("no length: {answer:?}"));
            answer.body = self.take(length.parse().unwrap());
        }
        answer.check(method);
        answer
    }

    /// Reads the head of a response. The body is left unread.
    #[track_caller]
    pub(super) fn head_of_answer(&mut self) -> Answer {
        let line = self.line();
        let mut words = line.splitn(3, ' ');
        assert_eq!(words.next(), Some("HTTP/1.1"), "{line:?}");
        let status = words.next().unwrap();
        assert_eq!(status.len(), 3, "{line:?}");
        assert!(words.next().is_some(), "a space after the status: {line:?}");
        let mut answer = Answer {
            status: status.parse().unwrap(),
            headers: Vec::new(),
            body: Vec::new(),
        };
        loop {
            let line = self.line();
            if line.is_empty() {
                break;
            }
            let (name, value) = line.split_once(':').unwrap_or_else(|| panic!("{line:?}"));
            let is_token = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
            assert!(!name.is_empty() && name.chars().all(is_token), "{line:?}");
            let is_visible = |c: char| c == '\t' || (' '..='~').contains(&c);
            assert!(value.chars().all(is_visible), "{line:?}");
            let value = value.trim_matches([' ', '\t']).to_owned();
            answer.headers.push((name.to_ascii_lowercase(), value));
        }
        let length = answer.header("content-length");
        let coding = answer.header("transfer-encoding");
        assert!(length.is_none() || coding.is_none(), "{answer:?}");
        assert!(
            coding.is_none_or(|coding| coding == "chunked"),
            "{answer:?}"
        );
        let is_number = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
        assert!(length.is_none_or(is_number), "{answer:?}");
        answer
    }

    /// Reads one chunk, or returns `None` after the last one.
    #[track_caller]
    pub(super) fn chunk(&mut self) -> Option<Vec<u8>> {
        let size = self.line();
        let size = usize::from_str_radix(&size, 16).unwrap_or_else(|_| panic!("{size:?}"));
        if size == 0 {
            assert_eq!(self.line(), "", "no trailers");
            return None;
        }
        let chunk = self.take(size);
        assert_eq!(self.line(), "");
        Some(chunk)
    }

    /// Waits for the start of a response and returns what has arrived.
    #[track_caller]
    pub(super) fn peek(&mut self) -> &[u8] {
        if self.unread.is_empty() {
            self.receive();
        }
        &self.unread
    }

    /// Reads until the end, which must come with nothing left over.
    #[track_caller]
    pub(super) fn assert_closed(&mut self) {
        let left = self.read_to_end();
        assert_eq!(String::from_utf8_lossy(&left), "", "before the end");
    }

    /// Returns all bytes until the connection ends.
    #[track_caller]
    pub(super) fn read_to_end(&mut self) -> Vec<u8> {
        while self.receive() > 0 {}
        std::mem::take(&mut self.unread)
    }

    /// Reads a line without its end, which must be CRLF.
    #[track_caller]
    fn line(&mut self) -> String {
        loop {
            if let Some(at) = self.unread.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.unread.drain(..=at).collect();
                let line = String::from_utf8(line).unwrap();
                let line = line.strip_suffix("\r\n");
                return line.unwrap_or_else(|| panic!("a bare LF")).to_owned();
            }
            let had = String::from_utf8_lossy(&self.unread).into_owned();
            assert!(self.receive() > 0, "ended after {had:?}");
        }
    }

    #[track_caller]
    pub(super) fn take(&mut self, count: usize) -> Vec<u8> {
        while self.unread.len() < count {
            assert!(self.receive() > 0, "ended within a body");
        }
        self.unread.drain(..count).collect()
    }

    /// Waits for more bytes and returns their number, 0 at the end.
    #[track_caller]
    pub(super) fn receive(&mut self) -> usize {
        let mut buffer = [0; 16 * 1024];
        let count = match self.stream.read(&mut buffer) {
            Ok(count) => count,
            // What the daemon has not read when it closes is reported so.
            Err(error) if error.kind() == ErrorKind::ConnectionReset => 0,
            Err(error) => panic!("{error}"),
        };
        self.unread.extend_from_slice(&buffer[..count]);
        count
    }
}

/// The head of a request to `localhost`.
pub(super) fn head(method: &str, target: &str, headers: &[(&str, &str)]) -> String {
    let fields = headers
        .iter()
        .map(|(name, value)| format!("{name}: {value}\r\n"));
    let fields: String = fields.collect();
    format!("{method} {target} HTTP/1.1\r\nHost: localhost\r\n{fields}\r\n")
}

/// Reads a response to `method` from these bytes and the end of the connection.
fn read(method: &str, bytes: &str) -> Answer {
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    theirs.write_all(bytes.as_bytes()).unwrap();
    drop(theirs);
    let mut connection = Connection::of(ours);
    let answer = connection.answer(method);
    connection.assert_closed();
    answer
}

const OK: &str = "HTTP/1.1 200 OK\r\ncache-control: no-store\r\n";

#[test]
fn reader_accepts_bodies_of_both_framings_and_none() {
    let sized = format!("{OK}Content-Length: 3\r\n\r\nabc");
    assert_eq!(read("GET", &sized).text(), "abc");
    let chunked = format!("{OK}Transfer-Encoding: chunked\r\n\r\n2\r\nab\r\n1\r\nc\r\n0\r\n\r\n");
    assert_eq!(read("GET", &chunked).text(), "abc");
    assert_eq!(
        read("HEAD", &format!("{OK}content-length: 3\r\n\r\n")).text(),
        ""
    );
    let not_modified = OK.replace("200 OK", "304 Not Modified") + "\r\n";
    assert_eq!(read("GET", &not_modified).status, 304);
}

#[test]
fn reader_rejects_what_no_server_may_send() {
    let problem = |body: &str| {
        format!(
            "HTTP/1.1 404 Not Found\r\nCache-Control: no-store\r\nContent-Length: {}\r\n\
             Content-Type: application/problem+json\r\n\r\n{body}",
            body.len()
        )
    };
    let valid = r#"{"type":"urn:domo-token:not_found","title":"t","detail":"d","status":404,"exit_code":2}"#;
    assert_eq!(read("GET", &problem(valid)).kind(), "not_found");
    for bad in [
        format!("{OK}Content-Length: 3\r\n\r\nab"),
        format!("{OK}Content-Length: 3\r\n\r\nabcd"),
        format!("{OK}\r\n"),
        format!("{OK}Content-Length: 0\r\nContent-Length: 0\r\n\r\n"),
        format!("{OK}Content-Length: 0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
        format!("{OK}Content-Length: 0\n\r\n"),
        format!("{OK}Content-Length : 0\r\n\r\n"),
        format!("{OK}Transfer-Encoding: chunked\r\n\r\n1\r\nab\r\n0\r\n\r\n"),
        format!("{OK}Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n"),
        "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n".to_owned(),
        OK.replace("1.1", "1.0") + "Content-Length: 0\r\n\r\n",
        OK.replace("200", "401") + "Content-Length: 0\r\n\r\n",
        OK.replace("200", "405") + "Content-Length: 0\r\n\r\n",
        problem(&valid.replace("not_found", "nosuch")),
        problem(&valid.replace("\"exit_code\":2", "\"exit_code\":78")),
        problem(&valid.replace("\"status\":404", "\"status\":400")),
        problem(&valid.replace("\"d\"", "\"use --client\"")),
        problem(&valid.replace("\"d\"", "\"\"")),
        problem(&valid.replace('}', ",\"retry_after_ms\":5}")),
        problem(&valid.replace("not_found", "denied")),
    ] {
        assert!(catch_unwind(|| read("GET", &bad)).is_err(), "{bad:?}");
    }
}
