//! [`Error`]: why there is no token, by what the caller can do about it.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::clock::{BootTime, boot_now};
use domo_token_protocol::duration;
use domo_token_protocol::messages::{Refusal, RefusalKind, VERSION};
use domo_token_protocol::scope::ScopeError;

/// The socket of the host's broker, except on Windows.
#[doc(hidden)]
pub const HOST_SOCKET: &str = "/run/domo-token/broker.sock";

/// Where the path of a socket comes from.
#[doc(hidden)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SocketOrigin {
    /// The app, or a flag of the helper.
    Caller,
    /// `$DOMO_TOKEN_SOCKET`.
    Variable,
    /// The default path of the user's own broker.
    Own,
    /// The default path of the host's broker.
    Host,
}

/// Why there is no token. [`Self::kind`] is what a program decides by; `Display` is one line for people, and
/// contains no secret.
///
/// ```
/// # #[cfg(unix)] {
/// use domo_token_client::{Broker, ErrorKind};
///
/// let error = Broker::connect_to("/no-such-folder/broker.sock").unwrap_err();
/// assert_eq!(error.kind(), ErrorKind::NotRunning);
/// assert!(error.is_retryable());
/// # }
/// ```
#[derive(Clone)]
pub struct Error(Arc<Inner>);

/// What an [`Error`] is, by what the caller can do about it. Kinds are only ever added.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The broker, or the permissions of its socket, deny this process the token: ask the broker's administrator for
    /// access.
    NotPermitted,
    /// The broker has no API client of that name, or none was named and the broker has no default client.
    UnknownClient,
    /// The broker has no such scope set for the API client: its config must list it.
    UnknownScope,
    /// No token of this scope set is ever valid for as long as [`min_ttl`](crate::TokenRequest::min_ttl) requires.
    MinTtlTooLong,
    /// Domo, or the proxy on the way to it, rejects the credentials or the scopes: the broker's administrator has to fix
    /// them.
    Rejected,
    /// The scope set was removed from the broker's config.
    Gone,
    /// There is no valid token now: the broker cannot get one from Domo. Retry later.
    Unavailable,
    /// The broker is at a limit, or stops. Retry later.
    Busy,
    /// No broker listens on the socket: start it. Retry later.
    NotRunning,
    /// The server on the socket cannot be trusted to be the broker; nothing was sent to it.
    Untrusted,
    /// The call's time limit has passed without an answer of the broker. Retry later.
    Timeout,
    /// The broker and this crate have no protocol version in common: install matching versions.
    IncompatibleVersion,
    /// The requested scopes are not a valid scope set.
    InvalidScope,
    /// `$DOMO_TOKEN_SOCKET` is not the path of a socket.
    InvalidSocket,
    /// The server violates the protocol, for example by an answer to another request.
    Protocol,
    /// The operating system returned an error, which is the [`source`](std::error::Error::source).
    Io,
}

#[derive(Clone)]
struct Inner {
    kind: ErrorKind,
    /// What failed, and why.
    message: String,
    /// What to do, where that is the same in any program and not part of the message.
    advice: Option<&'static str>,
    /// When the broker requests a token from Domo next.
    next_attempt: Option<BootTime>,
    source: Option<Arc<dyn std::error::Error + Send + Sync>>,
    details: ErrorDetails,
}

/// What a program needs that gives better advice than [`Error`] itself.
#[doc(hidden)]
#[derive(Clone, Debug)]
pub enum ErrorDetails {
    None,
    /// No broker listens.
    NoBroker {
        /// The last path tried.
        socket: PathBuf,
        origin: SocketOrigin,
        /// Whether the host's broker was not tried because the user has an own config.
        has_own_config: bool,
    },
    /// The name of the group whose members may use the socket.
    Group(String),
    /// The socket from which not even a greeting was received.
    Silent(Arc<Path>),
    /// The path that cannot be used as a socket.
    Unusable(Arc<Path>),
}

