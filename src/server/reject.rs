//! Callers of a daemon that cannot start.

use std::io::{Read, Write};
use std::os::unix::net::UnixListener;

use domo_token_protocol::messages::{Refusal, RefusalKind, Response};

use super::answer::with_hello;
use crate::platform::systemd;

/// More than a backlog holds.
const MOST: usize = 8192;

/// Sends callers that wait on sockets that systemd has bound the answer that nobody serves them now.
/// If they were left there, it would start the daemon for them again and again.
pub fn reject_backlog(listeners: &[UnixListener]) {
    let journal = systemd::journal_command();
    let cause = format!("the broker cannot start; its operator finds the reason by: {journal}");
    let refusal = Refusal::new(RefusalKind::Unavailable, cause);
    let Ok(answer) = with_hello(&Response::Refusal(refusal)) else {
        return;
    };
    for listener in listeners {
        turn_backlog_away(listener, &answer);
    }
}

fn turn_backlog_away(listener: &UnixListener, answer: &[u8]) {
    // systemd has its side of it so, too.
    if listener.set_nonblocking(true).is_err() {
        return;
    }
    for _ in 0..MOST {
        let Ok((mut stream, _)) = listener.accept() else {
            return;
        };
        if stream.set_nonblocking(true).is_ok() {
            // Whoever has gone needs no answer. What is left unread would be told as a broken connection.
            let _told = stream.write_all(answer);
            let _request = stream.read(&mut [0; 4096]);
        }
    }
}
