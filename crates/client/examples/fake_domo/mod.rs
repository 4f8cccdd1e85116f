//! An HTTP server that rejects one token, as Domo does after it was revoked.

use std::io::{self, BufRead, BufReader, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::thread;

/// The token that it answers with status 401.
pub(crate) const REJECTED: &str = "revoked-token";

/// Starts it and returns its URL.
pub(crate) fn start() -> io::Result<String> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let url = format!("http://{}/v1/datasets", listener.local_addr()?);
    thread::spawn(move || {
        // A connection that fails is an error of the request.
        listener
            .incoming()
            .flatten()
            .for_each(|stream| drop(serve(&stream)));
    });
    Ok(url)
}

fn serve(mut stream: &TcpStream) -> io::Result<()> {
    let head = BufReader::new(stream).lines().map_while(Result::ok);
    let head: Vec<String> = head.take_while(|line| !line.is_empty()).collect();
    let is_rejected = head.iter().any(|line| line.ends_with(REJECTED));
    let status = if is_rejected {
        "401 Unauthorized"
    } else {
        "200 OK"
    };
    write!(
        stream,
        "HTTP/1.1 {status}\r\nContent-Length: 2\r\nConnection: close\r\n\r\n[]"
    )
}
