//! One connection to a server: login, and commands.

use secrecy::ExposeSecret;
use tokio::time::Instant;
use zeroize::Zeroizing;

use super::command::{Command, Reply, was_set};
use super::error::{self, Subject};
use super::resp::{self, End, RespStream, Value};
use super::settings::{Address, Login};
use crate::connect::{Diagnosis, DirectConnector, Stream};
use crate::platform::clock::boot_now;
use crate::store::StoreError;

pub(super) struct Connection {
    pub(super) address: Address,
    /// Its address for messages.
    server: String,
    stream: RespStream<Box<dyn Stream>>,
    diagnosis: Diagnosis,
    is_tls: bool,
}

impl Connection {
    /// Connects by `deadline`.
    pub(super) async fn open(
        connector: &DirectConnector,
        address: &Address,
        deadline: Instant,
    ) -> Result<Self, StoreError> {
        let connected = connector.connect(&address.host, address.port, deadline);
        let connected = connected
            .await
            .map_err(|failed| error::of_connect(&failed, connector.is_tls()))?;
        Ok(Self {
            address: address.clone(),
            server: address.to_string(),
            stream: RespStream::new(connected.stream),
            diagnosis: connected.diagnosis,
            is_tls: connector.is_tls(),
        })
    }

    /// Logs in, and selects the database if it is not the first.
    pub(super) async fn log_in(
        &mut self,
        login: Option<&Login>,
        database: u32,
        subject: &Subject<'_>,
    ) -> Result<(), StoreError> {
        if let Some(login) = login {
            let mut auth = Command::new("AUTH");
            if let Some(username) = &login.username {
                auth = auth.arg(username.as_bytes());
            }
            let auth = auth.arg(login.password.expose_secret().as_bytes());
            let [reply] = self.run([auth]).await?;
            if let Some(rejected) = error::server_error(&reply.value) {
                return Err(error::of_login(rejected, subject));
            }
            self.expect_ok(&reply)?;
        }
        if database != 0 {
            let select = Command::new("SELECT").arg(database.to_string().as_bytes());
            let [reply] = self.run([select]).await?;
            if let Some(rejected) = error::server_error(&reply.value) {
                return Err(error::of_command(rejected, "SELECT", subject));
            }
            self.expect_ok(&reply)?;
        }
        Ok(())
    }

    fn expect_ok(&self, reply: &Reply) -> Result<(), StoreError> {
        if was_set(&reply.value) == Some(true) {
            return Ok(());
        }
        Err(error::unexpected(&self.server, reply.command))
    }

    /// Permits the bytes of another operation. Returns false if the connection cannot be used for it.
    pub(super) async fn start_operation(&mut self) -> bool {
        self.stream.start_operation();
        self.stream.is_idle().await
    }

    /// Sends commands together, so that they take one round trip, and returns their answers, each of which may be an
    /// error of the server.
    pub(super) async fn run<const N: usize>(
        &mut self,
        commands: [Command; N],
    ) -> Result<[Reply; N], StoreError> {
        let result = self.exchange(commands).await;
        result.map_err(|end| error::of_end(end, &self.server, self.is_tls, &self.diagnosis))
    }

    async fn exchange<const N: usize>(
        &mut self,
        commands: [Command; N],
    ) -> Result<[Reply; N], End> {
        let mut encoded = Zeroizing::default();
        for command in &commands {
            resp::encode(&command.parts, &mut encoded);
        }
        // A server that admits no connection sends an error, and closes it before or after commands are sent.
        let written = self.stream.write(&encoded).await;
        let mut replies: Vec<Reply> = Vec::with_capacity(N);
        for command in &commands {
            let value = match self.stream.read().await {
                Ok(value) => value,
                Err(end) => match (rejection(&replies), end) {
                    (Some(rejection), _) => rejection,
                    (None, End::Closed) => return Err(written.err().unwrap_or(End::Closed)),
                    (None, end) => return Err(end),
                },
            };
            replies.push(Reply {
                command: command.name,
                value,
                at: boot_now(),
            });
        }
        if rejection(&replies).is_none() {
            written?;
            self.stream.check_end_of_answers()?;
        }
        replies.try_into().map_err(|_| End::Invalid)
    }
}

/// Returns the first error among the answers.
fn rejection(replies: &[Reply]) -> Option<Value> {
    let mut values = replies.iter().map(|reply| &reply.value);
    let rejected = values.find(|value| error::server_error(value).is_some());
    rejected.cloned()
}
