//! Sends one request over its own connection, and receives the response.

use std::future::poll_fn;
use std::pin::pin;

use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::time::{Instant, timeout_at};
use zeroize::Zeroizing;

use super::response::{self, Answer};
use super::{ERROR_BODY, MAX_BODY};
use crate::connect::{
    ConnectError, ConnectFailure, Connection, Diagnosis, innermost, is_closed, one_line,
};
use crate::platform::clock::{timer_now, wall_now};
use domo_token_core::fetch_result::{Cause, FetchError};

/// The longest head of a response, in bytes.
pub(super) const MAX_HEAD: usize = 512 * 1024;

/// The most header lines of a response.
pub(super) const MAX_HEADERS: usize = 1024;

/// Sends `request` to `server_name` and receives the response, by `deadline`.
///
/// # Errors
///
/// [`FetchError::Transient`] if no head is received. A response can have an incomplete body.
pub(super) async fn send(
    connection: Connection,
    request: Request<Full<Bytes>>,
    server_name: &str,
    deadline: Instant,
) -> Result<Answer, FetchError> {
    let Connection { stream, diagnosis } = connection;
    let context = Context {
        diagnosis,
        server_name,
        deadline,
    };
    let mut http = http1::Builder::new();
    http.max_headers(MAX_HEADERS)
        .max_header_size(MAX_HEAD)
        .max_buf_size(MAX_HEAD);
    let started = http.handshake(TokioIo::new(stream)).await;
    let (mut sender, connection) = started.map_err(|error| context.without_answer(&error))?;
    let work = async {
        let sent = timeout_at(deadline, sender.send_request(request)).await;
        let response = sent.map_err(|_| context.late("no response from", "in time"))?;
        let response = response.map_err(|error| context.without_answer(&error))?;
        Ok(context.receive(response).await)
    };
    while_driven(connection, work).await
}

/// Runs `work` while polling the connection, which does nothing by itself. If the connection ends, `work` returns the
/// more specific error.
async fn while_driven<T>(connection: impl Future, work: impl Future<Output = T>) -> T {
    let (mut connection, mut work) = (pin!(connection), pin!(work));
    let mut is_open = true;
    poll_fn(|context| {
        if is_open {
            is_open = connection.as_mut().poll(context).is_pending();
        }
        work.as_mut().poll(context)
    })
    .await
}

struct Context<'a> {
    diagnosis: Diagnosis,
    server_name: &'a str,
    deadline: Instant,
}

impl Context<'_> {
    async fn receive(&self, response: Response<Incoming>) -> Answer {
        let received = wall_now();
        let (head, body) = response.into_parts();
        let (status, headers) = (head.status, head.headers);
        let limit = if status == StatusCode::OK {
            self.deadline
        } else {
            self.deadline.min(timer_now() + ERROR_BODY)
        };
        let until_close = response::ends_with_connection(&headers);
        let mut read = Zeroizing::new(Vec::new());
        let result = timeout_at(limit, self.read(body, until_close, &mut read)).await;
        let cut = match result {
            Ok(result) => result.err(),
            Err(_) => Some(self.late("the response of", "was not complete in time")),
        };
        Answer {
            status,
            headers,
            body: read,
            received,
            cut,
        }
    }

    /// Appends the body to `read`, as far as it is received.
    async fn read(
        &self,
        mut body: Incoming,
        until_close: bool,
        read: &mut Vec<u8>,
    ) -> Result<(), FetchError> {
        while let Some(frame) = body.frame().await {
            let frame = match frame {
                Ok(frame) => frame,
                // The end of TCP without TLS's own end also ends such a body: its content shows whether it is
                // complete.
                Err(error) if until_close && is_closed(&error) => return Ok(()),
                Err(error) => return Err(self.failure(&error, "")),
            };
            let Ok(data) = frame.into_data() else {
                continue;
            };
            let room = MAX_BODY - read.len();
            read.extend_from_slice(data.get(..room).unwrap_or(&data));
            if data.len() > room {
                let message = format!("the response exceeds {MAX_BODY} bytes");
                return Err(FetchError::transient(Cause::Unusable, message));
            }
        }
        Ok(())
    }

    fn late(&self, before: &str, after: &str) -> FetchError {
        let server_name = self.server_name;
        FetchError::transient(Cause::Timeout, format!("{before} {server_name} {after}"))
    }

    /// Returns the error of a request without a response.
    fn without_answer(&self, error: &hyper::Error) -> FetchError {
        self.failure(error, self.diagnosis.hint())
    }

    /// Returns why a connection failed, with `hint` if nothing else explains it.
    fn failure(&self, error: &hyper::Error, hint: &str) -> FetchError {
        let server_name = self.server_name;
        if error.is_parse() {
            let message = unreadable(error, server_name);
            return FetchError::transient(Cause::Connect, message);
        }
        if let Some(explained) = self.diagnosis.explain(error) {
            return of_connection(explained);
        }
        let is_end = error.is_incomplete_message() || error.is_closed() || error.is_canceled();
        let message = if is_end || is_closed(error) {
            format!("{server_name} closed the connection before its response was complete")
        } else {
            let message = one_line(&innermost(error));
            format!("the connection to {server_name} failed: {message}")
        };
        FetchError::transient(Cause::Connect, message + hint)
    }
}

/// Returns why the head of a response cannot be parsed.
fn unreadable(error: &hyper::Error, server_name: &str) -> String {
    if error.is_parse_too_large() {
        return format!(
            "the header of the response of {server_name} exceeds {MAX_HEAD} bytes or {MAX_HEADERS} \
             lines"
        );
    }
    if error.is_parse_version_h2() {
        return format!("{server_name} does not speak HTTP/1.1, and HTTP/2 is not supported");
    }
    // Only the library's message distinguishes the rest.
    let message = error.to_string();
    if message.contains("HTTP header") {
        return format!(
            "a header line of the response of {server_name} is malformed, which is not supported"
        );
    }
    if message.contains("transfer-encoding") {
        return format!(
            "the Transfer-Encoding of the response of {server_name} is malformed, or in HTTP/1.0, \
             which is not supported"
        );
    }
    if message.contains("content-length") {
        return format!(
            "the Content-Length of the response of {server_name} is malformed, or two differ"
        );
    }
    if message.contains("HTTP version") || message.contains("status") {
        return format!(
            "{server_name} does not speak HTTP; check scheme, host and port of the URL"
        );
    }
    format!(
        "the header of the response of {server_name} is malformed: {}",
        one_line(&message)
    )
}

/// Returns the error of a request whose connection failed.
pub(super) fn of_connection(error: ConnectError) -> FetchError {
    let message = one_line(&error.message);
    match error.failure {
        ConnectFailure::ProxyLogin => FetchError::ProxyLogin { message },
        ConnectFailure::Proxy(headers) => FetchError::Transient {
            cause: Cause::Proxy,
            message,
            retry_after: response::retry_after(&headers, wall_now()),
        },
        ConnectFailure::Unreachable => FetchError::transient(Cause::Connect, message),
        ConnectFailure::TimedOut => FetchError::transient(Cause::Timeout, message),
        ConnectFailure::Tls => FetchError::transient(Cause::Tls, message),
    }
}
