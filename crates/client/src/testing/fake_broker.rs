//! [`FakeBroker`].

use std::fmt;
use std::io::{self, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::grants::{Failure, Grants};
use super::socket_directory::SocketDirectory;
use super::{server, token_text, valid};
use crate::broker::Broker;
use crate::clock::boot_now;
use crate::error::ErrorKind;
use crate::process_identity::ProcessIdentity;
use domo_token_protocol::scope::ScopeSet;

/// A broker inside a test. It grants a token for any scope set, unless the test decides otherwise, and answers
/// immediately. When it is dropped, its thread ends and its socket is removed.
///
/// ```
/// use domo_token_client::{ErrorKind, testing::FakeBroker};
///
/// let fake = FakeBroker::start()?;
/// let broker = fake.broker();
///
/// // Any scope set is granted a generated token.
/// let first = broker.token("data")?;
/// // … Domo answers 401 …
/// let second = broker.renew(&first)?;
/// assert_ne!(first.secret(), second.secret());
/// assert_eq!(fake.rejections("data"), 1);
///
/// fake.fail("user", ErrorKind::NotPermitted);
/// let error = broker.token("user").unwrap_err();
/// assert_eq!(error.kind(), ErrorKind::NotPermitted);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct FakeBroker {
    directory: SocketDirectory,
    grants: Arc<Mutex<Grants>>,
    /// `None` while it is stopped.
    running: Mutex<Option<Running>>,
    /// A forked child has no such thread, and must not remove its parent's socket.
    process: ProcessIdentity,
}

struct Running {
    /// The thread ends when this is closed.
    wake: UnixStream,
    thread: JoinHandle<()>,
}

impl FakeBroker {
    /// Starts one on a socket in a new temporary directory.
    ///
    /// # Errors
    ///
    /// The system's error if the socket or the thread cannot be created.
    pub fn start() -> io::Result<Self> {
        let fake = Self {
            directory: SocketDirectory::create()?,
            grants: Arc::new(Mutex::new(Grants::new(boot_now()))),
            running: Mutex::new(None),
            process: ProcessIdentity::current(),
        };
        fake.restart()?;
        Ok(fake)
    }

    /// Returns a client of this broker with an empty cache. It connects when it is first used. For an async app, pass
    /// it to `tokio::Broker::from`.
    #[must_use]
    pub fn broker(&self) -> Broker {
        Broker::lazy_at(self.socket())
    }

    /// Returns the path of its socket, for `Broker::connect_to`, or as `DOMO_TOKEN_SOCKET` of another process.
    #[must_use]
    pub fn socket(&self) -> &Path {
        self.directory.socket()
    }

    /// Grants a token with this text for these scopes, immediately, and ends a failure. Watches of these scopes receive
    /// it. A renewal replaces it by a generated one.
    ///
    /// # Panics
    ///
    /// If the scopes are not a valid scope set, or the text is not a valid token (RFC 6750 §2.1).
    pub fn grant(&self, scopes: &str, text: &str) {
        let scope = valid(ScopeSet::parse(scopes));
        let text = token_text(text);
        self.grants().grant(scope, text, boot_now());
        self.wake();
    }

    /// Fails requests for these scopes with this kind of error until [`Self::grant`] grants a token. Watches of these
    /// scopes receive the error.
    ///
    /// Calls retry [`ErrorKind::Busy`], and wait for an answer with [`ErrorKind::Timeout`], until their deadline, which
    /// [`Broker::with_timeout`] can shorten. While an app has a valid token cached, it receives only decisions such as
    /// [`ErrorKind::NotPermitted`].
    ///
    /// # Panics
    ///
    /// If the scopes are not a valid scope set, or no answer of a broker causes an error of this kind.
    /// [`Self::stop`] causes [`ErrorKind::NotRunning`]; [`Error::for_tests`](crate::Error::for_tests) makes any error.
    pub fn fail(&self, scopes: &str, kind: ErrorKind) {
        let scope = valid(ScopeSet::parse(scopes));
        self.grants().fail(scope, failure(kind, None), boot_now());
        self.wake();
    }

    /// As [`Self::fail`], with an error whose [`retry_after`](crate::Error::retry_after) is this time.
    ///
    /// # Panics
    ///
    /// As there.
    pub fn fail_with_retry_after(&self, scopes: &str, kind: ErrorKind, retry_after: Duration) {
        let scope = valid(ScopeSet::parse(scopes));
        let failure = failure(kind, Some(retry_after));
        self.grants().fail(scope, failure, boot_now());
        self.wake();
    }

    /// Fails requests for all scopes that have no token yet, so that a test notices when the app requests others than
    /// intended. A daemon does so with [`ErrorKind::UnknownScope`].
    ///
    /// # Panics
    ///
    /// If no answer of a broker causes an error of this kind.
    pub fn fail_others(&self, kind: ErrorKind) {
        self.grants().fail_others(failure(kind, None));
    }

    /// Sets the lifetime of each new token [default: 1 h].
    pub fn set_lifetime(&self, lifetime: Duration) {
        self.grants().set_lifetime(lifetime);
    }

    /// Returns how many requests it has received, of any sort.
    #[must_use]
    pub fn requests(&self) -> usize {
        self.grants().requests()
    }

    /// Returns how many requests reported that Domo rejected a token of these scopes.
    ///
    /// # Panics
    ///
    /// If the scopes are not a valid scope set.
    #[must_use]
    pub fn rejections(&self, scopes: &str) -> u64 {
        self.grants().rejected(&valid(ScopeSet::parse(scopes)))
    }

    /// Stops it: closes all connections and removes the socket. Its tokens are kept for [`Self::restart`]. Calls then
    /// retry until their deadline, which [`Broker::with_timeout`] can shorten.
    pub fn stop(&self) {
        let Some(running) = self.running().take() else {
            return;
        };
        drop(running.wake);
        if self.process.is_current() {
            self.directory.remove_socket();
            // A panic of the thread has been printed.
            let _ = running.thread.join();
        }
    }

    /// Starts it again on the same socket, with the same tokens.
    ///
    /// # Errors
    ///
    /// As [`Self::start`].
    pub fn restart(&self) -> io::Result<()> {
        self.stop();
        let listener = UnixListener::bind(self.socket())?;
        listener.set_nonblocking(true)?;
        let (wake, woken) = UnixStream::pair()?;
        wake.set_nonblocking(true)?;
        woken.set_nonblocking(true)?;
        let grants = Arc::clone(&self.grants);
        let thread = thread::Builder::new()
            .name("fake-broker".to_owned())
            .spawn(move || server::serve(&listener, &woken, &grants))?;
        *self.running() = Some(Running { wake, thread });
        Ok(())
    }

    fn grants(&self) -> MutexGuard<'_, Grants> {
        self.grants.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn running(&self) -> MutexGuard<'_, Option<Running>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has the thread notify watches of what has changed.
    fn wake(&self) {
        if let Some(running) = self.running().as_ref() {
            // If its buffer is full, the thread has been woken already.
            let _ = (&running.wake).write(&[0]);
        }
    }
}

impl Drop for FakeBroker {
    fn drop(&mut self) {
        self.stop();
        if self.process.is_current() {
            self.directory.remove();
        }
    }
}

impl fmt::Debug for FakeBroker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FakeBroker")
            .field("socket", &self.socket())
            .finish_non_exhaustive()
    }
}

fn failure(kind: ErrorKind, retry_after: Option<Duration>) -> Failure {
    let failure = Failure::of(kind, retry_after);
    valid(failure.ok_or_else(|| format!("no answer of a broker causes {kind:?}")))
}
