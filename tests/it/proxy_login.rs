//! A proxy that requires a login: how often a wrong one is tried. A client whose Domo hangs delays no other client.

use std::fs::{self};
use std::io::{self, BufRead, BufReader, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

use crate::common::process::make_fifo;
use crate::common::wait::until;
use crate::common::{CANARY_SECRET, CLIENT_ID, Daemon, chmod, folder, parts, token};
use domo_sandbox::Sandbox;

/// `ann:right` in Base64.
const RIGHT: &str = "YW5uOnJpZ2h0";
const TOKENS: &str = r#"["data", "user", "audit", "data user"]"#;
const CLIENTS: [&str; 3] = ["acme", "beta", "gamma"];

/// A host whose tunnel leads nowhere.
const HANGS: &str = "hangs.invalid";

/// What the proxy received and did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Event {
    Asked { is_right: bool },
    Rejected,
    Opened,
}

/// A proxy that accepts one login.
struct Proxy {
    address: SocketAddr,
    events: Arc<Mutex<Vec<Event>>>,
}

impl Proxy {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let events = Arc::default();
        let shared = Arc::clone(&events);
        thread::spawn(move || {
            for stream in listener.incoming() {
                let (stream, events) = (stream.unwrap(), Arc::clone(&shared));
                // A daemon that stops closes its connections.
                thread::spawn(move || serve(&stream, &events).unwrap_or_default());
            }
        });
        Self { address, events }
    }

    fn events(&self) -> Vec<Event> {
        self.events.lock().unwrap().clone()
    }

    fn count(&self, event: Event) -> usize {
        self.events()
            .into_iter()
            .filter(|one| *one == event)
            .count()
    }
}

fn serve(stream: &TcpStream, events: &Mutex<Vec<Event>>) -> io::Result<()> {
    let note = |event| events.lock().unwrap().push(event);
    let mut lines = BufReader::new(stream).lines();
    let mut head = Vec::new();
    while let Some(line) = lines.next().transpose()?.filter(|line| !line.is_empty()) {
        head.push(line);
    }
    let target = head[0].split(' ').nth(1).unwrap_or_default().to_owned();
    let is_right = head.iter().any(|line| line.ends_with(RIGHT));
    note(Event::Asked { is_right });
    if !is_right {
        note(Event::Rejected);
        return (&*stream).write_all(
            b"HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic realm=\"x\"\r\n\
              Content-Length: 0\r\n\r\n",
        );
    }
    note(Event::Opened);
    (&*stream).write_all(b"HTTP/1.1 200 OK\r\n\r\n")?;
    if target.starts_with(HANGS) {
        // Reads what the daemon sends until it times out.
        io::copy(&mut &*stream, &mut io::sink())?;
        return Ok(());
    }
    let domo = TcpStream::connect(target)?;
    thread::scope(|scope| {
        scope.spawn(|| copy_until_closed(stream, &domo));
        copy_until_closed(&domo, stream);
    });
    Ok(())
}

/// Copies bytes until the end of either side.
fn copy_until_closed(mut from: &TcpStream, mut to: &TcpStream) {
    let _ = io::copy(&mut from, &mut to);
    let _ = to.shutdown(Shutdown::Write);
}

fn client(name: &str, url: &str, proxy: &Proxy) -> String {
    format!(
        "[clients.{name}]\nclient_id = \"{CLIENT_ID}\"\nclient_secret_file = \"acme.secret\"\n\
         tokens = {TOKENS}\ntoken_url = \"{url}\"\nca_file = \"ca.pem\"\n\
         proxy = \"http://{}\"\nproxy_auth_file = \"login\"\n",
        proxy.address
    )
}

fn domo() -> Sandbox {
    let builder = Sandbox::builder().client(CLIENT_ID, CANARY_SECRET, &["data", "user", "audit"]);
    builder.https(true).start().unwrap()
}

fn start(config: &str, domo: &Sandbox, login: &str) -> Daemon {
    let folder = folder(config);
    fs::write(folder.path().join("ca.pem"), domo.ca_pem().unwrap()).unwrap();
    let path = folder.path().join("login");
    fs::write(&path, login).unwrap();
    chmod(path, 0o600);
    Daemon::start_in(folder)
}

