//! Listens, on its own thread.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use crate::fault::{Fault, RejectTiming};
use crate::limits::Limits;
use crate::no_continue::NoContinue;
use crate::record::{Recorded, ResourceCall, TooFew};
use crate::service;
use crate::state::{Client, Options, State, UploadRevocation};
use crate::tls::{self, Identity};
use crate::token_endpoint::TOKEN_PATH;

/// Domo's lifetime of a token.
const LIFETIME: Duration = Duration::from_secs(3599);

/// The stack of the thread, in bytes. In a debug build, the parser of queries needs much of it.
const STACK: usize = 32 << 20;

/// The status of [`Builder::fail_after`] without [`Builder::fail_with`].
const DEFAULT_FAILURE: u16 = 503;

/// A running sandbox; dropping it stops it.
pub struct Sandbox {
    state: Arc<State>,
    address: SocketAddr,
    ca_pem: Option<String>,
    commands: mpsc::UnboundedSender<Command>,
    thread: Option<JoinHandle<()>>,
}

/// The configuration of a sandbox.
#[must_use]
pub struct Builder {
    clients: Vec<(String, Client)>,
    lifetime: Duration,
    https: Option<Identity>,
    port: u16,
    options: Options,
    failures: Vec<u16>,
}

enum Command {
    StopListening(oneshot::Sender<io::Result<()>>),
    ListenAgain(oneshot::Sender<io::Result<()>>),
    End,
}

impl Builder {
    /// Adds an API client with the scopes granted to it.
    pub fn client(mut self, id: &str, secret: &str, scopes: &[&str]) -> Self {
        self.clients.push((id.to_owned(), client(secret, scopes)));
        self
    }

    /// Sets the lifetime of tokens [default: 3599 s, as at Domo].
    pub fn lifetime(mut self, lifetime: Duration) -> Self {
        self.lifetime = lifetime;
        self
    }

    /// Serves HTTPS, with a certificate of a CA created at start.
    pub fn https(mut self, https: bool) -> Self {
        self.https = https.then(Identity::default);
        self
    }

    /// Serves HTTPS with a certificate for another host.
    pub fn https_for(mut self, host: &str) -> Self {
        let names = vec![host.to_owned()];
        self.https = Some(Identity {
            names,
            ..Identity::default()
        });
        self
    }

    /// Serves HTTPS with an expired certificate.
    pub fn https_expired(mut self) -> Self {
        self.https = Some(Identity {
            expired: true,
            ..Identity::default()
        });
        self
    }

    /// Sets the port on 127.0.0.1; 0 selects a free one [default: 0].
    pub fn port(mut self, port: u16) -> Self {
        self.port = port;
        self
    }

    /// Calls `log` with each token request that was answered.
    pub fn log(mut self, log: fn(&Recorded)) -> Self {
        self.options.log = Some(log);
        self
    }

    /// Sets how much is stored [default: see [`Limits`]].
    pub fn limits(mut self, limits: Limits) -> Self {
        self.options.limits = limits;
        self
    }

    /// Delays each response by that time [default: none]. A token's lifetime begins after the delay.
    pub fn delay(mut self, delay: Duration) -> Self {
        self.options.delay = delay;
        self
    }

    /// Makes the protected resources reject each token that long after its issue, although it has not expired.
    pub fn revoke_after(mut self, after: Duration) -> Self {
        self.options.revoke_after = Some(after);
        self
    }

    /// Never responds with 100 to `Expect: 100-continue` (RFC 9110 §10.1.1), and reads each body before it responds.
    pub fn no_continue(mut self, no_continue: bool) -> Self {
        self.options.no_continue = no_continue;
        self
    }

    /// Responds to token requests with these statuses, in order; the last one repeats, and 200 is a normal response.
    ///
    /// Faults set with [`Sandbox::script`] and [`Sandbox::always`] take precedence. [`Sandbox::recover`] ends it.
    pub fn fail_with(mut self, statuses: Vec<u16>) -> Self {
        self.failures = statuses;
        self
    }

    /// Applies [`Builder::fail_with`] that long after the start [default: immediately], by default with status 503.
    pub fn fail_after(mut self, after: Duration) -> Self {
        self.options.fail_after = Some(after);
        self
    }

