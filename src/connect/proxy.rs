//! Opens a tunnel through an HTTP proxy, and classifies its rejections (407, 403).

mod connect_head;

use std::io;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::client_certificate::{ClientCertificate, Offer};
use super::error::{ConnectError, ConnectFailure, innermost, is_closed, tls_cause};
use super::redact::Secrets;
use super::server::Server;
use super::{Stream, tls_error};
use crate::config::{Naming, Setting};
use crate::credentials::ProxyLogin;
use connect_head::{Head, Progress};

pub(super) use connect_head::MAX_HEAD;

/// The most bytes of one read.
const CHUNK: usize = 4096;

/// Requests a tunnel to `target` and reads the response. What follows on `stream` comes from the target. Returns the
/// status of the response.
///
/// # Errors
///
/// [`ConnectError`] with the proxy and its response.
pub(super) async fn open_tunnel(
    stream: &mut (dyn Stream + '_),
    proxy: &Server,
    login: Option<&ProxyLogin>,
    target: &Server,
    naming: Naming,
) -> Result<u16, ConnectError> {
    let request = connect_head::request(&target.authority(), login);
    let answer = exchange(stream, &request).await;
    let shown = &proxy.shown;
    let check = format!("check {}", naming.name(Setting::PROXY));
    let (received, progress) = answer.map_err(|error| failure(&error, shown, naming))?;
    match progress {
        Progress::Head(head) if (200..300).contains(&head.status) => {
            if received.len() > head.length {
                return Err(page_error(shown, head.status));
            }
            Ok(head.status)
        }
        Progress::Head(head) => Err(rejection(head, shown, login, &target.shown, naming)),
        Progress::NotHttp => Err(not_http(&received, proxy, naming)),
        Progress::TooLong => Err(ConnectError::proxy(format!(
            "{shown} returned more than {MAX_HEAD} bytes of headers to CONNECT; {check}"
        ))),
        Progress::More => Err(closed(shown, naming)),
    }
}

fn closed(shown: &str, naming: Naming) -> ConnectError {
    let name = naming.name(Setting::PROXY);
    ConnectError::proxy(format!(
        "{shown} closed the connection before it responded to CONNECT; check {name}"
    ))
}

/// Returns the error of a proxy that did not respond. With TLS 1.3 it requires a client certificate only after the
/// handshake.
fn failure(error: &io::Error, shown: &str, naming: Naming) -> ConnectError {
    if let Some(tls) = tls_cause(error) {
        let without = ClientCertificate::new(Offer::Unsupported);
        return ConnectError::tls(tls_error::message(tls, shown, &without, naming));
    }
    if is_closed(error) {
        return closed(shown, naming);
    }
    let (message, name) = (innermost(error), naming.name(Setting::PROXY));
    ConnectError::proxy(format!(
        "the connection to {shown} failed before it responded to CONNECT: {message}; check {name}"
    ))
}

/// Sends the request. Returns what was received, up to the end of the head or of the connection.
async fn exchange(
    stream: &mut (dyn Stream + '_),
    request: &[u8],
) -> io::Result<(Vec<u8>, Progress)> {
    stream.write_all(request).await?;
    stream.flush().await?;
    let mut received = Vec::new();
    let mut chunk = [0; CHUNK];
    loop {
        let count = stream.read(&mut chunk).await?;
        received.extend_from_slice(chunk.get(..count).unwrap_or_default());
        let progress = connect_head::read(&received);
        if count == 0 || !matches!(progress, Progress::More) {
            return Ok((received, progress));
        }
    }
}

/// Returns the error of a proxy that sent more than a response: the server behind a tunnel sends nothing before its
/// client does, and only TLS.
pub(super) fn page_error(shown: &str, status: u16) -> ConnectError {
    ConnectError::proxy(format!(
        "{shown} returned {status} to CONNECT and then sent a page, not TLS; the network may require a \
         login: open a page in a browser on this network"
    ))
}

fn rejection(
    head: Head,
    shown: &str,
    login: Option<&ProxyLogin>,
    target: &str,
    naming: Naming,
) -> ConnectError {
    let secrets = Secrets {
        login,
        ..Secrets::default()
    };
    let status = &head.status;
    let reason = secrets.removed_from(&head.reason);
    let separator = if reason.is_empty() { "" } else { " " };
    let answered = format!("{shown} returned {status}{separator}{reason} to CONNECT");
    if *status == 407 {
        let (set, file) = (naming.set(), naming.name(Setting::PROXY_LOGIN));
        let hint = match head.unsupported_schemes() {
            Some(schemes) => format!(
                "it accepts only {} authentication, and only Basic is supported; enable Basic on it \
                 and {set} {file}",
                secrets.removed_from(&schemes)
            ),
            None if login.is_some() => {
                format!("it rejected the login; correct the file of {file}")
            }
            None => {
                format!("it requires a login; write user:password to a file and {set} {file}")
            }
        };
        return ConnectError::new(ConnectFailure::ProxyLogin, format!("{answered}: {hint}"));
    }
    let hint = match status {
        300..=399 => "; it may require a login on a page, which is not supported".to_owned(),
        403 => format!("; ask its operator to allow {target}"),
        _ => String::new(),
    };
    ConnectError::new(ConnectFailure::Proxy(head.headers), answered + &hint)
}

fn not_http(received: &[u8], proxy: &Server, naming: Naming) -> ConnectError {
    let Server { shown, address, .. } = proxy;
    let message = match received.first() {
        Some(0x15 | 0x16) => {
            let proxy = naming.assignment(Setting::PROXY, &format!("https://{address}"));
            format!("{shown} speaks TLS, not http; write {proxy}")
        }
        Some(0 | 4 | 5) => {
            let http = naming.choose(
                "set proxy to an HTTP proxy",
                "set DOMO_PROXY to an HTTP proxy",
                "use an HTTP proxy with --proxy",
            );
            format!(
                "{shown} does not speak HTTP; it may be a SOCKS proxy, which is not supported; {http}"
            )
        }
        _ => {
            let name = naming.name(Setting::PROXY);
            format!("{shown} does not speak HTTP; check the host and port of {name}")
        }
    };
    ConnectError::proxy(message)
}