impl Error {
    /// Returns what the error is, by what the caller can do about it.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// Returns whether the same call may succeed later without a fix: [`ErrorKind::NotRunning`],
    /// [`ErrorKind::Unavailable`], [`ErrorKind::Busy`] and [`ErrorKind::Timeout`].
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        use ErrorKind::{Busy, NotRunning, Timeout, Unavailable};
        matches!(self.0.kind, NotRunning | Unavailable | Busy | Timeout)
    }

    /// Returns the time until the broker's next request to Domo, counted down since the error was received, if the
    /// broker named it; zero once that moment has passed. An earlier call gets the same error, unless the broker's config
    /// or credentials change.
    ///
    /// [`ErrorKind::Unavailable`] and [`ErrorKind::Rejected`] may have one.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        let now = boot_now();
        self.0.next_attempt.map(|at| at.saturating_since(now))
    }

    /// Displays the error without its advice, for a program that gives better advice.
    #[doc(hidden)]
    #[must_use]
    pub fn facts(&self) -> impl fmt::Display {
        Facts(self)
    }

    #[doc(hidden)]
    #[must_use]
    pub fn details(&self) -> &ErrorDetails {
        &self.0.details
    }

    /// Returns whether the broker, or the system, has decided against this caller and scope set.
    pub(crate) fn is_decision(&self) -> bool {
        match self.0.kind {
            ErrorKind::NotPermitted
            | ErrorKind::UnknownClient
            | ErrorKind::UnknownScope
            | ErrorKind::MinTtlTooLong
            | ErrorKind::Rejected
            | ErrorKind::Gone
            | ErrorKind::InvalidScope
            | ErrorKind::InvalidSocket => true,
            ErrorKind::Unavailable
            | ErrorKind::Busy
            | ErrorKind::NotRunning
            | ErrorKind::Untrusted
            | ErrorKind::Timeout
            | ErrorKind::IncompatibleVersion
            | ErrorKind::Protocol
            | ErrorKind::Io => false,
        }
    }

    pub(crate) fn new(kind: ErrorKind, message: impl fmt::Display) -> Self {
        Self(Arc::new(Inner {
            kind,
            message: one_line(message.to_string()),
            advice: None,
            next_attempt: None,
            source: None,
            details: ErrorDetails::None,
        }))
    }

    pub(crate) fn later(message: impl fmt::Display) -> Self {
        Self::new(ErrorKind::Unavailable, message)
    }

    pub(crate) fn late() -> Self {
        Self::new(ErrorKind::Timeout, "the broker did not answer in time")
    }

    pub(crate) fn busy(message: impl fmt::Display) -> Self {
        Self::new(ErrorKind::Busy, message)
    }

    pub(crate) fn protocol(message: impl fmt::Display) -> Self {
        Self::new(ErrorKind::Protocol, message)
    }

    pub(crate) fn untrusted(message: impl fmt::Display) -> Self {
        Self::new(ErrorKind::Untrusted, message)
    }

    /// Returns the error of a broker that speaks no version of ours, or not the one that a request needs.
    pub(crate) fn incompatible(theirs: u8) -> Self {
        let message = format!(
            "the broker speaks protocol version {theirs}, this program {VERSION}; \
             install matching versions and restart the broker"
        );
        Self::new(ErrorKind::IncompatibleVersion, message)
    }

    pub(crate) fn invalid_scope(error: ScopeError) -> Self {
        Self::new(ErrorKind::InvalidScope, error).with_source(error)
    }

    /// Returns the error of a socket on which no broker listens.
    pub(crate) fn not_running(
        tried: &[PathBuf],
        own_config: Option<&Path>,
        origin: SocketOrigin,
    ) -> Self {
        let shown = tried.iter().map(|path| path.display().to_string());
        let shown = shown.collect::<Vec<_>>().join(" or ");
        let message = match (origin, own_config.map(Path::display)) {
            (SocketOrigin::Variable, _) => {
                format!("$DOMO_TOKEN_SOCKET is {shown}: no broker listens there")
            }
            (_, Some(config)) => format!(
                "no broker listens on {shown}, the only socket that is used because {config} exists"
            ),
            (_, None) => format!("no broker listens on {shown}"),
        };
        let advice = match origin {
            SocketOrigin::Caller | SocketOrigin::Variable => "start a broker there",
            SocketOrigin::Own => "start your own broker: domo-tokend",
            SocketOrigin::Host => "start domo-tokend, or set it up first: domo-tokend init",
        };
        Self::new(ErrorKind::NotRunning, message)
            .with_advice(advice)
            .with_details(ErrorDetails::NoBroker {
                socket: tried.last().cloned().unwrap_or_default(),
                origin,
                has_own_config: own_config.is_some(),
            })
    }

    /// Returns the error of a socket that this process may not use; `group` is the one whose members may.
    pub(crate) fn not_permitted(message: impl fmt::Display, group: Option<String>) -> Self {
        let error = Self::new(ErrorKind::NotPermitted, message);
        let Some(group) = group else {
            return error;
        };
        error
            .with_advice("ask to be added to that group, and log in again")
            .with_details(ErrorDetails::Group(group))
    }

    /// Returns the error of a path that cannot be used as a socket.
    pub(crate) fn unusable_socket(path: &Arc<Path>, source: io::Error) -> Self {
        let message = if path.as_os_str().is_empty() {
            source.to_string()
        } else {
            format!("{}: {source}", path.display())
        };
        Self::new(ErrorKind::Io, message)
            .with_source(source)
            .with_details(ErrorDetails::Unusable(Arc::clone(path)))
    }

    /// Returns the error of an operation that the system did not complete.
    pub(crate) fn io(operation: &str, source: io::Error) -> Self {
        let message = format!("{operation}: {source}");
        Self::new(ErrorKind::Io, message).with_source(source)
    }

    /// Returns the error for a refusal, whose moment is on our clock.
    pub(crate) fn refused(refusal: Refusal) -> Self {
        let mut error = Self::new(ErrorKind::of_refusal(refusal.kind), refusal.cause);
        error.inner().next_attempt = refusal.next_attempt;
        error
    }

    /// Returns the same error, of a connection to that socket on which no greeting was received.
    pub(crate) fn without_greeting(mut self, socket: &Arc<Path>) -> Self {
        if !self.is_retryable() {
            return self;
        }
        let inner = self.inner();
        let nothing = format!(": nothing was received from {}", socket.display());
        inner.message.push_str(&one_line(nothing));
        inner.details = ErrorDetails::Silent(Arc::clone(socket));
        if **socket == *Path::new(HOST_SOCKET) {
            inner.advice = Some("under systemd, see: systemctl status domo-tokend");
        }
        self
    }

    fn with_advice(mut self, advice: &'static str) -> Self {
        self.inner().advice = Some(advice);
        self
    }

    fn with_details(mut self, details: ErrorDetails) -> Self {
        self.inner().details = details;
        self
    }

    fn with_source(mut self, source: impl std::error::Error + Send + Sync + 'static) -> Self {
        self.inner().source = Some(Arc::new(source));
        self
    }

    fn inner(&mut self) -> &mut Inner {
        Arc::make_mut(&mut self.0)
    }
}