    /// Starts the sandbox.
    ///
    /// # Errors
    ///
    /// If the port is in use, or the certificate cannot be created.
    pub fn start(self) -> io::Result<Sandbox> {
        let mut failures = self.failures;
        if failures.is_empty() && self.options.fail_after.is_some() {
            failures.push(DEFAULT_FAILURE);
        }
        let state = Arc::new(State::new(self.lifetime, self.options));
        let mut inner = state.lock();
        inner.clients.extend(self.clients);
        inner.failures.extend(failures);
        drop(inner);
        let (acceptor, ca_pem) = match self.https.map(tls::acceptor).transpose()? {
            Some((acceptor, pem)) => (Some(acceptor), Some(pem)),
            None => (None, None),
        };
        let (commands, taken) = mpsc::unbounded_channel();
        let (ready, is_ready) = oneshot::channel();
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, self.port));
        let server = Server {
            state: Arc::clone(&state),
            acceptor,
            commands: taken,
        };
        let run = move || server.run(address, ready);
        let thread = thread::Builder::new()
            .name("domo-sandbox".to_owned())
            .stack_size(STACK)
            .spawn(run)?;
        let address = is_ready.blocking_recv().map_err(io::Error::other)??;
        Ok(Sandbox {
            state,
            address,
            ca_pem,
            commands,
            thread: Some(thread),
        })
    }
}

fn client(secret: &str, scopes: &[&str]) -> Client {
    Client {
        secret: secret.to_owned(),
        granted: scopes.iter().map(|scope| (*scope).to_owned()).collect(),
    }
}

impl Sandbox {
    /// Returns the default configuration: no clients, any port, tokens valid for 3599 s.
    pub fn builder() -> Builder {
        Builder {
            clients: Vec::new(),
            lifetime: LIFETIME,
            https: None,
            port: 0,
            options: Options::default(),
            failures: Vec::new(),
        }
    }

    /// Returns the URL of a path that begins with `/`.
    #[must_use]
    pub fn url(&self, path: &str) -> String {
        let scheme = if self.ca_pem.is_some() {
            "https"
        } else {
            "http"
        };
        format!("{scheme}://{}{path}", self.address)
    }

    /// Returns the URL of the token endpoint.
    #[must_use]
    pub fn token_url(&self) -> String {
        self.url(TOKEN_PATH)
    }

    /// Returns the CA's certificate, with HTTPS.
    #[must_use]
    pub fn ca_pem(&self) -> Option<String> {
        self.ca_pem.clone()
    }

    /// Sets one fault for each of the next token requests, in order.
    pub fn script(&self, faults: impl IntoIterator<Item = Fault>) {
        self.state.lock().script.extend(faults);
    }

    /// Sets a fault for every token request beyond the script.
    pub fn always(&self, fault: Fault) {
        self.state.lock().always = Some(fault);
    }

    /// Sets one fault for each of the next calls of the API with a valid token and sufficient scope, in order.
    ///
    /// A fault of the status, the headers, the body or the connection applies; one of the token does not.
    pub fn script_calls(&self, faults: impl IntoIterator<Item = Fault>) {
        self.state.lock().call_script.extend(faults);
    }

    /// Sets a fault for every such call beyond that script.
    pub fn always_in_calls(&self, fault: Fault) {
        self.state.lock().call_always = Some(fault);
    }

    /// Responds normally from now on. Closes hanging responses, and continues held ones.
    pub fn recover(&self) {
        self.state.recover();
    }

