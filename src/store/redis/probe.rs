//! Tests whether a store can be used, with a key of its own.

use std::sync::Arc;
use std::time::Duration;

use domo_token_protocol::BootTime;

use super::RedisStore;
use super::command::{Command, Reply, server_time};
use super::error;
use super::link::Link;
use crate::platform::clock::{boot_now, since_1970, wall_now};
use crate::store::StoreError;

/// How long the key exists if it cannot be deleted.
const KEEP: Duration = Duration::from_secs(5);

/// What a store permits. That there is one means that the store was reached, and accepted TLS and the login.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probe {
    /// The server that answered: with sentinels the master, in a cluster the node that has the key.
    pub server: String,
    pub is_tls: bool,
    /// Whether there was a login.
    pub has_login: bool,
    pub permissions: Vec<Permission>,
    /// The store's clock minus this machine's; `None` if its time is denied.
    pub clock_difference_ms: Option<i64>,
}

/// Whether a command may be executed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Permission {
    pub command: &'static str,
    pub is_granted: bool,
}

impl Probe {
    /// Returns whether the store can be used.
    #[must_use]
    pub fn is_sufficient(&self) -> bool {
        self.permissions
            .iter()
            .all(|permission| permission.is_granted)
    }
}

impl RedisStore {
    /// Executes each command once, with the key `PREFIX:probe:RANDOM`, which is removed. Each takes at most a second,
    /// connecting included.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the store is not reached, or fails for another reason than a permission.
    pub async fn probe(&self) -> Result<Probe, StoreError> {
        let name = format!("{:016x}", fastrand::u64(..));
        let settings = self.settings();
        let key = format!("{}:probe:{name}", settings.prefix);
        let mut link = Link::new(Arc::clone(&self.shared), &name);
        let mut permissions = Vec::new();
        let (asked, time) = attempt(&mut link, Command::time, &mut permissions).await?;
        let clock_difference_ms = match time {
            Some(time) => Some(difference(&time, asked, &link)?),
            None => None,
        };
        for command in [
            &(|| Command::set(&key, b"1", KEEP)) as &(dyn Fn() -> Command + Sync),
            &|| Command::get(&key),
            &|| Command::pexpire(&key, KEEP),
            &|| Command::del(&key),
        ] {
            attempt(&mut link, command, &mut permissions).await?;
        }
        Ok(Probe {
            server: link.server().to_owned(),
            is_tls: settings.tls.is_some(),
            has_login: settings.login.is_some(),
            permissions,
            clock_difference_ms,
        })
    }
}

/// Executes a command, and records whether it is permitted. Returns when it was sent, and its answer if it is.
async fn attempt(
    link: &mut Link,
    command: impl Fn() -> Command + Sync,
    permissions: &mut Vec<Permission>,
) -> Result<(BootTime, Option<Reply>), StoreError> {
    let (asked, [reply]) = link.replies(Link::deadline(), || [command()]).await?;
    let rejection = link.rejection(&reply);
    let is_denied = error::is_denied(&reply.value);
    permissions.push(Permission {
        command: reply.command,
        is_granted: !is_denied,
    });
    match rejection {
        Some(error) if !is_denied => Err(error),
        Some(_) => Ok((asked, None)),
        None => Ok((asked, Some(reply))),
    }
}

/// Returns the store's clock minus this machine's, with half of the round trip taken off.
fn difference(time: &Reply, asked: BootTime, link: &Link) -> Result<i64, StoreError> {
    let theirs =
        server_time(&time.value).ok_or_else(|| error::unexpected(link.server(), "TIME"))?;
    let answered_before = boot_now().saturating_since(time.at);
    let half = time.at.saturating_since(asked) / 2;
    let ours = since_1970(wall_now()).saturating_sub(answered_before + half);
    let ours = u64::try_from(ours.as_millis()).unwrap_or(u64::MAX);
    Ok(theirs.cast_signed().saturating_sub(ours.cast_signed()))
}