impl ErrorKind {
    pub(crate) fn of_refusal(kind: RefusalKind) -> Self {
        match kind {
            RefusalKind::NotPermitted => Self::NotPermitted,
            RefusalKind::UnknownClient => Self::UnknownClient,
            RefusalKind::UnknownScope => Self::UnknownScope,
            RefusalKind::MinTtlTooLong => Self::MinTtlTooLong,
            RefusalKind::Denied => Self::Rejected,
            RefusalKind::Gone => Self::Gone,
            RefusalKind::Unavailable => Self::Unavailable,
            RefusalKind::Busy => Self::Busy,
        }
    }
}

/// Replaces control characters, which a path or a server's message may contain.
fn one_line(text: String) -> String {
    if text.contains(char::is_control) {
        text.replace(char::is_control, " ")
    } else {
        text
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Facts(self).fmt(f)?;
        match self.0.advice {
            Some(advice) => write!(f, "; {advice}"),
            None => Ok(()),
        }
    }
}

struct Facts<'a>(&'a Error);

impl fmt::Display for Facts<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.0.message)?;
        match self.0.retry_after() {
            Some(wait) => write!(f, "; next attempt in {}", duration::show(wait)),
            None => Ok(()),
        }
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Error")
            .field("kind", &self.0.kind)
            .field("message", &self.to_string())
            .finish_non_exhaustive()
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        let source = self.0.source.as_deref()?;
        Some(source)
    }
}

