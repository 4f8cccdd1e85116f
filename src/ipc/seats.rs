//! Room for callers: connections in all, of each user, those that watch, and those that read metrics.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::Peer;
use crate::config::{Deadlines, Limits};

/// Descriptors kept for renewal and everything else that isn't a caller.
const RESERVE: usize = 32;

/// Answers with metrics at once: each is held whole until its caller has read it, and with thousands
/// of scope sets it has megabytes.
const METRICS: usize = 8;

/// All the room there is.
#[derive(Debug)]
pub(super) struct Seats {
    limits: Limits,
    taken: Mutex<Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    all: usize,
    metrics: usize,
    /// By user.
    of_user: HashMap<Option<u32>, Share>,
}

#[derive(Debug, Default)]
struct Share {
    connections: usize,
    watchers: usize,
    metrics: usize,
}

/// One caller's room, given back when it is dropped.
#[derive(Debug)]
pub(super) struct Seat {
    seats: Arc<Seats>,
    user: Option<u32>,
    exempt: bool,
    watches: bool,
    reads_metrics: bool,
}

/// Fits the limits to what the system gives: so many descriptors.
#[must_use]
pub fn fit(limits: Limits, descriptors: usize) -> Limits {
    let connections = limits
        .connections
        .min(descriptors.saturating_sub(RESERVE))
        .max(1);
    Limits {
        connections,
        connections_per_user: limits.connections_per_user.min(connections),
        watchers_per_user: limits.watchers_per_user.min(connections),
        ..limits
    }
}

impl Seats {
    pub(super) fn new(limits: Limits) -> Arc<Self> {
        let taken = Mutex::default();
        Arc::new(Self { limits, taken })
    }

    /// A user may have no more than it leaves free: alone it gets half of all, and however many of
    /// them do their worst, the next one finds some room.
    ///
    /// # Errors
    ///
    /// In words for the caller, if there is no room.
    pub(super) fn take(self: &Arc<Self>, peer: &Peer) -> Result<Seat, String> {
        let exempt = peer.caller().privileged;
        let mut taken = self.taken();
        if taken.all >= self.limits.connections {
            let most = self.limits.connections;
            return Err(format!(
                "the broker has {most} connections, as many as it takes; try again"
            ));
        }
        let left = self.limits.connections - taken.all;
        let share = taken.of_user.entry(peer.uid).or_default();
        let has = share.connections;
        if !exempt && has >= self.limits.connections_per_user.min(left) {
            return Err(format!(
                "this user has {has} connections to the broker, as many as one may; close some"
            ));
        }
        share.connections += 1;
        taken.all += 1;
        Ok(Seat {
            seats: Arc::clone(self),
            user: peer.uid,
            exempt,
            watches: false,
            reads_metrics: false,
        })
    }

