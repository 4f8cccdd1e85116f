//! Shutdown while callers are slow.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::Duration;

use domo_sandbox::Fault;
use domo_token_protocol::frame;
use domo_token_protocol::greeting::GREETING;
use domo_token_protocol::messages::{RefusalKind, Response};

use crate::common::callers::watch_request;
use crate::common::{self, Daemon, HOUR, config_text, sandbox, timed, token};

/// The sessions of these watchers wait for room to write when the daemon stops. Once there is room, they send the
/// last message and end.
#[test]
fn slow_watchers_receive_the_final_message_at_shutdown_without_a_panic() {
    // How often; increase it by hand to find races.
    let stops = std::env::var("DOMO_TOKEN_STOPS").map_or(1, |stops| stops.parse().unwrap());
    let sandbox = sandbox(HOUR);
    sandbox.always(Fault::token_size(16 * 1024));
    let limits = "[limits]\nanswer_deadline = \"10m\"\n";
    for _ in 0..stops {
        let folder = common::folder(&(limits.to_owned() + &config_text(&sandbox, "[\"data\"]")));
        let daemon = Daemon::start_as(Daemon::command_of_config(folder.path()), folder);
        token(&daemon.ask(&["data"]));
        let watching: Vec<UnixStream> = (0..70)
            .map(|_| {
                let mut caller = UnixStream::connect(daemon.socket()).unwrap();
                caller.write_all(&watch_request()).unwrap();
                caller
            })
            .collect();
        // Connects after the watchers, so that the kernel has buffered as much of their token as it can.
        token(&daemon.ask(&["data"]));
        daemon.signal("-TERM");
        let (took, (code, log)) = timed(|| {
            let reading = watching
                .into_iter()
                .map(|caller| thread::spawn(|| last(caller)));
            let reading: Vec<_> = reading.collect();
            for (number, reading) in reading.into_iter().enumerate() {
                let last = reading.join().unwrap();
                let is_busy = |refusal: &domo_token_protocol::messages::Refusal| {
                    refusal.kind == RefusalKind::Busy
                };
                let is_notified = matches!(&last, Response::Refusal(refusal) if is_busy(refusal));
                assert!(is_notified, "watcher {number}: {}", last.name());
            }
            daemon.wait_with_log()
        });
        assert_eq!(code, Some(0), "{log}");
        assert!(!log.contains("bug") && !log.contains("panicked"), "{log}");
        assert!(took < Duration::from_secs(2), "{took:?}");
    }
}

/// Returns the last message of a watch.
fn last(mut caller: UnixStream) -> Response {
    let mut bytes = Vec::new();
    caller.read_to_end(&mut bytes).unwrap();
    let (_, mut frames) = bytes.split_at(GREETING);
    let mut last = Response::End;
    while let Some((body, used)) = frame::split(frames).unwrap() {
        last = frame::decode(body).unwrap();
        (_, frames) = frames.split_at(used);
    }
    assert!(frames.is_empty(), "half a frame");
    last
}
