//! A client that Domo rejects: one scope set confirms the first rejection, then one at a time tries the client again,
//! and one tries new credentials before the others do.

use domo_token_protocol::BootTime;

use super::{ClientId, Scheduler, SetId};
use crate::schedule::DENIED_RETRY;

impl Scheduler {
    /// Domo refused the client for the first time since a success: this set confirms that, unless another
    /// one is about to, and nothing else is requested for the client until then.
    pub(super) fn await_confirmation(&mut self, id: ClientId, denied: SetId, now: BootTime) {
        let Some(client) = self.clients.get_mut(&id) else {
            return;
        };
        client.is_rejected = true;
        if client.probe.is_some_and(|probe| probe != denied) {
            return;
        }
        client.probe = Some(denied);
        let sets: Vec<SetId> = client.sets.values().copied().collect();
        let message = self.failure_message(denied).unwrap_or("refused").to_owned();
        let until = self.next_attempt(denied, now);
        for set in sets.into_iter().filter(|set| *set != denied) {
            if let Some(found) = self.sets.get_mut(&set) {
                found.schedule.await_confirmation(&message, until, now);
            }
            self.update(set, now);
        }
    }

    /// The request of the set that tries a rejected client has failed otherwise: the others' callers are
    /// told when it is tried again.
    pub(super) fn update_blocks(&mut self, id: ClientId, probing: SetId, now: BootTime) {
        let client = self.clients.get(&id);
        let Some(client) = client.filter(|client| client.probe == Some(probing)) else {
            return;
        };
        let sets: Vec<SetId> = client.sets.values().copied().collect();
        let until = self.next_attempt(probing, now);
        for set in sets.into_iter().filter(|set| *set != probing) {
            if let Some(found) = self.sets.get_mut(&set) {
                found.schedule.update_block(until, now);
            }
            self.update(set, now);
        }
    }

    /// Domo refuses the client: one of its sets is to ask on. Each time another one, so that if it
    /// was but one set that Domo meant, the others come to their tokens.
    pub(super) fn reject_client(&mut self, id: ClientId, denied: SetId, now: BootTime) {
        let Some(client) = self.clients.get(&id) else {
            return;
        };
        let sets: Vec<SetId> = client.sets.values().copied().collect();
        let probing = client.probe.filter(|probe| *probe != denied);
        let retry_at = now + DENIED_RETRY;
        let probe = probing.unwrap_or_else(|| self.next_probe(&sets, denied, retry_at));
        let until = match probing.and_then(|set| self.sets.get(&set)) {
            Some(found) => found.schedule.shown_next_attempt(now),
            None => Some(retry_at),
        };
        let message = self.failure_message(denied).unwrap_or("refused").to_owned();
        for set in sets.into_iter().filter(|set| probing != Some(*set)) {
            if let Some(found) = self.sets.get_mut(&set) {
                let is_next = set == probe;
                found.schedule.block(&message, until, is_next, now);
            }
            self.update(set, now);
        }
        if let Some(client) = self.clients.get_mut(&id) {
            client.probe = Some(probe);
            client.is_rejected = true;
        }
    }

    /// The set after `denied` in the client's order, of those that may ask by then.
    fn next_probe(&self, sets: &[SetId], denied: SetId, at: BootTime) -> SetId {
        let place = sets.iter().position(|set| *set == denied).unwrap_or(0);
        let (before, after) = sets.split_at(place);
        let in_turn = after.iter().skip(1).chain(before);
        let may = |set: &SetId| {
            let found = self.sets.get(set);
            found.is_some_and(|set| set.schedule.may_probe(at))
        };
        in_turn.copied().find(may).unwrap_or(denied)
    }

    pub(super) fn accept_client(&mut self, id: ClientId, now: BootTime) {
        let Some(client) = self.clients.get_mut(&id) else {
            return;
        };
        client.probe = None;
        if !std::mem::take(&mut client.is_rejected) {
            return;
        }
        let sets: Vec<SetId> = client.sets.values().copied().collect();
        for set in sets {
            if let Some(found) = self.sets.get_mut(&set) {
                found.schedule.unblock(now);
            }
            self.update(set, now);
        }
    }

    /// New credentials in place of rejected ones: one set tries them, always the same, so that a
    /// client whose credentials change all the time, and are wrong, costs few requests.
    pub(super) fn start_credential_check(&mut self, id: ClientId) {
        let Some(client) = self.clients.get_mut(&id) else {
            return;
        };
        let mut sets = client.sets.values();
        client.credential_check = sets.next().copied();
        for set in sets {
            if let Some(found) = self.sets.get_mut(set) {
                found.schedule.await_credential_check(true);
            }
        }
    }

    /// The request of the set that tries new credentials has ended, or the set is gone: the others
    /// go on as its result lets them.
    pub(super) fn end_credential_check(&mut self, id: ClientId, set: SetId, now: BootTime) {
        let Some(client) = self.clients.get_mut(&id) else {
            return;
        };
        if client
            .credential_check
            .take_if(|trial| *trial == set)
            .is_none()
        {
            return;
        }
        let sets: Vec<SetId> = client.sets.values().copied().collect();
        for set in sets {
            if let Some(found) = self.sets.get_mut(&set) {
                found.schedule.await_credential_check(false);
            }
            self.update(set, now);
        }
    }
}
