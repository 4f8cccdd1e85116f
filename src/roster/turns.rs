//! Turns: which of the sets that want a fetch may have it now, and whether their client may at all.

use super::{ClientId, Command, MAX_FLIGHTS, MAX_FLIGHTS_PER_CLIENT, Roster, SetId};
use crate::clock::BootTime;
use crate::schedule::Chance;

impl Roster {
    /// Domo refuses the client: of all its sets one goes on asking.
    pub(super) fn deny_client(&mut self, id: ClientId, denied: SetId, now: BootTime) {
        let Some(client) = self.clients.get_mut(&id) else {
            return;
        };
        let prober = *client.prober.get_or_insert(denied);
        let others: Vec<SetId> = client
            .sets
            .values()
            .copied()
            .filter(|set| *set != prober)
            .collect();
        let words = self.failure_of(denied).unwrap_or("refused").to_owned();
        for set in others {
            if let Some(found) = self.sets.get_mut(&set) {
                found.schedule.block(&words, now);
            }
            self.touch(set, now);
        }
    }

    pub(super) fn accept_client(&mut self, id: ClientId, now: BootTime) {
        let Some(client) = self.clients.get_mut(&id) else {
            return;
        };
        if client.prober.take().is_none() {
            return;
        }
        let sets: Vec<SetId> = client.sets.values().copied().collect();
        for set in sets {
            if let Some(found) = self.sets.get_mut(&set) {
                found.schedule.unblock();
                found.schedule.handle_timeout(now);
            }
            self.touch(set, now);
        }
    }

    pub(super) fn end_flight(&mut self, set: SetId) {
        let Some(found) = self.sets.get_mut(&set) else {
            return;
        };
        if found.flight.take().is_none() {
            return;
        }
        self.in_flight -= 1;
        if let Some(client) = self.clients.get_mut(&found.client) {
            client.in_flight -= 1;
        }
    }

    /// Uses the room that a request's end has made, for its client and for those held back.
    pub(super) fn fill(&mut self, client: ClientId, now: BootTime) {
        self.start_next(client, now);
        while self.in_flight < MAX_FLIGHTS {
            let Some(next) = self.crowded.pop_front() else {
                return;
            };
            if let Some(client) = self.clients.get_mut(&next) {
                client.crowded = false;
            }
            self.start_next(next, now);
        }
    }

    /// Starts what the client has queued, as far as its bound and the bound for all allow.
    fn start_next(&mut self, id: ClientId, now: BootTime) {
        while let Some(client) = self.clients.get_mut(&id) {
            if client.queue.is_empty() || client.in_flight >= MAX_FLIGHTS_PER_CLIENT {
                return;
            }
            if self.in_flight >= MAX_FLIGHTS {
                if !std::mem::replace(&mut client.crowded, true) {
                    self.crowded.push_back(id);
                }
                return;
            }
            let Some(set) = client.queue.pop_front() else {
                return;
            };
            self.start(id, set, now);
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
        let chance = Chance {
            draw: self.rng.f64(),
            generation: self.next_generation,
        };
        self.next_generation = self.next_generation.wrapping_add(1);
        let round = found.schedule.start(chance, now);
        found.flight = Some(round);
        self.in_flight += 1;
        if let Some(client) = self.clients.get_mut(&id) {
            client.in_flight += 1;
        }
        self.commands.push_back(Command::Fetch(set, round));
        self.set_timer(set);
    }
}