#[cfg(test)]
mod tests {
    use std::error::Error as _;

    use super::*;

    const SOCKET: &str = "/x/broker.sock";

    #[test]
    fn error_is_small_and_can_be_sent_to_other_threads() {
        fn assert_bounds<T: Send + Sync + Clone + 'static>() {}
        assert_bounds::<Error>();
        assert_eq!(size_of::<Error>(), size_of::<usize>());
    }

    #[test]
    fn only_the_four_kinds_that_pass_by_themselves_are_retryable() {
        use ErrorKind::{
            Busy, Gone, IncompatibleVersion, InvalidScope, InvalidSocket, Io, MinTtlTooLong,
            NotPermitted, NotRunning, Protocol, Rejected, Timeout, Unavailable, UnknownClient,
            UnknownScope, Untrusted,
        };
        let retryable = |kind| Error::new(kind, "").is_retryable();
        for kind in [NotRunning, Unavailable, Busy, Timeout] {
            assert!(retryable(kind), "{kind:?}");
        }
        for kind in [
            NotPermitted,
            UnknownClient,
            UnknownScope,
            MinTtlTooLong,
            Rejected,
            Gone,
            Untrusted,
            IncompatibleVersion,
            InvalidScope,
            InvalidSocket,
            Protocol,
            Io,
        ] {
            assert!(!retryable(kind), "{kind:?}");
        }
    }

    #[test]
    fn retry_after_counts_down_to_zero() {
        let refused = |next_attempt| {
            Error::refused(Refusal {
                kind: RefusalKind::Unavailable,
                cause: "Domo answered 503".to_owned(),
                next_attempt,
            })
        };
        let minute = Duration::from_secs(60);
        let ahead = refused(Some(boot_now() + minute));
        let left = ahead.retry_after().unwrap();
        assert!(left <= minute && left > minute / 2, "{left:?}");
        assert!(
            ahead
                .to_string()
                .starts_with("Domo answered 503; next attempt in ")
        );
        let passed = refused(Some(boot_now() - minute));
        assert_eq!(passed.retry_after(), Some(Duration::ZERO));
        assert_eq!(refused(None).retry_after(), None);
        assert_eq!(refused(None).to_string(), "Domo answered 503");
    }

    #[test]
    fn source_is_the_error_of_the_system_or_of_the_scopes() {
        let denied = io::Error::from(io::ErrorKind::NotADirectory);
        let error = Error::unusable_socket(&Path::new(SOCKET).into(), denied);
        let source = error.source().unwrap().downcast_ref::<io::Error>();
        assert_eq!(source.unwrap().kind(), io::ErrorKind::NotADirectory);
        assert!(error.to_string().starts_with("/x/broker.sock: "));
        let error = Error::invalid_scope(ScopeError::Empty);
        assert_eq!(error.to_string(), ScopeError::Empty.to_string());
        assert!(error.source().is_some());
        assert!(Error::late().source().is_none());
    }

    #[test]
    fn message_is_one_line_whatever_the_server_sends() {
        let refusal = Refusal::new(RefusalKind::Denied, "no\r\n\x1b[2Jroot: granted");
        let error = Error::refused(refusal);
        assert_eq!(error.to_string(), "no   [2Jroot: granted");
        let socket: Arc<Path> = Path::new("/x\n/broker.sock").into();
        let silent = Error::late().without_greeting(&socket);
        assert!(!silent.to_string().contains('\n'), "{silent}");
    }

    #[test]
    fn advice_is_displayed_last_and_is_no_fact() {
        let tried = [PathBuf::from(SOCKET)];
        let error = Error::not_running(&tried, None, SocketOrigin::Caller);
        let facts = "no broker listens on /x/broker.sock";
        assert_eq!(error.facts().to_string(), facts);
        assert_eq!(error.to_string(), format!("{facts}; start a broker there"));
        let shown = format!("{error:?}");
        assert!(
            shown.contains("NotRunning") && shown.contains(facts),
            "{shown}"
        );
    }
}
