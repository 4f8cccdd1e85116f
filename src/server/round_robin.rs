//! Serves users round-robin: limits how many requests of one user are answered before those of others,
//! independent of its number of connections.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use tokio::task::yield_now;

/// Requests of one user in a round.
const REQUESTS: u32 = 32;

/// Counts the rounds. A new round begins when a session continues after it has yielded to all others.
#[derive(Debug, Default)]
pub(super) struct Rounds(AtomicU64);

/// How many requests of a user were answered in its last round.
#[derive(Debug, Default)]
pub(super) struct UserRound {
    round: AtomicU64,
    requests: AtomicU32,
}

impl Rounds {
    /// Waits until another request of that user may be answered, usually not at all.
    pub(super) async fn wait(&self, user: &UserRound) {
        while let Err(round) = self.take(user) {
            yield_now().await;
            self.end(round);
        }
    }

    /// Takes one of the user's requests of this round.
    ///
    /// # Errors
    ///
    /// The current round, if none are left.
    fn take(&self, user: &UserRound) -> Result<(), u64> {
        let round = self.0.load(Ordering::Relaxed);
        if user.round.swap(round, Ordering::Relaxed) != round {
            user.requests.store(0, Ordering::Relaxed);
        }
        if user.requests.fetch_add(1, Ordering::Relaxed) < REQUESTS {
            return Ok(());
        }
        user.requests.store(REQUESTS, Ordering::Relaxed);
        Err(round)
    }

    /// Ends that round, unless another session has.
    fn end(&self, round: u64) {
        let next = round.wrapping_add(1);
        let _ = self
            .0
            .compare_exchange(round, next, Ordering::Relaxed, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    async fn request_three_times(
        name: &'static str,
        rounds: Arc<Rounds>,
        user: Arc<UserRound>,
        served: Arc<Mutex<Vec<&'static str>>>,
    ) {
        for _ in 0..3 {
            rounds.wait(&user).await;
            served.lock().unwrap().push(name);
            yield_now().await;
        }
    }

    #[tokio::test]
    async fn user_with_a_thousand_connections_holds_another_user_up_for_two_rounds_at_most() {
        let rounds = Arc::new(Rounds::default());
        let served = Arc::new(Mutex::new(Vec::new()));
        let (greedy, other) = (
            Arc::new(UserRound::default()),
            Arc::new(UserRound::default()),
        );
        let session = |name, user: &Arc<UserRound>| {
            let (rounds, user, served) =
                (Arc::clone(&rounds), Arc::clone(user), Arc::clone(&served));
            tokio::spawn(request_three_times(name, rounds, user, served))
        };
        let mut sessions: Vec<_> = (0..1000).map(|_| session("greedy", &greedy)).collect();
        sessions.push(session("other", &other));
        for session in sessions {
            session.await.unwrap();
        }
        let served = served.lock().unwrap();
        let others = served
            .iter()
            .enumerate()
            .filter(|(_, name)| **name == "other");
        let others: Vec<usize> = others.map(|(at, _)| at).collect();
        let most = usize::try_from(REQUESTS).unwrap();
        let mut last = 0;
        for at in &others {
            assert!(at - last <= 2 * most + 1, "{others:?}");
            last = *at;
        }
        assert_eq!(others.len(), 3);
        assert_eq!(served.len(), 3003, "all are served in the end");
    }

    #[test]
    fn requests_of_a_user_are_served_again_in_the_next_round() {
        let (rounds, user) = (Rounds::default(), UserRound::default());
        for round in 0..3 {
            for _ in 0..REQUESTS {
                assert_eq!(rounds.take(&user), Ok(()));
            }
            assert_eq!(rounds.take(&user), Err(round));
            assert_eq!(rounds.take(&user), Err(round));
            rounds.end(round);
            rounds.end(round);
        }
    }
}
