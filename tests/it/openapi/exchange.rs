//! Exchanges a request and its response over the broker's socket, one per connection.

use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;

use crate::common::PATIENCE;

#[derive(Debug)]
pub(crate) struct Response {
    pub(crate) status: u16,
    headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Response {
    /// Returns the value of a header.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let mut fields = self.headers.iter();
        let field = fields.find(|(other, _)| other.eq_ignore_ascii_case(name));
        field.map(|(_, value)| value.as_str())
    }

    fn parse(bytes: &[u8]) -> Self {
        let at = bytes.windows(4).position(|part| part == b"\r\n\r\n");
        let at = at.unwrap_or_else(|| panic!("{:?}", String::from_utf8_lossy(bytes)));
        let head = str::from_utf8(&bytes[..at]).unwrap();
        let mut lines = head.split("\r\n");
        let status = lines.next().unwrap().split(' ').nth(1).unwrap();
        let fields = lines.map(|line| line.split_once(": ").unwrap());
        let mut response = Self {
            status: status.parse().unwrap(),
            headers: fields
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .collect(),
            body: bytes[at + 4..].to_vec(),
        };
        if response.header("Transfer-Encoding") == Some("chunked") {
            response.body = without_chunks(&response.body);
        }
        response
    }
}

/// Returns the content of the chunks that are complete.
fn without_chunks(mut rest: &[u8]) -> Vec<u8> {
    let mut content = Vec::new();
    while let Some(at) = rest.windows(2).position(|end| end == b"\r\n") {
        let length = usize::from_str_radix(str::from_utf8(&rest[..at]).unwrap(), 16).unwrap();
        let Some(chunk) = rest.get(at + 2..at + 2 + length) else {
            break;
        };
        content.extend_from_slice(chunk);
        rest = rest.get(at + 4 + length..).unwrap_or_default();
    }
    content
}

/// Returns a request with these header lines, after which the broker closes the connection.
pub(crate) fn request(method: &str, target: &str, lines: &[&str]) -> String {
    let lines: String = lines.iter().flat_map(|line| [*line, "\r\n"]).collect();
    format!("{method} {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{lines}\r\n")
}

pub(crate) fn connect(socket: &Path) -> UnixStream {
    let stream = UnixStream::connect(socket).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// Sends a request and reads the response up to the end of the connection.
pub(crate) fn exchange(socket: &Path, request: &str) -> Response {
    exchange_until(socket, request, |_| false)
}

/// Sends a request and reads the response until `is_enough` of what was received, or the end of the connection.
pub(crate) fn exchange_until(
    socket: &Path,
    request: &str,
    is_enough: impl Fn(&str) -> bool,
) -> Response {
    let mut stream = connect(socket);
    stream.write_all(request.as_bytes()).unwrap();
    let mut received = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => received.extend_from_slice(&buffer[..count]),
            // The broker had not read the whole request.
            Err(error) if error.kind() == ErrorKind::ConnectionReset => break,
            Err(error) => panic!("{error}: {:?}", String::from_utf8_lossy(&received)),
        }
        if is_enough(&String::from_utf8_lossy(&received)) {
            break;
        }
    }
    Response::parse(&received)
}

/// Sends a GET and returns the response.
pub(crate) fn get(socket: &Path, target: &str) -> Response {
    exchange(socket, &request("GET", target, &[]))
}
