//! L5: a thousand concurrent callers with an empty cache.

use std::io;
use std::time::Duration;

use domo_sandbox::{Fault, Sandbox};

use crate::Plan;
use crate::caller::Caller;
use crate::figures::Rounds;
use crate::machine::{CALLER_CORE, pin, raise_descriptors};
use crate::report::{Bar, Row};
use crate::stand::{CLIENT_ID, PATIENCE, SECRET, client, request, start_daemon, write_config};

const CALLERS: usize = 1000;
const SETS: usize = 50;

pub(crate) fn run(plan: &Plan) -> io::Result<Vec<Row>> {
    raise_descriptors(3000)?;
    let mut requests = Rounds::default();
    for _round in 0..plan.rounds.min(3) {
        requests.push(once()?);
    }
    let name =
        format!("{CALLERS} concurrent first requests for {SETS} scope sets: requests to Domo");
    let exactly = Bar::Exactly(50.0);
    Ok(vec![Row::new("L5", name, requests, exactly)])
}

fn once() -> io::Result<f64> {
    let scopes: Vec<String> = (0..SETS).map(|number| format!("scope{number}")).collect();
    let names: Vec<&str> = scopes.iter().map(String::as_str).collect();
    let sandbox = Sandbox::builder().client(CLIENT_ID, SECRET, &names);
    let sandbox = sandbox.lifetime(Duration::from_secs(3599)).start()?;
    sandbox.always(Fault::hold());
    let folder = tempfile::tempdir()?;
    write_config(folder.path(), &client("acme", &sandbox, &names))?;
    let _daemon = start_daemon(folder.path())?;
    pin(CALLER_CORE);
    let socket = folder.path().join("broker.sock");
    let mut callers = Vec::new();
    for scope in scopes.iter().cycle().take(CALLERS) {
        let mut caller = Caller::connect(&socket)?;
        caller.send(&request(scope)?)?;
        callers.push(caller);
    }
    sandbox.recover();
    for caller in &mut callers {
        caller.rest_of_first()?;
    }
    sandbox
        .wait_for_requests(SETS, PATIENCE)
        .map_err(|few| io::Error::other(few.to_string()))?;
    let requests = u32::try_from(sandbox.requests().len());
    Ok(requests.map_or(f64::NAN, f64::from))
}
