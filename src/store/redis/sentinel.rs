//! Asks sentinels for the master of a service.

use domo_token_core::masking::masked;
use secrecy::SecretString;
use tokio::time::{Instant, timeout_at};

use super::command::{Command, Invalid, master_address};
use super::connection::Connection;
use super::error::{self, Role, Subject, error};
use super::settings::{Address, Login};
use crate::connect::DirectConnector;
use crate::platform::clock::timer_now;
use crate::store::{StoreError, StoreFailure};

/// Returns the master's address by the first sentinel that names one, in random order.
pub(super) async fn master(
    connector: &DirectConnector,
    sentinels: &[Address],
    service: &str,
    password: Option<&SecretString>,
    deadline: Instant,
) -> Result<Address, StoreError> {
    let mut order: Vec<&Address> = sentinels.iter().collect();
    fastrand::shuffle(&mut order);
    let mut failed = error(
        StoreFailure::Connect,
        "no sentinels are configured; set sentinels",
    );
    for (index, sentinel) in order.iter().enumerate() {
        // The others and the master share the rest of the time.
        let shares = u32::try_from(order.len() - index + 1).unwrap_or(u32::MAX);
        let now = timer_now();
        let limit = now + deadline.saturating_duration_since(now) / shares;
        let answer = timeout_at(limit, ask(connector, sentinel, service, password, limit));
        match answer.await {
            Ok(Ok(address)) => return Ok(address),
            Ok(Err(other)) => failed = other,
            Err(_) => {
                let message = format!("no response from the sentinel {sentinel} in time");
                failed = error(StoreFailure::Timeout, message);
            }
        }
    }
    Err(failed)
}

async fn ask(
    connector: &DirectConnector,
    sentinel: &Address,
    service: &str,
    password: Option<&SecretString>,
    deadline: Instant,
) -> Result<Address, StoreError> {
    let mut connection = Connection::open(connector, sentinel, deadline).await?;
    let server = format!("the sentinel {sentinel}");
    let login = password.map(|password| Login {
        username: None,
        password: password.clone(),
    });
    let subject = Subject {
        server: &server,
        login: login.as_ref(),
        role: Role::Sentinel,
    };
    connection.log_in(login.as_ref(), 0, &subject).await?;
    let command = Command::new("SENTINEL").arg(b"GET-MASTER-ADDR-BY-NAME");
    let command = command.arg(service.as_bytes());
    let [reply] = connection.run([command]).await?;
    if let Some(rejected) = error::server_error(&reply.value) {
        if rejected.details().starts_with("unknown command") {
            let message = format!("{sentinel} is not a sentinel; check the ports of sentinels");
            return Err(error(StoreFailure::Protocol, message));
        }
        return Err(error::of_command(rejected, "SENTINEL", &subject));
    }
    match master_address(&reply.value) {
        Ok(Some(address)) if subject.may_show(&address) => Ok(address),
        Ok(None) => {
            let service = masked(service);
            let message = format!("{server} does not know the service {service}; check service");
            Err(error(StoreFailure::Protocol, message))
        }
        Ok(Some(_)) | Err(Invalid) => Err(error::unexpected(&server, "SENTINEL")),
    }
}
