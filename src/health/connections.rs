//! The open connections, and which one is closed for the next.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::task::AbortHandle;

/// Open connections, the oldest first.
#[derive(Debug, Default)]
pub(super) struct Connections(VecDeque<Connection>);

#[derive(Debug)]
struct Connection {
    task: AbortHandle,
    has_request: Arc<AtomicBool>,
}

impl Connections {
    /// Adds a connection. If there are `max` already, the oldest that has sent no request is closed; if these
    /// are fewer than half, the oldest of the others, which read their answers slowly.
    pub(super) fn add(&mut self, task: AbortHandle, has_request: Arc<AtomicBool>, max: usize) {
        self.0.retain(|open| !open.task.is_finished());
        if self.0.len() >= max {
            let is_idle = |open: &Connection| !open.has_request.load(Ordering::Relaxed);
            let idle = self.0.iter().filter(|open| is_idle(open)).count();
            let from_idle = 2 * idle >= max;
            let oldest = self.0.iter().position(|open| is_idle(open) == from_idle);
            if let Some(oldest) = oldest.and_then(|oldest| self.0.remove(oldest)) {
                oldest.task.abort();
            }
        }
        self.0.push_back(Connection { task, has_request });
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use tokio::task::JoinSet;

    use super::*;

    /// Adds connections that have sent a request or not, and returns which of them are open.
    async fn open_of(added: &[bool]) -> Vec<usize> {
        let mut connections = Connections::default();
        let mut tasks = JoinSet::new();
        let mut ids = Vec::new();
        for has_request in added {
            let has_request = Arc::new(AtomicBool::new(*has_request));
            let task = tasks.spawn(pending::<()>());
            ids.push(task.id());
            connections.add(task, has_request, 4);
        }
        let open: Vec<_> = connections.0.iter().map(|open| open.task.id()).collect();
        for _ in 4..added.len() {
            let closed = tasks.join_next_with_id().await.unwrap().unwrap_err().id();
            assert!(!open.contains(&closed));
        }
        let numbers = (0..ids.len()).filter(|number| open.contains(&ids[*number]));
        numbers.collect()
    }

    #[tokio::test]
    async fn oldest_idle_connection_makes_room() {
        assert_eq!(open_of(&[false; 6]).await, [2, 3, 4, 5]);
        assert_eq!(
            open_of(&[true, false, true, false, false]).await,
            [0, 2, 3, 4]
        );
    }

    #[tokio::test]
    async fn oldest_slow_reader_makes_room_when_few_connections_are_idle() {
        assert_eq!(open_of(&[true; 6]).await, [2, 3, 4, 5]);
        assert_eq!(
            open_of(&[false, true, true, true, true]).await,
            [0, 2, 3, 4]
        );
    }

    #[tokio::test]
    async fn connection_that_has_ended_takes_no_room() {
        let mut connections = Connections::default();
        let mut tasks = JoinSet::new();
        for _ in 0..8 {
            connections.add(tasks.spawn(async {}), Arc::default(), 4);
            tasks.join_next().await.unwrap().unwrap();
        }
        assert_eq!(connections.0.len(), 1);
    }
}
