//! L10: the cost of a scope set with a hundred and with ten thousand of them.

use std::fmt::Write as _;
use std::fs;
use std::io;
use std::path::Path;
use std::time::Duration;

use domo_sandbox::Sandbox;
use domo_token_client::Broker;

use crate::Plan;
use crate::figures::{now, timed};
use crate::machine::{CALLER_CORE, pin, processor_time, status};
use crate::report::{Bar, Row};
use crate::stand::{CLIENT_ID, PATIENCE, Running, SECRET, client, start_daemon, write_config};

/// Scope sets of each client.
const SETS: usize = 10;

/// Numbers of clients.
const SIZES: [usize; 3] = [10, 100, 1000];

const HOUR: Duration = Duration::from_secs(3599);

/// The cost at one size.
struct Cost {
    sets: f64,
    /// The time until it listens.
    start: f64,
    /// The time until a reload of the same config is applied.
    reload: f64,
    /// CPU time per fetched token, in seconds.
    fetch: f64,
    /// Resident bytes per scope set, beyond those of the smallest size.
    resident: f64,
}

pub(crate) fn run(_: &Plan) -> io::Result<Vec<Row>> {
    let mut costs = Vec::new();
    for clients in SIZES {
        costs.push(cost(clients)?);
    }
    let [few, .., many] = costs.as_slice() else {
        return Err(io::Error::other("no sizes"));
    };
    let exponent = |of: fn(&Cost) -> f64| (of(many) / of(few)).ln() / (many.sets / few.sets).ln();
    let each = (many.resident - few.resident) / (many.sets - few.sets);
    let name = |what: &str| {
        format!(
            "{what}: exponent of its cost in the number of scope sets, {} to {}",
            few.sets, many.sets
        )
    };
    Ok(vec![
        Row::new(
            "L10",
            name("start"),
            exponent(|cost| cost.start).into(),
            Bar::AtMost(1.1),
        ),
        Row::new(
            "L10",
            name("reload"),
            exponent(|cost| cost.reload).into(),
            Bar::AtMost(1.1),
        ),
        // Per scope set: only logarithmic growth is allowed.
        Row::new(
            "L10",
            name("one fetch"),
            exponent(|cost| cost.fetch).into(),
            Bar::AtMost(0.15),
        ),
        Row::new(
            "L10",
            "resident memory per scope set, without the token's text, bytes".to_owned(),
            each.into(),
            Bar::AtMost(4096.0),
        ),
    ])
}

fn cost(clients: usize) -> io::Result<Cost> {
    let scopes: Vec<String> = (0..SETS).map(|number| format!("scope{number}")).collect();
    let names: Vec<&str> = scopes.iter().map(String::as_str).collect();
    let sandbox = Sandbox::builder().client(CLIENT_ID, SECRET, &names);
    let sandbox = sandbox.lifetime(HOUR).start()?;
    let mut config = String::new();
    for number in 0..clients {
        // Writing to a string cannot fail.
        let _ = writeln!(
            config,
            "{}",
            client(&format!("client{number}"), &sandbox, &names)
        );
    }
    let folder = tempfile::tempdir()?;
    write_config(folder.path(), &config)?;
    let (start, daemon) = timed(|| start_daemon(folder.path()));
    let daemon = daemon?;
    pin(CALLER_CORE);
    let count = clients * SETS;
    sandbox
        .wait_for_requests(count, PATIENCE * 4)
        .map_err(|few| io::Error::other(few.to_string()))?;
    let broker = Broker::connect_to(folder.path().join("broker.sock"));
    let broker = broker.map_err(io::Error::other)?;
    let mut text = 0;
    for number in 0..clients {
        for scope in &scopes {
            let broker = broker
                .with_client(&format!("client{number}"))
                .with_timeout(PATIENCE);
            text = broker
                .token(scope)
                .map_err(io::Error::other)?
                .secret()
                .len();
        }
    }
    #[expect(
        clippy::cast_precision_loss,
        reason = "a statistic needs no exact values"
    )]
    let (sets, text) = (count as f64, text as f64);
    #[expect(clippy::cast_precision_loss, reason = "about a minute in nanoseconds")]
    let fetch = processor_time(daemon.pid()) as f64 / 1e9 / sets;
    let resident = status(daemon.pid(), "VmRSS").and_then(|kib| u32::try_from(kib).ok());
    let resident = f64::from(resident.unwrap_or_default()) * 1024.0 - sets * text;
    let reload = reload(&daemon, folder.path())?;
    Ok(Cost {
        sets,
        start: start.as_secs_f64(),
        reload: reload.as_secs_f64(),
        fetch,
        resident,
    })
}

/// Returns the time from the signal until the log line of the reload.
fn reload(daemon: &Running, folder: &Path) -> io::Result<Duration> {
    let log = folder.join("broker.log");
    let loads = || Ok::<_, io::Error>(fs::read_to_string(&log)?.matches("config loaded").count());
    let before = loads()?;
    let start = now();
    daemon.signal(rustix::process::Signal::HUP)?;
    while loads()? == before {
        if now() > start + PATIENCE {
            return Err(io::Error::other("the config was not reloaded"));
        }
        std::thread::yield_now();
    }
    Ok(now() - start)
}