/// The scope sets of all clients.
fn all() -> impl Iterator<Item = (&'static str, &'static str)> {
    let sets = ["data", "user", "audit", "data user"];
    CLIENTS
        .into_iter()
        .flat_map(move |client| sets.map(|set| (client, set)))
}

#[test]
fn wrong_login_of_twelve_scope_sets_is_tried_once_and_a_corrected_one_by_one_request_first() {
    let (domo, proxy) = (domo(), Proxy::start());
    let config = CLIENTS.map(|name| client(name, &domo.token_url(), &proxy));
    let mut daemon = start(&config.concat(), &domo, "ann:wrong\n");
    daemon.wait_for_log("the proxy rejected the login");
    for (client, set) in all() {
        let (code, _, stderr) = parts(&daemon.ask(&["-c", client, set]));
        assert_eq!(code, Some(78), "{stderr}");
        assert!(stderr.contains("proxy_auth_file"), "{stderr}");
    }
    let wrong = [Event::Asked { is_right: false }, Event::Rejected];
    assert_eq!(proxy.events(), wrong);
    daemon.write("login", "ann:right\n");
    until(|| {
        let opened = proxy.count(Event::Opened);
        (opened > 0).then_some(()).ok_or("no tunnel")
    });
    for (client, set) in all() {
        token(&daemon.ask(&["--wait", "-c", client, set]));
    }
    let right = Event::Asked { is_right: true };
    let events = proxy.events();
    assert_eq!(events[2..4], [right, Event::Opened], "one goes first");
    assert_eq!((events.len(), proxy.count(right)), (2 + 2 * 12, 12));
    assert_eq!(proxy.count(Event::Opened), 12);
    let (_, log) = daemon.stop();
    assert_eq!(log.matches("the proxy rejected the login").count(), 1);
}

#[test]
fn client_is_served_while_others_behind_the_same_proxy_wait_for_a_domo_that_hangs() {
    let (domo, proxy) = (domo(), Proxy::start());
    let hangs = format!("https://{HANGS}/oauth/token");
    let config = CLIENTS.map(|name| client(name, &hangs, &proxy)).concat();
    let healthy = client("zeta", &domo.token_url(), &proxy);
    let daemon = start(&(config + &healthy), &domo, "ann:right\n");
    for set in ["data", "user", "audit", "data user"] {
        token(&daemon.ask(&["-c", "zeta", set]));
    }
}

#[test]
fn client_whose_secret_is_loaded_after_the_rejection_does_not_try_the_login_again() {
    let (domo, proxy) = (domo(), Proxy::start());
    let first = client("acme", &domo.token_url(), &proxy);
    // The command ends only after the test has seen the rejection.
    let command = "client_secret_command = [\"/bin/sh\", \"-c\", \"read line < go; echo $line\"]";
    let late = client("late", &domo.token_url(), &proxy);
    let late = late.replace("client_secret_file = \"acme.secret\"", command);
    let folder = folder(&(first + &late));
    let path = |name: &str| folder.path().join(name);
    fs::write(path("ca.pem"), domo.ca_pem().unwrap()).unwrap();
    fs::write(path("login"), "ann:wrong\n").unwrap();
    chmod(path("login"), 0o600);
    let go = path("go");
    make_fifo(&go);
    let mut command = Daemon::command(folder.path());
    command
        .current_dir(folder.path())
        .env("PATH", "/usr/bin:/bin");
    let mut daemon = Daemon::start_as(command, folder);
    daemon.wait_for_log("the proxy rejected the login");
    fs::write(&go, format!("{CANARY_SECRET}\n")).unwrap();
    until(|| {
        let (code, _, stderr) = parts(&daemon.ask(&["-c", "late", "data", "--timeout", "1s"]));
        (code == Some(78)).then_some(()).ok_or(stderr)
    });
    assert_eq!(proxy.count(Event::Rejected), 1);
    let (_, log) = daemon.stop();
    assert_eq!(log.matches("the proxy rejected the login").count(), 1);
}
