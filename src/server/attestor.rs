//! Identifies peers: what the kernel reports, the user database, and the systemd unit.

use std::sync::Arc;

use super::identities::{Found, Identities};
use super::peer::{Peer, Unit};
use super::stream::CallerStream;
use domo_token_core::access_policy::Caller;

/// Identifies callers. Sessions share it.
#[derive(Clone)]
pub(super) struct Attestor(Arc<Identities>);

/// A caller as it was identified for one request.
pub(super) struct Attested {
    pub(super) caller: Caller,
    /// Whether its unit cannot be known on this connection: another process may have its process id.
    pub(super) is_ambiguous: bool,
}

impl Attestor {
    pub(super) fn new() -> Self {
        Self(Identities::new())
    }

    /// Returns the peer as a caller; `None` if its user must be looked up first.
    pub(super) fn caller(&self, peer: &Peer, stream: &CallerStream) -> Option<Attested> {
        let found = match peer.uid {
            Some(uid) => self.0.known(uid, peer.gid)?,
            None => Found::nothing(),
        };
        Some(Attested::new(peer, &found, stream))
    }

    /// Looks the peer's user up in the user database.
    pub(super) async fn look_up(&self, peer: Peer) -> Found {
        match peer.uid {
            Some(uid) => self.0.get(uid, peer.gid).await,
            None => Found::nothing(),
        }
    }
}

impl Attested {
    /// Returns the peer as a caller by its ids alone.
    pub(super) fn by_ids(peer: &Peer) -> Self {
        Self {
            caller: peer.caller(),
            is_ambiguous: false,
        }
    }

    /// Returns the peer as a caller with the user that was found and the unit that it runs in now.
    pub(super) fn new(peer: &Peer, found: &Found, stream: &CallerStream) -> Self {
        let mut caller = peer.caller();
        caller.identity = (*found.identity).clone();
        caller.lacks_groups = !found.is_complete;
        let unit = peer.unit(stream);
        let is_ambiguous = unit == Unit::Ambiguous;
        if let Unit::Named(name) = unit {
            caller.unit = Some(name);
        }
        Self {
            caller,
            is_ambiguous,
        }
    }
}
