//! Stores a token or a note for the other hosts, after the callers of this one have their answer.

use std::sync::Arc;

use domo_token_core::fleet::Publication;
use ring::rand::{SecureRandom, SystemRandom};

use super::{Fleet, FleetKeys, Operation};
use crate::platform::clock::Clock;
use crate::source::fleet_monitor::Published;
use crate::store::{Store, StoreSession};

/// Starts to store `publication`. Nothing waits for it: if it fails or is cut off, another host sends one more request.
pub(super) fn start<K: Store, C: Clock>(
    publication: Publication,
    fleet: Arc<Fleet<K, C>>,
    keys: Arc<FleetKeys>,
    name: String,
    mut session: K::Session,
) {
    tokio::spawn(async move {
        let published = publish(&publication, &fleet, &keys, &name, &mut session).await;
        if matches!(publication, Publication::Token(_)) {
            fleet.monitor.published(published);
        }
    });
}

async fn publish<K: Store, C: Clock>(
    publication: &Publication,
    fleet: &Fleet<K, C>,
    keys: &FleetKeys,
    name: &str,
    session: &mut K::Session,
) -> Published {
    let look = match session.look().await {
        Ok(look) => look,
        Err(error) => {
            fleet.failed(Operation::Read, &error);
            return Published::Failed;
        }
    };
    fleet.succeeded(Operation::Read);
    let time = fleet.read_clocks(&look);
    let Some(salt) = salt() else {
        return Published::Failed;
    };
    let put = match publication {
        Publication::Token(token) => {
            let stored = look.token.and_then(|record| keys.open_token(name, &record));
            let Some((record, keep)) = token.record(stored.as_ref(), &time) else {
                return Published::Outlived;
            };
            let Ok(sealed) = keys.seal_token(name, &record, salt) else {
                return Published::Failed;
            };
            session.put_token(&sealed, keep).await
        }
        Publication::Note(report) => {
            let stored = look.note.and_then(|record| keys.open_note(name, &record));
            let Some((record, keep)) = report.note(stored.as_ref(), &time) else {
                return Published::Outlived;
            };
            let Ok(sealed) = keys.seal_note(name, &record, salt) else {
                return Published::Failed;
            };
            session.put_note(&sealed, keep).await
        }
    };
    match put {
        Ok(()) => {
            fleet.succeeded(Operation::Write);
            Published::Stored
        }
        Err(error) => {
            fleet.failed(Operation::Write, &error);
            Published::Failed
        }
    }
}

/// Returns the salt of a record: two records with the same one would be sealed with the same key.
fn salt() -> Option<[u8; 32]> {
    let mut salt = [0; 32];
    SystemRandom::new().fill(&mut salt).ok()?;
    Some(salt)
}
