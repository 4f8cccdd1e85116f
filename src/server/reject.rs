//! Rejects callers before a session begins: past a connection limit, or because the daemon cannot start.

use std::future::poll_fn;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use domo_token_protocol::frame::{self, FrameError};
use domo_token_protocol::greeting::{self, GREETING, Greeting, HELLO};
use domo_token_protocol::messages::{OLDEST_VERSION, Refusal, RefusalKind, Response, VERSION};
use tokio::sync::Semaphore;
use tokio::time::timeout;
use zeroize::Zeroizing;

use super::Stream;
use super::http::{self, MAX_HEAD, Problem};
use super::sniff::{self, Protocol};
use super::stream::{CallerStream, read_ready, write_final};
use crate::platform::clock::BootTime;

/// Returns the refusal of a caller that may try again.
pub(super) fn busy(cause: String) -> Response {
    Response::Refusal(Refusal::new(RefusalKind::Busy, cause))
}

/// How long a rejected caller has to send the bytes that show its protocol, and then the answer to be written.
const SNIFF_TIMEOUT: Duration = Duration::from_millis(100);

/// The most rejected callers that are waited for at the same time, each of which holds a descriptor.
const MAX_WAITING: usize = 8;

/// Rejects callers.
#[derive(Debug)]
pub(super) struct Rejecter {
    waiting: Arc<Semaphore>,
    http: bool,
}

impl Rejecter {
    pub(super) fn new(http: bool) -> Self {
        Self {
            waiting: Arc::new(Semaphore::new(MAX_WAITING)),
            http,
        }
    }

    /// Sends a caller the reason why it is not served, in its protocol, and closes its connection. Returns a future
    /// if the caller has not yet shown its protocol, and few others have not.
    pub(super) async fn reject(
        &self,
        stream: Stream,
        cause: String,
        accepted: BootTime,
    ) -> Option<impl Future<Output = ()> + Send + 'static> {
        let mut sent = read_sent(&stream);
        let http = self.http;
        let permit =
            (http && sent.len() < HELLO).then(|| Arc::clone(&self.waiting).try_acquire_owned());
        let Some(Ok(permit)) = permit else {
            send(stream, &sent, http, cause, accepted).await;
            return None;
        };
        Some(async move {
            let _permit = permit;
            if let Ok(mut stream) = CallerStream::new(stream) {
                let reading = read_start(&mut stream, &mut sent);
                // A caller that has sent nothing gets a frame.
                let _ = timeout(SNIFF_TIMEOUT, reading).await;
                let answer = answer(&sent, http, cause, accepted);
                let writing = stream.write_all([&answer]);
                let _ = timeout(SNIFF_TIMEOUT, writing).await;
            }
        })
    }
}

/// Returns what the caller has sent. What is left unread would be reported to it as a broken connection.
fn read_sent(stream: &Stream) -> Vec<u8> {
    let mut sent = [0; MAX_HEAD];
    let read = read_ready(stream, &mut sent);
    sent.get(..read).unwrap_or_default().to_vec()
}

/// Reads until there are as many bytes as a hello has.
async fn read_start(stream: &mut CallerStream, sent: &mut Vec<u8>) -> io::Result<()> {
    let mut buffer = [0; 256];
    while sent.len() < HELLO {
        let read = poll_fn(|context| stream.poll_read(context, &mut buffer)).await?;
        if read == 0 {
            break;
        }
        sent.extend_from_slice(buffer.get(..read).unwrap_or_default());
    }
    Ok(())
}

async fn send(stream: Stream, sent: &[u8], http: bool, cause: String, accepted: BootTime) {
    // The connection is closed in any case.
    let _ = write_final(stream, &answer(sent, http, cause, accepted)).await;
}

/// Returns the only answer to a caller that has sent these bytes.
fn answer(sent: &[u8], http: bool, cause: String, accepted: BootTime) -> Zeroizing<Vec<u8>> {
    if http && is_http(sent) {
        return Zeroizing::new(http::rejection(Problem::busy(cause), sent));
    }
    first_answer(greeting_for(sent, accepted), &busy(cause)).unwrap_or_default()
}

