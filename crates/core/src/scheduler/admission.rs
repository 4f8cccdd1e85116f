//! Admission: which of the due requests start now: a limited number, round-robin over the clients.

use domo_token_protocol::BootTime;

use super::{ClientId, Command, InFlight, ProxyLoginId, Scheduler, SetId};
use crate::schedule::Jitter;

/// Maximum number of token requests in flight for one client.
pub const MAX_IN_FLIGHT_PER_CLIENT: usize = 3;

/// Maximum number of token requests in flight.
pub const MAX_IN_FLIGHT: usize = 64;

impl Scheduler {
    /// Starts due requests up to the limits, one per client in turn: a client with many requests, or with requests that
    /// hang, delays another one by no more than one turn.
    pub(super) fn admit(&mut self, client: ClientId, now: BootTime) {
        self.enqueue_client(client);
        self.start_ready(now);
    }

    /// Starts requests of the clients in the ready queue.
    pub(super) fn start_ready(&mut self, now: BootTime) {
        while self.in_flight.len() < MAX_IN_FLIGHT && !self.is_configuring {
            let Some(next) = self.ready_queue.pop_front() else {
                return;
            };
            if !self.is_login_ready(next, now) {
                continue;
            }
            let Some(client) = self.clients.get_mut(&next) else {
                continue;
            };
            client.in_ready_queue = false;
            if let Some(set) = client.queue.pop_front() {
                self.start(next, set, now);
            }
            self.enqueue_client(next);
        }
    }

    /// Adds a client with a due request to the ready queue, unless its limit is reached.
    fn enqueue_client(&mut self, id: ClientId) {
        let requests = self.in_flight.values();
        let count = requests.filter(|request| request.client == id).count();
        let Some(client) = self.clients.get_mut(&id) else {
            return;
        };
        let may_start = !client.queue.is_empty() && count < MAX_IN_FLIGHT_PER_CLIENT;
        if may_start && !std::mem::replace(&mut client.in_ready_queue, true) {
            self.ready_queue.push_back(id);
        }
    }

    fn start(&mut self, id: ClientId, set: SetId, now: BootTime) {
        let Some(found) = self.sets.get_mut(&set) else {
            return;
        };
        found.queued = false;
        // The scope set may have been blocked while it was queued.
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

    /// Removes the scope set's request in flight. Returns the proxy login that it was sent with, if its tunnel was not
    /// open yet, and whether it tried that login.
    pub(super) fn end_request(&mut self, set: SetId) -> Option<(ProxyLoginId, bool)> {
        let login = self.in_flight.remove(&set)?.login?;
        self.release_login(login, set)
    }
}
