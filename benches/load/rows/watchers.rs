//! L4: ten thousand watchers.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use domo_token_protocol::messages::{Request, TokenSubject};
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};

use crate::Plan;
use crate::caller::Caller;
use crate::figures::{Rounds, now};
use crate::machine::{CALLER_CORE, memory, pin, raise_descriptors};
use crate::report::{Bar, Row};
use crate::stand::{PATIENCE, Stand, opening};

/// The number of watchers.
const WATCHERS: u32 = 10_000;

/// A lifetime with which a token can be renewed again after two seconds.
const LIFETIME: Duration = Duration::from_secs(40);

const LIMITS: &str = "[limits]\nconnections = 12000\nconnections_per_user = 12000\n\
                      watchers_per_user = 12000\n";

pub(crate) fn run(plan: &Plan) -> io::Result<Vec<Row>> {
    raise_descriptors(12_000)?;
    let (mut each, mut all_notified) = (Rounds::default(), Rounds::default());
    for _round in 0..plan.rounds.min(3) {
        let stand = Stand::start(LIFETIME, &["data"], LIMITS)?;
        pin(CALLER_CORE);
        let broker = stand.broker()?;
        broker.token("data").map_err(io::Error::other)?;
        let before = own(stand.daemon.pid());
        let mut watchers = Watchers::connect(&stand.socket())?;
        each.push((own(stand.daemon.pid()) - before) * 1024.0 / f64::from(WATCHERS));
        all_notified.push(renewal(&stand, &mut watchers)?.as_secs_f64());
    }
    let count = WATCHERS;
    let name = format!("{count} idle watchers: the daemon's own memory, bytes each");
    let title =
        format!("{count} watchers: seconds from the request of a new token until all have it");
    Ok(vec![
        Row::new("L4", name, each, Bar::AtMost(2048.0)),
        Row::new("L4", title, all_notified, Bar::AtMost(1.0)),
    ])
}

/// Returns the daemon's private anonymous memory, in KiB.
fn own(pid: u32) -> f64 {
    let kib = memory(pid, "Anonymous").unwrap_or_default();
    u32::try_from(kib).map_or(f64::NAN, f64::from)
}

/// Returns the time from the request for a new token until the last watcher has it.
fn renewal(stand: &Stand, watchers: &mut Watchers) -> io::Result<Duration> {
    let broker = stand.broker()?;
    let old = broker.token("data").map_err(io::Error::other)?.generation();
    let end = now() + PATIENCE;
    loop {
        let start = now();
        let token = broker
            .request("data")
            .renew()
            .send()
            .map_err(io::Error::other)?;
        if token.generation() != old {
            watchers.wait_for_all()?;
            return Ok(now() - start);
        }
        if start > end {
            return Err(io::Error::other("the token was not renewed on request"));
        }
    }
}

struct Watchers {
    streams: Vec<UnixStream>,
    poller: rustix::fd::OwnedFd,
    /// The length of one response.
    answer: usize,
}

impl Watchers {
    /// Connects all of them, each with its first token.
    fn connect(socket: &Path) -> io::Result<Self> {
        let poller = epoll::create(CreateFlags::CLOEXEC)?;
        let request = opening(&Request::Watch(TokenSubject {
            client: None,
            scope: "data".to_owned(),
        }))?;
        let mut streams = Vec::new();
        let mut answer = 0;
        for number in 0..u64::from(WATCHERS) {
            let mut stream = UnixStream::connect(socket)?;
            stream.write_all(&request)?;
            let mut caller = Caller::of(stream);
            answer = caller.rest_of_first()?.len() - domo_token_protocol::greeting::GREETING;
            let stream = caller.into_stream();
            epoll::add(&poller, &stream, EventData::new_u64(number), EventFlags::IN)?;
            streams.push(stream);
        }
        Ok(Self {
            streams,
            poller,
            answer,
        })
    }

    fn wait_for_all(&mut self) -> io::Result<()> {
        let mut left = vec![self.answer; self.streams.len()];
        let mut waiting = self.streams.len();
        let mut buffer = vec![0; 4096];
        let mut events = Vec::with_capacity(1024);
        while waiting > 0 {
            epoll::wait(
                &self.poller,
                rustix::buffer::spare_capacity(&mut events),
                None,
            )?;
            for event in events.drain(..) {
                let number = usize::try_from(event.data.u64()).unwrap_or(0);
                let (Some(stream), Some(left)) =
                    (self.streams.get_mut(number), left.get_mut(number))
                else {
                    continue;
                };
                let read = stream.read(&mut buffer)?;
                if read == 0 {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                let was_waiting = *left > 0;
                *left = left.saturating_sub(read);
                waiting -= usize::from(was_waiting && *left == 0);
            }
        }
        Ok(())
    }
}
