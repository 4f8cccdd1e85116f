//! Tokens over a restart of the service: systemd holds them meanwhile, in sealed memory.
//!
//! What is handed over is JSON in a memfd that nobody can change any more. It is taken back only
//! within the same boot, whose clock the times are on, and for the same client name, scope set and
//! endpoint.

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
use domo_token_core::token::{Life, MAX_LIFETIME, Token};

/// The form of what is handed over; another one is dropped.
const FORM: u8 = 1;

/// How many times as long as a hand-over took there is none after it: thousands of tokens that come
/// in a burst go in a few, and a single one at once, so that a kill loses the last renewal at most.
const REST: u32 = 9;

#[derive(Serialize, Deserialize)]
struct Snapshot {
    form: u8,
    /// The kernel's name for this boot.
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

/// What an earlier process had handed over.
#[derive(Default)]
pub struct StoredTokens(Vec<Record>);

impl StoredTokens {
    /// Reads what systemd handed back. What is of no use is left out: of an earlier boot, of
    /// another form, open to changes.
    #[must_use]
    pub fn read(files: Vec<File>) -> Self {
        let pages = files.into_iter().filter_map(|file| match page(file) {
            Ok(page) => Some(page),
            Err(error) => {
                warn!("tokens of the last process can't be taken back: {error}");
                None
            }
        });
        // There are two if that process was killed between handing over and taking back.
        let newest = pages.max_by_key(|page| page.written);
        Self(newest.map(|page| page.tokens).unwrap_or_default())
    }

    /// The tokens that are valid.
    #[must_use]
    pub fn tokens(self, now: BootTime) -> Vec<StoredToken> {
        let valid = self.0.into_iter().filter_map(|record| record.held(now));
        valid.collect()
    }
}

impl Record {
    fn of(held: StoredToken) -> Self {
        let token = held.kept.token;
        let life = token.life();
        Self {
            client: held.client,
            origin: held.origin,
            scope: held.scope.as_str().to_owned(),
            granted: token.granted().as_str().to_owned(),
            text: TokenText::from(token.text().clone()),
            generation: life.generation,
            obtained: life.obtained,
            lifetime_ms: u64::try_from(life.lifetime.as_millis()).unwrap_or(u64::MAX),
            expires: life.expires,
            renew_at: held.kept.renew_at,
        }
    }

    fn held(self, now: BootTime) -> Option<StoredToken> {
        let life = Life {
            generation: self.generation,
            obtained: self.obtained,
            lifetime: Duration::from_millis(self.lifetime_ms).min(MAX_LIFETIME),
            expires: self.expires,
        };
        let lives = now < life.expires && life.obtained <= now && life.left(now) <= MAX_LIFETIME;
        let scope = ScopeSet::parse(&self.scope).ok()?;
        let granted = ScopeSet::parse(&self.granted).ok()?;
        let text: SecretString = self.text.into_secret();
        let token = lives.then(|| Token::new(&self.client, &granted, &text, life));
        Some(StoredToken {
            kept: TokenSnapshot {
                token: token?.ok()?,
                renew_at: self.renew_at,
            },
            client: self.client,
            origin: self.origin,
            scope,
        })
    }
}

/// Hands the tokens over anew whenever they change, and a last time when `stop` is cancelled.
pub async fn run<C: Clock>(broker: Broker<C>, clock: C, stop: CancellationToken) {
    let mut changed = broker.renewals();
    changed.mark_changed();
    // What was taken back is handed over anew.
    clear();
    let mut slot = Slot::A;
    let mut stopping = false;
    while !stopping {
        tokio::select! {
            _changed = changed.changed() => {}
            () = stop.cancelled() => {
                stopping = true;
                if !changed.has_changed().unwrap_or(false) {
                    return;
                }
            }
        }
        changed.mark_unchanged();
        let held = broker.held().unwrap_or_default();
        if held.is_empty() {
            clear();
            continue;
        }
        let written = clock.now();
        let handed_over = threads::run(move || hand_over(held, written, slot)).await;
        match handed_over.and_then(|handed_over| handed_over) {
            Ok(count) => debug!(count, "tokens are handed to systemd for a restart"),
            Err(error) => warn!("tokens can't be kept for a restart: {error}"),
        }
        slot = slot.other();
        let now = clock.now();
        let rested = now + now.saturating_since(written) * REST;
        tokio::select! {
            () = clock.sleep_until(rested) => {}
            () = stop.cancelled() => {}
        }
    }
}

/// Has systemd close what it holds.
pub fn clear() {
    systemd::forget(Slot::A);
    systemd::forget(Slot::B);
}

fn hand_over(held: Vec<StoredToken>, written: BootTime, slot: Slot) -> io::Result<usize> {
    let tokens: Vec<Record> = held.into_iter().map(Record::of).collect();
    let count = tokens.len();
    let page = Snapshot {
        form: FORM,
        boot: boot_id()?,
        written,
        tokens,
    };
    let mut text = Zeroizing::new(Vec::new());
    serde_json::to_writer(&mut *text, &page)?;
    systemd::keep(&sealed(&text)?, slot);
    Ok(count)
}

fn sealed(text: &[u8]) -> io::Result<File> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let mut file = File::from(memfd_create(c"domo-tokens", flags)?);
    file.write_all(text)?;
    fcntl_add_seals(&file, all_seals())?;
    Ok(file)
}

fn all_seals() -> SealFlags {
    SealFlags::SEAL | SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE
}

fn page(mut file: File) -> io::Result<Snapshot> {
    let seals = rustix::fs::fcntl_get_seals(&file)?;
    if !seals.contains(all_seals()) {
        return Err(io::Error::other("they are not sealed"));
    }
    let length = usize::try_from(file.metadata()?.len()).unwrap_or(0);
    let mut text = Zeroizing::new(Vec::with_capacity(length));
    file.rewind()?;
    file.read_to_end(&mut text)?;
    // serde's words may quote what it read.
    let page: Snapshot =
        serde_json::from_slice(&text).map_err(|_| io::Error::other("they are of another form"))?;
    if page.form != FORM {
        return Err(io::Error::other("they are of another version"));
    }
    if page.boot != boot_id()? {
        return Err(io::Error::other("they are of an earlier boot"));
    }
    Ok(page)
}

fn boot_id() -> io::Result<String> {
    let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id")?;
    Ok(text.trim().to_owned())
}

#[cfg(test)]
mod tests;
