//! A client that Domo rejects: one scope set confirms the first rejection, then one at a time tries the client again,
//! and one tries new credentials before the others do.

use domo_token_protocol::BootTime;

use super::{ClientId, Scheduler, SetId};
use crate::schedule::DENIED_RETRY;

impl Scheduler {
    /// After the first rejection of the client since a success: the rejected scope set confirms it, unless another one
    /// is about to, and the client's others start no request until then.
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

    /// After a failure of another kind of the scope set that tries the client: the others' blocks get the time of its
    /// next attempt.
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

    /// After a confirmed rejection of the client: one of its scope sets tries it again, each time another one, so that
    /// the others get their tokens if Domo rejects only one scope set.
    pub(super) fn reject_client(&mut self, id: ClientId, denied: SetId, now: BootTime) {
        let Some(client) = self.clients.get(&id) else {
            return;
        };
        let sets: Vec<SetId> = client.sets.values().copied().collect();
        let probing = client.probe.filter(|probe| *probe != denied);
        let own = self.sets.get(&denied);
        let own = own.and_then(|found| found.schedule.next_attempt());
        let retry_at = own.unwrap_or(now + DENIED_RETRY);
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

    /// Returns the scope set after `denied` in the client's order, of those that may try the client by then.
    fn next_probe(&self, sets: &[SetId], denied: SetId, at: BootTime) -> SetId {
        let position = sets.iter().position(|set| *set == denied).unwrap_or(0);
        let (before, after) = sets.split_at(position);
        let in_turn = after.iter().skip(1).chain(before);
        let may = |set: &SetId| {
            let found = self.sets.get(set);
            found.is_some_and(|set| set.schedule.may_probe(at))
        };
        in_turn.copied().find(may).unwrap_or(denied)
    }

    /// Ends the client's rejection after a success.
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

    /// Has one scope set try new credentials that replace rejected ones, always the same one, so that wrong credentials
    /// that change all the time cost few requests.
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

    /// If `set` was to try new credentials, and its request has ended or it is removed: lets the others continue.
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
