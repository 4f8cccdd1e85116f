//! Executes commands over one connection, which it makes when it is needed and follows to another node.

use std::sync::Arc;
use std::time::Duration;

use domo_token_protocol::BootTime;
use tokio::time::{Instant, timeout_at};

use super::Reach;
use super::command::{Command, Reply, moved_to};
use super::connection::Connection;
use super::error::{self, Role, Subject, error};
use super::sentinel;
use super::settings::{Address, Place};
use crate::platform::clock::{boot_now, timer_now};
use crate::store::{StoreError, StoreFailure};

/// How long an operation may take, connecting included.
pub(super) const LIMIT: Duration = Duration::from_secs(1);

pub(super) struct Link {
    reach: Arc<Reach>,
    /// What errors must not contain: the variable part of the keys.
    name: String,
    /// `None` before the first operation and after an error.
    connection: Option<Connection>,
    /// The server of the last connection, for messages.
    server: String,
}

impl Link {
    pub(super) fn new(reach: Arc<Reach>, name: &str) -> Self {
        Self {
            server: reach.settings.place.to_string(),
            reach,
            name: name.to_owned(),
            connection: None,
        }
    }

    pub(super) fn prefix(&self) -> &str {
        &self.reach.settings.prefix
    }

    /// Returns the server that executed the last commands, for messages.
    pub(super) fn server(&self) -> &str {
        &self.server
    }

    /// Returns the end of an operation that begins now.
    pub(super) fn deadline() -> Instant {
        timer_now() + LIMIT
    }

    /// Returns the answers to commands, none of which is an error, except that a value has another type, and when the
    /// commands were sent.
    pub(super) async fn execute<const N: usize>(
        &mut self,
        deadline: Instant,
        commands: impl Fn() -> [Command; N] + Send,
    ) -> Result<(BootTime, [Reply; N]), StoreError> {
        let (asked, replies) = self.replies(deadline, commands).await?;
        let mut rejected = replies
            .iter()
            .filter(|reply| !error::is_wrong_type(&reply.value));
        if let Some(error) = rejected.find_map(|reply| self.rejection(reply)) {
            self.disconnect();
            return Err(error);
        }
        Ok((asked, replies))
    }

    /// Returns the error that an answer is, if it is one.
    pub(super) fn rejection(&self, reply: &Reply) -> Option<StoreError> {
        let rejected = error::server_error(&reply.value)?;
        Some(error::of_command(
            rejected,
            reply.command,
            &subject(&self.reach, &self.name, &self.server),
        ))
    }

    /// Returns the answers to commands, each of which may be an error, and when the commands were sent.
    pub(super) async fn replies<const N: usize>(
        &mut self,
        deadline: Instant,
        commands: impl Fn() -> [Command; N] + Send,
    ) -> Result<(BootTime, [Reply; N]), StoreError> {
        let in_time = timeout_at(deadline, self.run(deadline, commands)).await;
        in_time.unwrap_or_else(|_| {
            let message = format!(
                "no response from {} within {} s; check that it runs and is not overloaded",
                self.server,
                LIMIT.as_secs()
            );
            Err(error(StoreFailure::Timeout, message))
        })
    }

    /// Runs commands, and runs all of them again on another node if one of the answers names it. The connection is kept
    /// unless this fails or is cancelled.
    async fn run<const N: usize>(
        &mut self,
        deadline: Instant,
        commands: impl Fn() -> [Command; N] + Send,
    ) -> Result<(BootTime, [Reply; N]), StoreError> {
        let mut connection = if let Some(connection) = self.usable_connection().await {
            connection
        } else {
            let address = address(&self.reach, deadline).await?;
            self.connect(&address, deadline).await?
        };
        let mut asked = boot_now();
        let mut replies = connection.run(commands()).await?;
        let other = replies
            .iter()
            .find_map(|reply| moved(reply, &connection.address))
            .filter(|other| subject(&self.reach, &self.name, &self.server).may_show(other));
        if let Some(address) = other {
            connection = self.connect(&address, deadline).await?;
            asked = boot_now();
            replies = connection.run(commands()).await?;
        }
        self.connection = Some(connection);
        Ok((asked, replies))
    }

    /// Takes the connection of the last operation, unless the server has closed it meanwhile.
    async fn usable_connection(&mut self) -> Option<Connection> {
        let mut connection = self.connection.take()?;
        connection.start_operation().await.then_some(connection)
    }

    /// Closes the connection, after which the next operation connects again.
    pub(super) fn disconnect(&mut self) {
        self.connection = None;
    }

    async fn connect(
        &mut self,
        address: &Address,
        deadline: Instant,
    ) -> Result<Connection, StoreError> {
        self.server = address.to_string();
        let settings = &self.reach.settings;
        let mut connection = Connection::open(&self.reach.connector, address, deadline).await?;
        let subject = subject(&self.reach, &self.name, &self.server);
        let login = settings.login.as_ref();
        connection
            .log_in(login, settings.database, &subject)
            .await?;
        Ok(connection)
    }
}

/// Returns the address to connect to first.
async fn address(reach: &Reach, deadline: Instant) -> Result<Address, StoreError> {
    match &reach.settings.place {
        Place::Server(address) => Ok(address.clone()),
        Place::Sentinels {
            addresses,
            service,
            password,
        } => {
            let connector = &reach.connector;
            sentinel::master(connector, addresses, service, password.as_ref(), deadline).await
        }
    }
}

fn subject<'a>(reach: &'a Reach, name: &'a str, server: &'a str) -> Subject<'a> {
    Subject {
        server,
        login: reach.settings.login.as_ref(),
        role: Role::Store {
            prefix: &reach.settings.prefix,
            login_keys: reach.settings.login_keys,
            name,
        },
    }
}

/// Returns the node that has the keys, if the answer of `node` is that another has them.
fn moved(reply: &Reply, node: &Address) -> Option<Address> {
    let rejected = error::server_error(&reply.value)?;
    if rejected.code() != "MOVED" {
        return None;
    }
    moved_to(rejected.details(), node)
}
