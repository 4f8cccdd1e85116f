//! Why there is no connection.

use std::error::Error;
use std::io;

use hyper::header::HeaderMap;

/// Why there is no connection. What a server or proxy sent is not yet fit for a log line.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct ConnectError {
    pub failure: ConnectFailure,
    /// What failed, why, and what to do.
    pub message: String,
}

#[derive(Debug)]
pub enum ConnectFailure {
    /// The name has no address, or none of its addresses can be reached.
    Unreachable,
    /// A step timed out.
    TimedOut,
    /// The server or the proxy can't be trusted, or its TLS is not supported.
    Tls,
    /// The proxy rejected its login (407).
    ProxyLogin,
    /// The proxy did not open a tunnel for another reason. These are the headers of its answer.
    Proxy(HeaderMap),
}

impl ConnectError {
    pub(super) fn new(failure: ConnectFailure, message: impl Into<String>) -> Self {
        Self {
            failure,
            message: message.into(),
        }
    }

    pub(super) fn unreachable(message: impl Into<String>) -> Self {
        Self::new(ConnectFailure::Unreachable, message)
    }

    pub(super) fn timed_out(message: impl Into<String>) -> Self {
        Self::new(ConnectFailure::TimedOut, message)
    }

    pub(super) fn tls(message: impl Into<String>) -> Self {
        Self::new(ConnectFailure::Tls, message)
    }

    /// Returns the error of a proxy that did not respond.
    pub(super) fn proxy(message: impl Into<String>) -> Self {
        Self::new(ConnectFailure::Proxy(HeaderMap::new()), message)
    }
}

/// Returns an error and all its causes. An I/O error does not return the error it wraps as `source`.
pub(crate) fn causes<'a>(
    error: &'a (dyn Error + 'static),
) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |&error| {
        let io = error.downcast_ref::<io::Error>();
        match io.and_then(io::Error::get_ref) {
            Some(wrapped) => Some(wrapped),
            None => error.source(),
        }
    })
}

/// Returns the root cause: the errors around it only report that something failed.
pub(crate) fn innermost(error: &(dyn Error + 'static)) -> String {
    causes(error).last().unwrap_or(error).to_string()
}

/// Returns whether the other side has closed the connection, even without TLS's own end.
pub(crate) fn is_closed(error: &(dyn Error + 'static)) -> bool {
    causes(error)
        .filter_map(|cause| cause.downcast_ref::<io::Error>())
        .any(|io| io.kind() == io::ErrorKind::UnexpectedEof)
}

/// Returns the TLS error that caused `error`, if any.
pub(super) fn tls_cause<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a rustls::Error> {
    causes(error).find_map(|cause| cause.downcast_ref())
}
