//! Waiting for what no event tells of.

use std::fmt::Debug;
use std::thread;
use std::time::Duration;

use domo_token_client::clock::boot_now;

use super::PATIENCE;

/// Looks again and again until it is found; what was seen instead is told when it takes too long.
#[track_caller]
pub(crate) fn until<T, E: Debug>(mut look: impl FnMut() -> Result<T, E>) -> T {
    let end = boot_now() + PATIENCE;
    loop {
        match look() {
            Ok(found) => return found,
            Err(seen) => assert!(boot_now() < end, "{seen:?}"),
        }
        pause();
    }
}

/// The rest between two looks.
#[expect(clippy::disallowed_methods, reason = "no event tells")]
pub(crate) fn pause() {
    thread::sleep(Duration::from_millis(5));
}
