//! Turns: which of the sets that want a fetch may have it now, and whether their client may at all.

use super::{
    ClientId, Command, InFlight, MAX_FLIGHTS, MAX_FLIGHTS_PER_CLIENT, ProxyLoginId, Scheduler,
    SetId,
};
use crate::schedule::{DENIED_RETRY, Jitter};
use domo_token_protocol::BootTime;

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
        let words = self.failure_of(denied).unwrap_or("refused").to_owned();
        let until = self.next_attempt_of(denied, now);
        for set in sets.into_iter().filter(|set| *set != denied) {
            if let Some(found) = self.sets.get_mut(&set) {
                found.schedule.await_confirmation(&words, until, now);
            }
            self.touch(set, now);
        }
    }

    /// The request of the set that tries a rejected client has failed otherwise: the others' callers are
    /// told when it is tried again.
    pub(super) fn follow_probe(&mut self, id: ClientId, probing: SetId, now: BootTime) {
        let client = self.clients.get(&id);
        let Some(client) = client.filter(|client| client.probe == Some(probing)) else {
            return;
        };
        let sets: Vec<SetId> = client.sets.values().copied().collect();
        let until = self.next_attempt_of(probing, now);
        for set in sets.into_iter().filter(|set| *set != probing) {
            if let Some(found) = self.sets.get_mut(&set) {
                found.schedule.move_block(until, now);
            }
            self.touch(set, now);
        }
    }

    /// Domo refuses the client: one of its sets is to ask on. Each time another one, so that if it
    /// was but one set that Domo meant, the others come to their tokens.
    pub(super) fn deny_client(&mut self, id: ClientId, denied: SetId, now: BootTime) {
        let Some(client) = self.clients.get(&id) else {
            return;
        };
        let sets: Vec<SetId> = client.sets.values().copied().collect();
        let asking = client.probe.filter(|probe| *probe != denied);
        let again = now + DENIED_RETRY;
        let probe = asking.unwrap_or_else(|| self.next_prober(&sets, denied, again));
        let until = match asking.and_then(|set| self.sets.get(&set)) {
            Some(asking) => asking.schedule.shown_attempt(now),
            None => Some(again),
        };
        let words = self.failure_of(denied).unwrap_or("refused").to_owned();
        for set in sets.into_iter().filter(|set| asking != Some(*set)) {
            if let Some(found) = self.sets.get_mut(&set) {
                let is_next = set == probe;
                found.schedule.block(&words, until, is_next, now);
            }
            self.touch(set, now);
        }
        if let Some(client) = self.clients.get_mut(&id) {
            client.probe = Some(probe);
            client.is_rejected = true;
        }
    }

    /// The set after `denied` in the client's order, of those that may ask by then.
    fn next_prober(&self, sets: &[SetId], denied: SetId, at: BootTime) -> SetId {
        let place = sets.iter().position(|set| *set == denied).unwrap_or(0);
        let (before, after) = sets.split_at(place);
        let in_turn = after.iter().skip(1).chain(before);
        let may = |set: &SetId| {
            let found = self.sets.get(set);
            found.is_some_and(|set| set.schedule.may_probe(at))
        };
        in_turn.copied().find(may).unwrap_or(denied)
    }

    /// New credentials in place of rejected ones: one set tries them, always the same, so that a
    /// client whose credentials change all the time, and are wrong, costs few requests.
    pub(super) fn start_trial(&mut self, id: ClientId) {
        let Some(client) = self.clients.get_mut(&id) else {
            return;
        };
        let mut sets = client.sets.values();
        client.trial = sets.next().copied();
        for set in sets {
            if let Some(found) = self.sets.get_mut(set) {
                found.schedule.await_trial(true);
            }
        }
    }

    /// The request of the set that tries new credentials has ended, or the set is gone: the others
    /// go on as its result lets them.
    pub(super) fn end_trial(&mut self, id: ClientId, set: SetId, now: BootTime) {
        let Some(client) = self.clients.get_mut(&id) else {
            return;
        };
        if client.trial.take_if(|trial| *trial == set).is_none() {
            return;
        }
        let sets: Vec<SetId> = client.sets.values().copied().collect();
        for set in sets {
            if let Some(found) = self.sets.get_mut(&set) {
                found.schedule.await_trial(false);
            }
            self.touch(set, now);
        }
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
            self.touch(set, now);
        }
    }

    /// Returns the proxy login that the request was sent with, and whether that was the login's trial.
    pub(super) fn end_request(&mut self, set: SetId) -> Option<(ProxyLoginId, bool)> {
        let login = self.in_flight.remove(&set)?.login?;
        self.release_login(login, set)
    }

    /// Uses the room there is, by turns of one request: whoever has much to ask, or hangs, keeps no
    /// other client waiting for longer than its turn.
    pub(super) fn fill(&mut self, client: ClientId, now: BootTime) {
        self.line_up(client);
        self.start_next(now);
    }

    /// Starts requests of the clients that wait for a turn.
    pub(super) fn start_next(&mut self, now: BootTime) {
        while self.in_flight.len() < MAX_FLIGHTS && !self.is_configuring {
            let Some(next) = self.ready_queue.pop_front() else {
                return;
            };
            if !self.passes_login(next, now) {
                continue;
            }
            let Some(client) = self.clients.get_mut(&next) else {
                continue;
            };
            client.in_ready_queue = false;
            if let Some(set) = client.queue.pop_front() {
                self.start(next, set, now);
            }
            self.line_up(next);
        }
    }

    /// A client that has something to ask, and may, waits for its turn.
    fn line_up(&mut self, id: ClientId) {
        let requests = self.in_flight.values();
        let count = requests.filter(|request| request.client == id).count();
        let Some(client) = self.clients.get_mut(&id) else {
            return;
        };
        let may_ask = !client.queue.is_empty() && count < MAX_FLIGHTS_PER_CLIENT;
        if may_ask && !std::mem::replace(&mut client.in_ready_queue, true) {
            self.ready_queue.push_back(id);
        }
    }

    fn start(&mut self, id: ClientId, set: SetId, now: BootTime) {
        let Some(found) = self.sets.get_mut(&set) else {
            return;
        };
        found.queued = false;
        // It may have been blocked, or begun by other means, while it was queued.
        if !found.schedule.wants_fetch() {
            return;
        }
        let jitter = Jitter {
            draw: self.rng.f64(),
            generation: self.next_generation,
        };
        self.next_generation = self.next_generation.wrapping_add(1);
        let fetch_id = found.schedule.start(jitter, now);
        let request = InFlight {
            client: id,
            fetch_id,
            login: self.use_login(id, set, now),
        };
        self.in_flight.insert(set, request);
        self.commands.push_back(Command::Fetch(set, fetch_id));
        self.set_timer(set);
    }
}
