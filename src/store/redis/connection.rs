//! One connection to a server: login, and commands.
//!
//! The library's driver runs only while an operation does, so a connection needs no task and is not read in between.

use std::pin::{Pin, pin};
use std::sync::Arc;

use ::redis::aio::MultiplexedConnection;
use ::redis::{AsyncConnectionConfig, RedisConnectionInfo, RedisResult};
use secrecy::ExposeSecret;
use tokio::time::Instant;

use super::command::{Command, Reply};
use super::error::{self, Subject};
use super::settings::{Address, Login};
use super::stream::{BoundedStream, Meter};
use crate::connect::{Diagnosis, DirectConnector};
use crate::platform::clock::boot_now;
use crate::store::StoreError;

pub(super) struct Connection {
    pub(super) address: Address,
    /// Its address for messages.
    pub(super) server: String,
    commands: MultiplexedConnection,
    driver: Pin<Box<dyn Future<Output = ()> + Send>>,
    /// Whether the driver has ended; it must not be polled again.
    is_ended: bool,
    meter: Arc<Meter>,
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
        let (server, is_tls) = (address.to_string(), connector.is_tls());
        let (meter, diagnosis) = (Meter::new(), connected.diagnosis);
        let stream = BoundedStream::new(connected.stream, Arc::clone(&meter));
        // The library sends nothing by itself. The caller limits the time.
        let info = RedisConnectionInfo::default().set_skip_set_lib_name();
        let config = AsyncConnectionConfig::new().set_response_timeout(None);
        let made = MultiplexedConnection::new_with_config(&info, stream, config).await;
        let (commands, driver) =
            made.map_err(|_| error::of_end(meter.take_end(), &server, is_tls, &diagnosis))?;
        Ok(Self {
            address: address.clone(),
            server,
            commands,
            driver: Box::pin(driver),
            is_ended: false,
            meter,
            diagnosis,
            is_tls,
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
        }
        if database != 0 {
            let select = Command::new("SELECT").arg(database.to_string().as_bytes());
            let [reply] = self.run([select]).await?;
            if let Some(rejected) = error::server_error(&reply.value) {
                return Err(error::of_command(rejected, "SELECT", subject));
            }
        }
        Ok(())
    }

    /// Returns whether another operation may use it.
    pub(super) fn is_usable(&self) -> bool {
        !self.is_ended
    }

    /// Permits the bytes of another operation.
    pub(super) fn start_operation(&self) {
        self.meter.reset();
    }

    /// Sends commands together, and returns their answers, each of which may be an error of the server.
    pub(super) async fn run<E: Exchange>(&mut self, exchange: E) -> Result<E::Replies, StoreError> {
        let work = exchange.send(self.commands.clone());
        let mut work = pin!(work);
        let result = tokio::select! {
            biased;
            result = &mut work => result,
            () = &mut self.driver => {
                self.is_ended = true;
                // Returns immediately, because nothing can arrive any more.
                work.await
            }
        };
        result.map_err(|_| {
            let end = self.meter.take_end();
            error::of_end(end, &self.server, self.is_tls, &self.diagnosis)
        })
    }
}

/// Commands that are sent together, so that they take one round trip.
pub(super) trait Exchange: Send {
    type Replies: AsRef<[Reply]> + Send;

    fn send(
        self,
        connection: MultiplexedConnection,
    ) -> impl Future<Output = RedisResult<Self::Replies>> + Send;
}

impl Exchange for [Command; 1] {
    type Replies = [Reply; 1];

    async fn send(self, connection: MultiplexedConnection) -> RedisResult<[Reply; 1]> {
        let [command] = self;
        Ok([send(connection, command).await?])
    }
}

impl Exchange for [Command; 3] {
    type Replies = [Reply; 3];

    // Not as a pipeline of the library, which hides the errors of single commands.
    async fn send(self, connection: MultiplexedConnection) -> RedisResult<[Reply; 3]> {
        let [first, second, third] = self;
        let (first, second, third) = tokio::try_join!(
            send(connection.clone(), first),
            send(connection.clone(), second),
            send(connection, third)
        )?;
        Ok([first, second, third])
    }
}

async fn send(mut connection: MultiplexedConnection, command: Command) -> RedisResult<Reply> {
    let value = connection.send_packed_command(&command.cmd).await?;
    Ok(Reply {
        command: command.name,
        value,
        at: boot_now(),
    })
}
