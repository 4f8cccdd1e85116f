//! L9: load while Domo is down.

use std::io;
use std::time::Duration;

use domo_sandbox::Fault;
use domo_token_protocol::greeting::HELLO;

use crate::Plan;
use crate::caller::Caller;
use crate::figures::{Rounds, now, quantile, timed};
use crate::machine::{SERVER_CORE, pin};
use crate::report::{Bar, Row};
use crate::stand::{Floors, PATIENCE, Stand};

/// Renewal is attempted at 8 s at the earliest and 16 s at the latest, so that the token is valid during the load
/// that follows.
const LIFETIME: Duration = Duration::from_secs(20);

/// The sandbox's tokens are longer than the message of a refusal.
const TOKEN: usize = 600;

/// The duration of the load.
const STORM: Duration = Duration::from_secs(2);

pub(crate) fn run(plan: &Plan) -> io::Result<Vec<Row>> {
    let (mut half, mut worst) = (Rounds::default(), Rounds::default());
    let mut attempts = Rounds::default();
    for _round in 0..plan.rounds.min(5) {
        let stand = Stand::plain(LIFETIME)?;
        let floors = Floors::build(&stand)?;
        pin(SERVER_CORE);
        let before = load_callers(&stand, &floors)?;
        stand.sandbox.always(Fault::status(503));
        let failed = stand.sandbox.wait_for_requests(2, PATIENCE);
        failed.map_err(|few| io::Error::other(few.to_string()))?;
        let during = load_callers(&stand, &floors)?;
        half.push_ratio(during.0, before.0);
        worst.push_ratio(during.1, before.1);
        let asked = u32::try_from(stand.sandbox.requests().len() - 1);
        attempts.push(asked.map_or(f64::NAN, f64::from));
    }
    let name = |what: &str| format!("round trip in an outage, {what}: ratio to that before it");
    let asked = "requests to Domo from the first failure through two seconds of load";
    Ok(vec![
        Row::new("L9", name("p50"), half, Bar::AtMost(1.1)),
        Row::new("L9", name("p99"), worst, Bar::None),
        // The first, then after at least 0.5 s and at least 1 s more.
        Row::new("L9", asked.to_owned(), attempts, Bar::AtMost(3.0)),
    ])
}

/// Sends requests continuously on one connection. Returns the median and the 99th percentile.
fn load_callers(stand: &Stand, floors: &Floors) -> io::Result<(Duration, Duration)> {
    let mut caller = Caller::connect(&stand.socket())?;
    caller.first(&floors.request)?;
    let request = floors.request.get(HELLO..).unwrap_or_default();
    let end = now() + STORM;
    let mut spans = Vec::new();
    while now() < end {
        let (span, asked) = timed(|| caller.ask(request));
        if asked? < TOKEN {
            return Err(io::Error::other(
                "a request was refused in an outage while the token was valid",
            ));
        }
        spans.push(span);
    }
    Ok((quantile(&mut spans, 0.5), quantile(&mut spans, 0.99)))
}
