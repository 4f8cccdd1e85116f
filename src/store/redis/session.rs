//! The operations on the records of one scope set.

use std::sync::Arc;
use std::time::Duration;

use super::Reach;
use super::command::{Command, Invalid, Reply, is_count, record, server_time, was_set};
use super::error::{self, error};
use super::link::Link;
use crate::store::{Look, MAX_RECORD, StoreError, StoreFailure, StoreSession};

/// The operations of one fetch. The connection is closed when it is dropped.
pub struct RedisSession {
    link: Link,
    token: String,
    lease: String,
    note: String,
}

impl RedisSession {
    pub(super) fn new(reach: Arc<Reach>, name: &str) -> Self {
        let link = Link::new(reach, name);
        // The braces keep the three on one node of a cluster.
        let key = |kind: &str| format!("{}:{{{name}}}:{kind}", link.prefix());
        Self {
            token: key("token"),
            lease: key("lease"),
            note: key("note"),
            link,
        }
    }

    /// Returns the error for an answer that does not fit its command. Further answers may not fit theirs either.
    fn unexpected(&mut self, command: &str) -> StoreError {
        self.link.disconnect();
        error::unexpected(self.link.server(), command)
    }

    fn record(&mut self, reply: Reply) -> Result<Option<zeroize::Zeroizing<Vec<u8>>>, StoreError> {
        record(reply.value).map_err(|Invalid| self.unexpected(reply.command))
    }
}

impl StoreSession for RedisSession {
    async fn look(&mut self) -> Result<Look, StoreError> {
        let commands = || {
            [
                Command::time(),
                Command::get(&self.token),
                Command::get(&self.note),
            ]
        };
        let (asked, replies) = self.link.execute(Link::deadline(), commands).await?;
        let [time, token, note] = replies;
        let time_ms = server_time(&time.value).ok_or_else(|| self.unexpected("TIME"))?;
        Ok(Look {
            asked,
            answered: time.at,
            time_ms,
            token: self.record(token)?,
            note: self.record(note)?,
        })
    }

    async fn claim(&mut self, id: &str, lease: Duration) -> Result<bool, StoreError> {
        let commands = || [Command::set_if_absent(&self.lease, id.as_bytes(), lease)];
        let (_, [reply]) = self.link.execute(Link::deadline(), commands).await?;
        was_set(&reply.value).ok_or_else(|| self.unexpected("SET"))
    }

    async fn extend(&mut self, lease: Duration) -> Result<(), StoreError> {
        let commands = || [Command::pexpire(&self.lease, lease)];
        let (_, [reply]) = self.link.execute(Link::deadline(), commands).await?;
        is_count(&reply.value)
            .then_some(())
            .ok_or_else(|| self.unexpected("PEXPIRE"))
    }

    async fn put_token(&mut self, record: &[u8], keep: Duration) -> Result<(), StoreError> {
        let deadline = Link::deadline();
        let set = sendable(record)?;
        let commands = || [Command::set(&self.token, set, keep)];
        let (_, [reply]) = self.link.execute(deadline, commands).await?;
        if was_set(&reply.value) != Some(true) {
            return Err(self.unexpected("SET"));
        }
        // Only then: as long as there is no token, the note stands.
        let commands = || [Command::del(&self.note)];
        let (_, [reply]) = self.link.execute(deadline, commands).await?;
        is_count(&reply.value)
            .then_some(())
            .ok_or_else(|| self.unexpected("DEL"))
    }

    async fn put_note(&mut self, record: &[u8], keep: Duration) -> Result<(), StoreError> {
        let note = sendable(record)?;
        let commands = || [Command::set(&self.note, note, keep)];
        let (_, [reply]) = self.link.execute(Link::deadline(), commands).await?;
        if was_set(&reply.value) != Some(true) {
            return Err(self.unexpected("SET"));
        }
        Ok(())
    }
}

/// Returns the record unless it is too long.
fn sendable(record: &[u8]) -> Result<&[u8], StoreError> {
    if record.len() <= MAX_RECORD {
        return Ok(record);
    }
    let message = format!(
        "the record has {} bytes, and at most {MAX_RECORD} are stored; this token is not shared",
        record.len()
    );
    Err(error(StoreFailure::Protocol, message))
}
