//! L11: HTTP on the socket, compared with the frames.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::thread;
use std::time::Duration;

use domo_token_protocol::greeting::{GREETING, HELLO};
use rustix::process::{Uid, geteuid};
use rustix::thread::set_thread_res_uid;

use crate::caller::{Caller, Connections};
use crate::figures::Rounds;
use crate::machine::{CALLER_CORE, pin};
use crate::report::{Bar, Row};
use crate::stand::{Stand, request};
use crate::{Plan, SPAN};

const HOUR: Duration = Duration::from_secs(3599);

/// Connections of each user: as many as a user may have with HTTP.
const EACH: usize = 32;

/// The second user: nobody.
const OTHER: Uid = Uid::from_raw_unchecked(65_534);

const OPEN_TO_ALL: &str = "[broker]\nsocket_mode = \"0666\"\n";

const HTTP: &[u8] = b"GET /v1/token/data HTTP/1.1\r\nHost: localhost\r\n\r\n";

/// One of the two protocols: how a connection begins, and each further request.
struct Protocol {
    /// Opens a connection with one response, and returns the length of each further one.
    connect: fn(&Path) -> io::Result<(UnixStream, usize)>,
    request: Vec<u8>,
}

pub(crate) fn run(plan: &Plan) -> io::Result<Vec<Row>> {
    let stand = Stand::start(HOUR, &["data"], OPEN_TO_ALL)?;
    fs::set_permissions(stand.folder.path(), Permissions::from_mode(0o711))?;
    let broker = stand.broker()?;
    broker.token("data").map_err(io::Error::other)?;
    let opening = request("data")?;
    let frames = Protocol {
        connect: |socket| {
            let mut caller = Caller::connect(socket)?;
            let length = caller.first(&request("data")?)?.len() - GREETING;
            Ok((caller.into_stream(), length))
        },
        request: opening.get(HELLO..).unwrap_or_default().to_vec(),
    };
    let http = Protocol {
        connect: |socket| {
            let mut caller = Caller::connect(socket)?;
            let length = caller.first_http(HTTP)?;
            Ok((caller.into_stream(), length))
        },
        request: HTTP.to_vec(),
    };
    let two_users = geteuid().is_root();
    pin(CALLER_CORE);
    let mut rate = Rounds::default();
    for _round in 0..plan.rounds {
        let floor = load(&stand.socket(), &frames, two_users)?;
        let ours = load(&stand.socket(), &http, two_users)?;
        rate.push(ours / floor);
    }
    let (count, users) = if two_users {
        (2 * EACH, "two users")
    } else {
        (EACH, "one user")
    };
    let name = format!(
        "HTTP: responses per second on {count} connections of {users}: ratio to the frames"
    );
    Ok(vec![Row::new("L11", name, rate, Bar::AtLeast(0.4))])
}

/// Returns the responses per second.
fn load(socket: &Path, protocol: &Protocol, two_users: bool) -> io::Result<f64> {
    let (mut streams, length) = connect(socket, protocol)?;
    if two_users {
        let of_other = thread::scope(|scope| {
            let connecting = scope.spawn(|| {
                // On Linux this affects only the thread.
                set_thread_res_uid(OTHER, OTHER, OTHER)?;
                connect(socket, protocol)
            });
            let panicked = |_| io::Error::other("a thread panicked");
            connecting.join().map_err(panicked)?
        });
        streams.extend(of_other?.0);
    }
    Connections::of(streams)?.rate(&protocol.request, length, SPAN)
}

/// Opens the connections of this thread's user. Returns them and the length of each response.
fn connect(socket: &Path, protocol: &Protocol) -> io::Result<(Vec<UnixStream>, usize)> {
    let mut streams = Vec::with_capacity(EACH);
    let mut length = 0;
    for _ in 0..EACH {
        let (stream, each) = (protocol.connect)(socket)?;
        streams.push(stream);
        length = each;
    }
    Ok((streams, length))
}
