//! Looks up host names.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs};

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use tokio::sync::Semaphore;

use crate::threads;

/// Lookups at once. One that hangs keeps its thread for longer than its request waits.
const MAX_LOOKUPS: usize = 16;

static LOOKUPS: Semaphore = Semaphore::const_new(MAX_LOOKUPS);

/// Asks the system, on a thread for each lookup. The HTTP client's own resolver panics where no thread
/// can be started.
pub(super) struct Resolver;

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move { Ok(look_up(name).await?) })
    }
}

async fn look_up(name: Name) -> io::Result<Addrs> {
    let permit = LOOKUPS.acquire().await.map_err(io::Error::other)?;
    let job = move || {
        // The HTTP client puts the URL's port in place of 0.
        let found = (name.as_str(), 0).to_socket_addrs();
        drop(permit);
        found.map(Iterator::collect)
    };
    let found: Vec<SocketAddr> = threads::run(job).await??;
    Ok(Box::new(found.into_iter()))
}
