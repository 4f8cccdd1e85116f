//! Keeps tokens over a restart of the service, in systemd's file-descriptor store.
//!
//! A snapshot is JSON in a sealed memfd, which nobody can change. It is restored only within the same
//! boot, because its times are on the boot clock, and for the same client name, scope set and endpoint.

use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::time::Duration;

use domo_token_protocol::messages::TokenText;
use domo_token_protocol::scope::ScopeSet;
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};
use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};
use zeroize::Zeroizing;

use crate::broker::{Broker, StoredToken};
use crate::platform::clock::{BootTime, Clock};
use crate::platform::systemd::{self, Slot};
use crate::platform::threads;
use crate::source::Origin;
use domo_token_core::schedule::TokenSnapshot;
use domo_token_core::token::{MAX_LIFETIME, Token, Validity};

/// The version of the snapshot's format; snapshots of another one are dropped.
const FORMAT: u8 = 1;

/// How many times as long as storing a snapshot took the next one waits: thousands of tokens that come in
/// a burst are stored in few snapshots, and a single one immediately, so that a kill loses the last
/// renewal at most.
const PAUSE_FACTOR: u32 = 9;

#[derive(Serialize, Deserialize)]
struct Snapshot {
    form: u8,
    /// The kernel's id of this boot.
    boot: String,
    written: BootTime,
    tokens: Vec<Record>,
}

#[derive(Serialize, Deserialize)]
struct Record {
    client: String,
    origin: Origin,
    scope: String,
    granted: String,
    text: TokenText,
    generation: u64,
    obtained: BootTime,
    lifetime_ms: u64,
    expires: BootTime,
    renew_at: Option<BootTime>,
}

/// The tokens that an earlier process had stored.
#[derive(Default)]
pub struct StoredTokens(Vec<Record>);

impl StoredTokens {
    /// Reads the snapshots that systemd passed. One of an earlier boot, of another format or without seals
    /// is ignored.
    #[must_use]
    pub fn read(files: Vec<File>) -> Self {
        let snapshots = files
            .into_iter()
            .filter_map(|file| match read_snapshot(file) {
                Ok(snapshot) => Some(snapshot),
                Err(error) => {
                    warn!("cannot restore stored tokens: {error}");
                    None
                }
            });
        // There are two if that process was killed after storing one and before removing the other.
        let newest = snapshots.max_by_key(|snapshot| snapshot.written);
        Self(newest.map(|snapshot| snapshot.tokens).unwrap_or_default())
    }

    /// Returns the tokens that are valid.
    #[must_use]
    pub fn tokens(self, now: BootTime) -> Vec<StoredToken> {
        let valid = self
            .0
            .into_iter()
            .filter_map(|record| record.into_stored(now));
        valid.collect()
    }
}

impl Record {
    fn of(stored: StoredToken) -> Self {
        let token = stored.snapshot.token;
        let validity = token.validity();
        Self {
            client: stored.client,
            origin: stored.origin,
            scope: stored.scope.as_str().to_owned(),
            granted: token.granted().as_str().to_owned(),
            text: TokenText::from(token.text().clone()),
            generation: validity.generation,
            obtained: validity.obtained,
            lifetime_ms: u64::try_from(validity.lifetime.as_millis()).unwrap_or(u64::MAX),
            expires: validity.expires,
            renew_at: stored.snapshot.renew_at,
        }
    }

    fn into_stored(self, now: BootTime) -> Option<StoredToken> {
        let validity = Validity {
            generation: self.generation,
            obtained: self.obtained,
            lifetime: Duration::from_millis(self.lifetime_ms).min(MAX_LIFETIME),
            expires: self.expires,
        };
        let is_valid = now < validity.expires
            && validity.obtained <= now
            && validity.left(now) <= MAX_LIFETIME;
        let scope = ScopeSet::parse(&self.scope).ok()?;
        let granted = ScopeSet::parse(&self.granted).ok()?;
        let text: SecretString = self.text.into_secret();
        let token = is_valid.then(|| Token::new(&self.client, &granted, &text, validity));
        Some(StoredToken {
            snapshot: TokenSnapshot {
                token: token?.ok()?,
                renew_at: self.renew_at,
            },
            client: self.client,
            origin: self.origin,
            scope,
        })
    }
}

/// Stores a snapshot whenever the tokens change, and a last one when `stop` is cancelled.
pub async fn run<C: Clock>(broker: Broker<C>, clock: C, stop: CancellationToken) {
    let mut changed = broker.renewals();
    changed.mark_changed();
    // The restored tokens are stored again.
    clear();
    let mut slot = Slot::A;
    let mut stopping = false;
    while !stopping {
        tokio::select! {
            _ = changed.changed() => {}
            () = stop.cancelled() => {
                stopping = true;
                if !changed.has_changed().unwrap_or(false) {
                    return;
                }
            }
        }
        changed.mark_unchanged();
        let tokens = broker.tokens_to_store().unwrap_or_default();
        if tokens.is_empty() {
            clear();
            continue;
        }
        let written = clock.now();
        let stored = threads::run(move || store(tokens, written, slot)).await;
        match stored.and_then(|stored| stored) {
            Ok(count) => debug!(count, "stored tokens in systemd's file-descriptor store"),
            Err(error) => warn!("cannot store tokens for a restart: {error}"),
        }
        slot = slot.other();
        let now = clock.now();
        let next = now + now.saturating_since(written) * PAUSE_FACTOR;
        tokio::select! {
            () = clock.sleep_until(next) => {}
            () = stop.cancelled() => {}
        }
    }
}

/// Removes the stored snapshots.
pub fn clear() {
    systemd::remove_descriptor(Slot::A);
    systemd::remove_descriptor(Slot::B);
}

fn store(tokens: Vec<StoredToken>, written: BootTime, slot: Slot) -> io::Result<usize> {
    let tokens: Vec<Record> = tokens.into_iter().map(Record::of).collect();
    let count = tokens.len();
    let snapshot = Snapshot {
        form: FORMAT,
        boot: boot_id()?,
        written,
        tokens,
    };
    let mut text = Zeroizing::new(Vec::new());
    serde_json::to_writer(&mut *text, &snapshot)?;
    systemd::store_descriptor(&sealed_memfd(&text)?, slot);
    Ok(count)
}

fn sealed_memfd(text: &[u8]) -> io::Result<File> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let mut file = File::from(memfd_create(c"domo-tokens", flags)?);
    file.write_all(text)?;
    fcntl_add_seals(&file, all_seals())?;
    Ok(file)
}

fn all_seals() -> SealFlags {
    SealFlags::SEAL | SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE
}

fn read_snapshot(mut file: File) -> io::Result<Snapshot> {
    let seals = rustix::fs::fcntl_get_seals(&file)?;
    if !seals.contains(all_seals()) {
        return Err(io::Error::other("the file is not sealed"));
    }
    let length = usize::try_from(file.metadata()?.len()).unwrap_or(0);
    let mut text = Zeroizing::new(Vec::with_capacity(length));
    file.rewind()?;
    file.read_to_end(&mut text)?;
    // serde's message may quote what it read.
    let snapshot: Snapshot = serde_json::from_slice(&text)
        .map_err(|_| io::Error::other("the file has another format"))?;
    if snapshot.form != FORMAT {
        return Err(io::Error::other("the file has another format version"));
    }
    if snapshot.boot != boot_id()? {
        return Err(io::Error::other("the file is from an earlier boot"));
    }
    Ok(snapshot)
}

fn boot_id() -> io::Result<String> {
    let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id")?;
    Ok(text.trim().to_owned())
}

#[cfg(test)]
mod tests;
