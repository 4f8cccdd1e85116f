//! Rejects callers before a session begins: past a connection limit, or because the daemon cannot start.

use domo_token_protocol::frame::{self, FrameError};
use domo_token_protocol::greeting::{self, GREETING, Greeting, HELLO};
use domo_token_protocol::messages::{OLDEST_VERSION, Refusal, RefusalKind, Response, VERSION};
use zeroize::Zeroizing;

use super::Stream;
use super::stream::{read_ready, write_final};
use crate::platform::clock::BootTime;

/// Returns the refusal of a caller that may try again.
pub(super) fn busy(cause: String) -> Response {
    Response::Refusal(Refusal::new(RefusalKind::Busy, cause))
}

/// Sends a caller the reason why it is not served, and closes its connection.
pub(super) async fn reject(stream: Stream, cause: String, accepted: BootTime) {
    let mut sent = [0; HELLO];
    let read = read_ready(&stream, &mut sent);
    let greeting = greeting_for(sent.get(..read).unwrap_or_default(), accepted);
    if let Ok(answer) = first_answer(greeting, &busy(cause)) {
        // The connection is closed in any case.
        let _ = write_final(stream, &answer).await;
    }
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

    use super::{first_answer, greeting_for};
    use crate::platform::clock::boot_now;
    use crate::platform::systemd;

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
        let answer = Response::Refusal(refusal);
        for listener in listeners {
            reject_all(listener, &answer);
        }
    }

    fn reject_all(listener: &UnixListener, answer: &Response) {
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
                let greeting = greeting_for(request.get(..read).unwrap_or_default(), boot_now());
                if let Ok(bytes) = first_answer(greeting, answer) {
                    // A caller that has disconnected needs no answer.
                    let _ = stream.write_all(&bytes);
                }
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
        assert_eq!(version(b"DTK\x63"), VERSION);
        for unknown in [&b""[..], b"DTK", b"GET "] {
            assert_eq!(version(unknown), 1);
        }
    }
}
