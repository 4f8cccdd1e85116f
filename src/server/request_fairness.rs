//! How many requests of one user are answered before those of others have their turn, however many
//! connections it has.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use tokio::task::yield_now;

/// Requests of one user in a turn.
const REQUESTS: u32 = 32;

/// Counts the turns. One begins when a session goes on that had to let all others run first.
#[derive(Debug, Default)]
pub(super) struct Turns(AtomicU64);

/// What a user has had of the turn in which it was served last.
#[derive(Debug, Default)]
pub(super) struct UserUsage {
    turn: AtomicU64,
    requests: AtomicU32,
}

impl Turns {
    /// Waits until one more request of that user may be answered, which is nearly always at once.
    pub(super) async fn wait(&self, share: &UserUsage) {
        while let Err(turn) = self.take(share) {
            yield_now().await;
            self.end(turn);
        }
    }

    /// Takes one request of the user's share.
    ///
    /// # Errors
    ///
    /// The current turn, if nothing is left of the share.
    fn take(&self, share: &UserUsage) -> Result<(), u64> {
        let turn = self.0.load(Ordering::Relaxed);
        if share.turn.swap(turn, Ordering::Relaxed) != turn {
            share.requests.store(0, Ordering::Relaxed);
        }
        if share.requests.fetch_add(1, Ordering::Relaxed) < REQUESTS {
            return Ok(());
        }
        share.requests.store(REQUESTS, Ordering::Relaxed);
        Err(turn)
    }

    /// Ends that turn, if no other session has.
    fn end(&self, turn: u64) {
        let next = turn.wrapping_add(1);
        // It has.
        let _ended = self
            .0
            .compare_exchange(turn, next, Ordering::Relaxed, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    async fn ask_three_times(
        name: &'static str,
        turns: Arc<Turns>,
        share: Arc<UserUsage>,
        served: Arc<Mutex<Vec<&'static str>>>,
    ) {
        for _ in 0..3 {
            turns.wait(&share).await;
            served.lock().unwrap().push(name);
            yield_now().await;
        }
    }

    #[tokio::test]
    async fn user_with_a_thousand_connections_holds_another_user_up_for_two_shares_at_most() {
        let turns = Arc::new(Turns::default());
        let served = Arc::new(Mutex::new(Vec::new()));
        let (greedy, other) = (
            Arc::new(UserUsage::default()),
            Arc::new(UserUsage::default()),
        );
        let session = |name, share: &Arc<UserUsage>| {
            let (turns, share, served) =
                (Arc::clone(&turns), Arc::clone(share), Arc::clone(&served));
            tokio::spawn(ask_three_times(name, turns, share, served))
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
    fn share_is_whole_again_in_the_next_turn() {
        let (turns, share) = (Turns::default(), UserUsage::default());
        for turn in 0..3 {
            for _ in 0..REQUESTS {
                assert_eq!(turns.take(&share), Ok(()));
            }
            assert_eq!(turns.take(&share), Err(turn));
            assert_eq!(turns.take(&share), Err(turn));
            turns.end(turn);
            turns.end(turn);
        }
    }
}
