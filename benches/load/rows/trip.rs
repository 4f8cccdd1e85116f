//! L3: a round trip, compared with servers that do nothing else.

use std::io;
use std::path::Path;
use std::time::Duration;

use domo_token_protocol::greeting::{GREETING, HELLO};

use crate::caller::{Caller, Connections};
use crate::figures::{Rounds, now, quantile, timed};
use crate::machine::{CALLER_CORE, SERVER_CORE, pin, processor_time};
use crate::report::{Bar, Row};
use crate::stand::{Floors, Stand};
use crate::{Plan, SPAN};

const HOUR: Duration = Duration::from_secs(3599);

/// Round trips in one round.
const TRIPS: usize = 4000;

/// Connections of the load.
const CONNECTIONS: usize = 64;

pub(crate) fn run(plan: &Plan) -> io::Result<Vec<Row>> {
    let stand = Stand::plain(HOUR)?;
    let floors = Floors::build(&stand)?;
    let (_echo, echo) = floors.serve("echo")?;
    let (epoll, raw) = floors.serve("epoll")?;
    let broker = stand.socket();
    let mut rows = Vec::new();
    for (core, words, bar) in [
        (SERVER_CORE, "one core", 1.75),
        (CALLER_CORE, "across cores", 1.15),
    ] {
        pin(core);
        let (mut half, mut worst) = (Rounds::default(), Rounds::default());
        let mut connecting = Rounds::default();
        for _round in 0..plan.rounds {
            let (ours, floor) = (trips(&broker, &floors)?, trips(&echo, &floors)?);
            half.push_ratio(ours.0, floor.0);
            worst.push_ratio(ours.1, floor.1);
            let (ours, floor) = (connections(&broker, &floors)?, connections(&echo, &floors)?);
            connecting.push_ratio(ours, floor);
        }
        let name = |what: &str| format!("{what}, {words}: ratio to a blocking echo server");
        rows.push(Row::new(
            "L3",
            name("round trip, p50"),
            half,
            Bar::AtMost(bar),
        ));
        rows.push(Row::new(
            "L3",
            name("round trip, p99"),
            worst,
            Bar::AtMost(bar),
        ));
        if core == SERVER_CORE {
            let name = name("connect, request, close");
            rows.push(Row::new("L3", name, connecting, Bar::AtMost(1.75)));
        }
    }
    pin(CALLER_CORE);
    let (mut rate, mut work) = (Rounds::default(), Rounds::default());
    for _round in 0..plan.rounds {
        let (ours, our_work) = load(&broker, &floors, stand.daemon.pid(), SPAN)?;
        let (floor, floor_work) = load(&raw, &floors, epoll.pid(), SPAN)?;
        rate.push(ours / floor);
        work.push(our_work / floor_work);
    }
    let name =
        format!("responses per second on {CONNECTIONS} connections: ratio to a raw epoll server");
    rows.push(Row::new("L3", name, rate, Bar::AtLeast(0.70)));
    let name = "CPU time per response: ratio to the raw epoll server".to_owned();
    rows.push(Row::new("L3", name, work, Bar::None));
    Ok(rows)
}

/// Returns the median and the 99th percentile.
fn trips(socket: &Path, floors: &Floors) -> io::Result<(Duration, Duration)> {
    let mut caller = Caller::connect(socket)?;
    caller.first(&floors.request)?;
    let request = floors.request.get(HELLO..).unwrap_or_default();
    let mut spans = Vec::with_capacity(TRIPS);
    for _warm in 0..TRIPS / 10 {
        caller.ask(request)?;
    }
    for _trip in 0..TRIPS {
        let (span, asked) = timed(|| caller.ask(request));
        asked?;
        spans.push(span);
    }
    Ok((quantile(&mut spans, 0.5), quantile(&mut spans, 0.99)))
}

/// Returns the median duration of a connection with one request.
fn connections(socket: &Path, floors: &Floors) -> io::Result<Duration> {
    let mut spans = Vec::with_capacity(TRIPS / 4);
    for _trip in 0..TRIPS / 4 {
        let start = now();
        let mut caller = Caller::connect(socket)?;
        caller.first(&floors.request)?;
        drop(caller);
        spans.push(now() - start);
    }
    Ok(quantile(&mut spans, 0.5))
}

/// Returns the responses per second, and the server's nanoseconds for each.
fn load(socket: &Path, floors: &Floors, server: u32, span: Duration) -> io::Result<(f64, f64)> {
    let mut load = Connections::connect(socket, CONNECTIONS, &floors.request)?;
    let request = floors.request.get(HELLO..).unwrap_or_default();
    let before = processor_time(server);
    let start = now();
    let rate = load.rate(request, floors.answer.len() - GREETING, span)?;
    let answered = rate * (now() - start).as_secs_f64();
    #[expect(clippy::cast_precision_loss, reason = "about a second in nanoseconds")]
    let work = (processor_time(server) - before) as f64;
    Ok((rate, work / answered))
}
