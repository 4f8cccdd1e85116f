//! Runs blocking jobs, each on its own thread.
//!
//! tokio's `spawn_blocking` panics if the system cannot start a thread; the daemon can do without any of
//! these jobs for a while.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use tokio::sync::oneshot;

/// Runs a job that blocks, and returns its result. The job continues if its future is dropped.
///
/// # Errors
///
/// If no thread can be started, or the job panicked.
pub async fn run<T: Send + 'static>(job: impl FnOnce() -> T + Send + 'static) -> io::Result<T> {
    let (sender, result) = oneshot::channel();
    let job = move || {
        let _ = sender.send(job());
    };
    let started = thread::Builder::new().name("job".to_owned()).spawn(job);
    started
        .map_err(|error| io::Error::new(error.kind(), format!("cannot start a thread: {error}")))?;
    result
        .await
        .map_err(|_| io::Error::other("stopped because of a bug; please report it"))
}

/// Runs a job that blocks on `state`, and returns both, or `state` alone where no thread can be started.
///
/// # Errors
///
/// As [`run`]; a job that panicked has lost `state`.
pub async fn run_with<S: Send + 'static, T: Send + 'static>(
    state: S,
    job: impl FnOnce(&mut S) -> T + Send + 'static,
) -> (Option<S>, io::Result<T>) {
    // The thread takes the state out, so that it stays here if no thread starts.
    let slot = Arc::new(Mutex::new(Some(state)));
    let taken = Arc::clone(&slot);
    let take = |slot: &Mutex<Option<S>>| slot.lock().unwrap_or_else(PoisonError::into_inner).take();
    let result = run(move || {
        let mut state = take(&taken)?;
        let result = job(&mut state);
        Some((state, result))
    });
    match result.await {
        Ok(Some((state, result))) => (Some(state), Ok(result)),
        Ok(None) => (
            None,
            Err(io::Error::other(
                "stopped because of a bug; please report it",
            )),
        ),
        Err(error) => (take(&slot), Err(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn job_that_panics_is_an_error_and_another_returns_its_result() {
        let error = run(|| panic!("a planted bug")).await.unwrap_err();
        assert!(error.to_string().contains("bug"), "{error}");
        assert_eq!(run(|| 7).await.unwrap(), 7);
    }

    #[tokio::test]
    async fn state_is_returned_with_the_result_and_lost_on_panic() {
        let push = |state: &mut Vec<u8>| {
            state.push(1);
            state.len()
        };
        let (state, length) = run_with(vec![0], push).await;
        assert_eq!((state, length.unwrap()), (Some(vec![0, 1]), 2));
        let (state, result) = run_with(0, |_: &mut i32| panic!("a planted bug")).await;
        assert_eq!(state, None);
        result.unwrap_err();
    }
}