    fn taken(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Seat {
    /// How long its caller may take.
    pub(super) fn deadlines(&self) -> Deadlines {
        self.seats.limits.deadlines
    }

    /// # Errors
    ///
    /// In words for the caller, if its user watches as much as it may.
    pub(super) fn watch(&mut self) -> Result<(), String> {
        let mut taken = self.seats.taken();
        let share = taken.of_user.entry(self.user).or_default();
        let most = self.seats.limits.watchers_per_user;
        if !self.exempt && !self.watches && share.watchers >= most {
            return Err(format!(
                "this user has {most} connections that watch, as many as one may; close some"
            ));
        }
        if !self.watches {
            share.watchers += 1;
            self.watches = true;
        }
        Ok(())
    }

    /// Its caller goes on with other requests.
    pub(super) fn stop_watching(&mut self) {
        if std::mem::take(&mut self.watches) {
            let mut taken = self.seats.taken();
            taken.of_user.entry(self.user).or_default().watchers -= 1;
        }
    }

    /// Room for one answer with metrics, of which a user has no more than it leaves free, and all
    /// users leave one to root and our own.
    ///
    /// # Errors
    ///
    /// In words for the caller, if there is none.
    pub(super) fn read_metrics(&mut self) -> Result<(), String> {
        let mut taken = self.seats.taken();
        let left = METRICS - taken.metrics;
        let share = taken.of_user.entry(self.user).or_default();
        let is_room = left > 0 && (self.exempt || (left > 1 && share.metrics < left));
        if !is_room {
            return Err("the broker gives metrics to as many as it may; try again".to_owned());
        }
        share.metrics += 1;
        taken.metrics += 1;
        self.reads_metrics = true;
        Ok(())
    }

    /// Its caller has them.
    pub(super) fn have_metrics(&mut self) {
        if std::mem::take(&mut self.reads_metrics) {
            let mut taken = self.seats.taken();
            taken.of_user.entry(self.user).or_default().metrics -= 1;
            taken.metrics -= 1;
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.stop_watching();
        self.have_metrics();
        let mut taken = self.seats.taken();
        taken.all -= 1;
        let share = taken.of_user.entry(self.user).or_default();
        share.connections -= 1;
        if share.connections == 0 {
            taken.of_user.remove(&self.user);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits() -> Limits {
        Limits {
            connections: 8,
            connections_per_user: 2,
            watchers_per_user: 1,
            ..Limits::default()
        }
    }

    fn peer(uid: u32) -> Peer {
        Peer {
            uid: Some(uid),
            ..Peer::default()
        }
    }

    #[test]
    fn one_user_never_takes_anothers_room_and_all_is_given_back() {
        let seats = Seats::new(limits());
        let first = seats.take(&peer(1001)).unwrap();
        let _second = seats.take(&peer(1001)).unwrap();
        assert!(seats.take(&peer(1001)).unwrap_err().contains("this user"));
        let _other = seats.take(&peer(1002)).unwrap();
        drop(first);
        let _again = seats.take(&peer(1001)).unwrap();
    }

    #[test]
    fn however_many_users_do_their_worst_the_next_one_finds_room() {
        let seats = Seats::new(Limits {
            connections: 32,
            connections_per_user: 32,
            ..limits()
        });
        let mut all = Vec::new();
        let mut had = Vec::new();
        for user in 1001..1006 {
            let before = all.len();
            while let Ok(seat) = seats.take(&peer(user)) {
                all.push(seat);
            }
            had.push(all.len() - before);
        }
        assert_eq!(had, [16, 8, 4, 2, 1]);
        drop(seats.take(&peer(1006)).unwrap());
    }

    #[cfg(unix)]
    #[test]
    fn root_is_exempt_from_the_share_of_one_user() {
        let seats = Seats::new(limits());
        let taken: Vec<Seat> = (0..8).map(|_| seats.take(&peer(0)).unwrap()).collect();
        assert!(seats.take(&peer(0)).unwrap_err().contains("try again"));
        drop(taken);
        assert!(seats.taken.lock().unwrap().of_user.is_empty());
    }

    #[test]
    fn watchers_have_a_share_of_their_own() {
        let seats = Seats::new(limits());
        let mut first = seats.take(&peer(1001)).unwrap();
        let mut second = seats.take(&peer(1001)).unwrap();
        first.watch().unwrap();
        first.watch().unwrap();
        assert!(second.watch().is_err());
        drop(first);
        second.watch().unwrap();
        second.stop_watching();
        let mut third = seats.take(&peer(1001)).unwrap();
        third.watch().unwrap();
    }

    #[test]
    fn however_many_users_read_no_metrics_root_may_and_all_is_given_back() {
        let seats = Seats::new(Limits::default());
        let mut all = Vec::new();
        let mut had = Vec::new();
        for user in 1001..1005 {
            let before = all.len();
            loop {
                let mut seat = seats.take(&peer(user)).unwrap();
                if seat.read_metrics().is_err() {
                    break;
                }
                all.push(seat);
            }
            had.push(all.len() - before);
        }
        assert_eq!(had, [4, 2, 1, 0]);
        let mut next = seats.take(&peer(1006)).unwrap();
        assert!(next.read_metrics().unwrap_err().contains("try again"));
        let mut roots = [(); 2].map(|()| seats.take(&peer(0)).unwrap());
        roots[0].read_metrics().unwrap();
        assert!(roots[1].read_metrics().is_err(), "there are eight");
        all[0].have_metrics();
        assert!(next.read_metrics().is_err(), "it is root's");
        all[1].have_metrics();
        next.read_metrics().unwrap();
        drop((all, next, roots));
        assert_eq!(seats.taken().metrics, 0);
        assert!(seats.taken().of_user.is_empty());
    }

    #[test]
    fn limits_fit_the_descriptors_there_are() {
        let usual = Limits::default();
        assert_eq!(fit(usual, 1_000_000), usual);
        let few = fit(usual, 64);
        assert_eq!((few.connections, few.connections_per_user), (32, 32));
        assert_eq!(fit(usual, 8).connections, 1);
    }
}