fn is_http(sent: &[u8]) -> bool {
    let start = sent.first_chunk().copied();
    start.and_then(sniff::protocol) == Some(Protocol::Http)
}

/// Returns the greeting for a caller that has sent these bytes. One whose hello has not arrived gets
/// version 1, which every caller can read.
fn greeting_for(sent: &[u8], accepted: BootTime) -> Greeting {
    let hello = sent.first_chunk().copied();
    let version = hello.and_then(|hello| greeting::hello_version(hello).ok());
    let version = version.unwrap_or(OLDEST_VERSION);
    Greeting::new(version.clamp(OLDEST_VERSION, VERSION), accepted)
}

/// Returns an answer as the first of a connection.
fn first_answer(greeting: Greeting, answer: &Response) -> Result<Zeroizing<Vec<u8>>, FrameError> {
    let frame = frame::encode(answer)?;
    let mut bytes = Zeroizing::new(Vec::with_capacity(GREETING + frame.len()));
    bytes.extend_from_slice(greeting.encode(&mut [0; GREETING]));
    bytes.extend_from_slice(&frame);
    Ok(bytes)
}

#[cfg(unix)]
pub use backlog::reject_backlog;

#[cfg(unix)]
mod backlog {
    use std::io::{Read, Write};
    use std::os::unix::net::UnixListener;

    use domo_token_protocol::messages::{Refusal, RefusalKind, Response};
    use zeroize::Zeroizing;

    use super::{first_answer, greeting_for, is_http};
    use crate::platform::clock::boot_now;
    use crate::platform::systemd;
    use crate::server::http::{self, Problem};

    /// More than a backlog holds.
    const MAX_REJECTED: usize = 8192;

    /// Answers the callers that wait on sockets of systemd that they cannot be served now. Otherwise systemd
    /// would start the daemon for them again and again.
    pub fn reject_backlog(listeners: &[UnixListener]) {
        let journal = systemd::journal_command();
        let cause = format!(
            "the broker cannot start; for the reason, ask the operator to run: \
                             {journal}"
        );
        let refusal = Refusal::new(RefusalKind::Unavailable, cause);
        for listener in listeners {
            reject_all(listener, &refusal);
        }
    }

    /// Returns the answer to a caller that has sent these bytes.
    fn bytes(sent: &[u8], refusal: &Refusal) -> Zeroizing<Vec<u8>> {
        let (now, refusal) = (boot_now(), refusal.clone());
        if is_http(sent) {
            return Zeroizing::new(http::rejection(Problem::of_refusal(refusal, now), sent));
        }
        first_answer(greeting_for(sent, now), &Response::Refusal(refusal)).unwrap_or_default()
    }

    fn reject_all(listener: &UnixListener, refusal: &Refusal) {
        // systemd's descriptor of it is non-blocking, too.
        if listener.set_nonblocking(true).is_err() {
            return;
        }
        for _ in 0..MAX_REJECTED {
            let Ok((mut stream, _)) = listener.accept() else {
                return;
            };
            if stream.set_nonblocking(true).is_ok() {
                let mut request = [0; 4096];
                // What is left unread would be reported to the caller as a broken connection.
                let read = stream.read(&mut request).unwrap_or(0);
                // A caller that has disconnected needs no answer.
                let _ = stream.write_all(&bytes(request.get(..read).unwrap_or_default(), refusal));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rejected_caller_is_greeted_in_the_version_of_its_hello_or_in_version_1() {
        let accepted = BootTime::from_millis(7);
        let version = |sent: &[u8]| greeting_for(sent, accepted).version();
        assert_eq!(version(b"DTK\x01"), 1);
        assert_eq!(version(b"DTK\x02"), 2);
        assert_eq!(version(b"DTK\x03"), 3);
        assert_eq!(version(b"DTK\x63"), VERSION);
        for unknown in [&b""[..], b"DTK", b"GET "] {
            assert_eq!(version(unknown), 1);
        }
    }
}