    /// Returns how many connections were accepted so far, with or without a request.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.state.lock().connections
    }

    /// Returns all token requests so far, in order.
    #[must_use]
    pub fn requests(&self) -> Vec<Recorded> {
        self.state.lock().requests.clone()
    }

    /// Blocks until that many token requests in all were received, and returns them.
    ///
    /// # Errors
    ///
    /// [`TooFew`] if that takes longer than `timeout`.
    pub fn wait_for_requests(
        &self,
        count: usize,
        timeout: Duration,
    ) -> Result<Vec<Recorded>, TooFew> {
        self.state.wait_for_requests(count, timeout)
    }

    /// Returns all calls of protected resources so far.
    #[must_use]
    pub fn resource_calls(&self) -> Vec<ResourceCall> {
        self.state.lock().resource_calls.clone()
    }

    /// Adds a client, or replaces the one of that id.
    pub fn add_client(&self, id: &str, secret: &str, scopes: &[&str]) {
        self.state
            .lock()
            .clients
            .insert(id.to_owned(), client(secret, scopes));
    }

    /// Deletes a client. As at Domo, its tokens stay valid.
    pub fn remove_client(&self, id: &str) {
        self.state.lock().clients.remove(id);
    }

    /// Sets the lifetime of tokens issued from now on.
    pub fn set_lifetime(&self, lifetime: Duration) {
        self.state.lock().lifetime = lifetime;
    }

    /// Makes the protected resources reject this token from now on.
    pub fn revoke(&self, token: &str) {
        self.state.lock().revoke(|text| text == token);
    }

    /// Makes the protected resources reject all tokens issued so far.
    pub fn revoke_all(&self) {
        self.state.lock().revoke(|_| true);
    }

    /// Revokes the token of the next call whose body reaches that many bytes, and rejects this call.
    pub fn revoke_in_upload(&self, bytes: u64, rejects: RejectTiming) {
        self.state.lock().upload_revocation = Some(UploadRevocation { bytes, rejects });
    }

    /// Refuses connections from now on, and closes existing ones.
    ///
    /// # Errors
    ///
    /// If the server has ended.
    pub fn stop_listening(&self) -> io::Result<()> {
        self.send(Command::StopListening)
    }

    /// Listens on the same port again.
    ///
    /// # Errors
    ///
    /// If the port is in use.
    pub fn listen_again(&self) -> io::Result<()> {
        self.send(Command::ListenAgain)
    }

    fn send(&self, command: fn(oneshot::Sender<io::Result<()>>) -> Command) -> io::Result<()> {
        let (done, is_done) = oneshot::channel();
        self.commands
            .send(command(done))
            .map_err(io::Error::other)?;
        // Callers are not tasks, so they may block.
        is_done.blocking_recv().map_err(io::Error::other)?
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        // Fails only if the server has already ended.
        let _ = self.commands.send(Command::End);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

struct Server {
    state: Arc<State>,
    acceptor: Option<TlsAcceptor>,
    commands: mpsc::UnboundedReceiver<Command>,
}

impl Server {
    fn run(mut self, address: SocketAddr, ready: oneshot::Sender<io::Result<SocketAddr>>) {
        let runtime = match tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
        {
            Ok(runtime) => runtime,
            Err(error) => return ready.send(Err(error)).unwrap_or_default(),
        };
        runtime.block_on(async {
            let bound = listen(address).and_then(|l| Ok((l.local_addr()?, l)));
            match bound {
                Ok((address, listener)) => {
                    ready.send(Ok(address)).unwrap_or_default();
                    self.serve(address, listener).await;
                }
                Err(error) => ready.send(Err(error)).unwrap_or_default(),
            }
        });
    }

    async fn serve(&mut self, address: SocketAddr, listener: TcpListener) {
        let mut listener = Some(listener);
        let mut connections = JoinSet::new();
        loop {
            let command = tokio::select! {
                accepted = accept(listener.as_ref()) => {
                    if let Ok(stream) = accepted {
                        connections.spawn(connection(stream, self.acceptor.clone(), Arc::clone(&self.state)));
                    }
                    continue;
                }
                Some(_) = connections.join_next(), if !connections.is_empty() => continue,
                command = self.commands.recv() => command,
            };
            let (done, result) = match command {
                None | Some(Command::End) => return,
                Some(Command::StopListening(done)) => {
                    listener = None;
                    connections.shutdown().await;
                    (done, Ok(()))
                }
                Some(Command::ListenAgain(done)) => match listen(address) {
                    Ok(bound) => {
                        listener = Some(bound);
                        (done, Ok(()))
                    }
                    Err(error) => (done, Err(error)),
                },
            };
            done.send(result).unwrap_or_default();
        }
    }
}

/// Binds with `SO_REUSEADDR`: connections of the previous listener may linger on the address.
fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(1024)
}

async fn accept(listener: Option<&TcpListener>) -> io::Result<tokio::net::TcpStream> {
    match listener {
        Some(listener) => listener.accept().await.map(|(stream, _)| stream),
        None => std::future::pending().await,
    }
}

async fn connection(
    stream: tokio::net::TcpStream,
    acceptor: Option<TlsAcceptor>,
    state: Arc<State>,
) {
    state.lock().connections += 1;
    match acceptor {
        None => http(stream, state).await,
        // A client that does not trust the certificate ends the handshake.
        Some(acceptor) => {
            if let Ok(stream) = acceptor.accept(stream).await {
                http(stream, state).await;
            }
        }
    }
}

async fn http(stream: impl AsyncRead + AsyncWrite + Unpin + 'static, state: Arc<State>) {
    if state.sends_continue() {
        serve(stream, state).await;
    } else {
        serve(NoContinue(stream), state).await;
    }
}

async fn serve(stream: impl AsyncRead + AsyncWrite + Unpin + 'static, state: Arc<State>) {
    let service = service_fn(move |request| service::answer(request, Arc::clone(&state)));
    // Errors are requested faults, or clients that disconnect.
    let _ = http1::Builder::new()
        .serve_connection(TokioIo::new(stream), service)
        .await;
}
