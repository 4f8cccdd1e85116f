//! Happy eyeballs: connects to the first of several addresses that answers (RFC 8305).

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::sleep;

/// The delay after which the next address is tried concurrently (RFC 8305 §5).
pub(super) const NEXT_ATTEMPT: Duration = Duration::from_millis(250);

/// Connects to one of `addresses`, and cancels the other attempts.
///
/// # Errors
///
/// The most specific of the errors of all addresses.
pub(super) async fn connect(addresses: Vec<SocketAddr>) -> io::Result<TcpStream> {
    let mut waiting = alternating(addresses);
    let mut attempts = JoinSet::new();
    let mut failure = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    loop {
        let next = waiting.pop_front();
        let is_last = next.is_none();
        match next {
            Some(address) => {
                attempts.spawn(TcpStream::connect(address));
            }
            None if attempts.is_empty() => return Err(failure),
            None => {}
        }
        tokio::select! {
            // The set is not empty.
            Some(ended) = attempts.join_next() => {
                match ended.unwrap_or_else(|panicked| Err(panicked.into())) {
                    Ok(stream) => return Ok(stream),
                    Err(error) => failure = more_specific(failure, error),
                }
            }
            () = sleep(NEXT_ATTEMPT), if !is_last => {}
        }
    }
}

/// Returns the addresses in the system's order, but with the two families alternating.
fn alternating(addresses: Vec<SocketAddr>) -> VecDeque<SocketAddr> {
    let first_is_v6 = addresses.first().is_some_and(SocketAddr::is_ipv6);
    let (first, second): (Vec<_>, Vec<_>) = addresses
        .into_iter()
        .partition(|address| address.is_ipv6() == first_is_v6);
    let mut second = second.into_iter();
    let mut ordered = VecDeque::new();
    for address in first {
        ordered.push_back(address);
        ordered.extend(second.next());
    }
    ordered.extend(second);
    ordered
}

/// Returns the more specific error. That a host without IPv6 cannot reach such an address is not the server's fault.
fn more_specific(before: io::Error, error: io::Error) -> io::Error {
    let is_general = |error: &io::Error| {
        matches!(
            error.kind(),
            io::ErrorKind::NotFound
                | io::ErrorKind::NetworkUnreachable
                | io::ErrorKind::AddrNotAvailable
        )
    };
    if is_general(&before) || !is_general(&error) {
        error
    } else {
        before
    }
}

#[cfg(test)]
#[cfg(unix)]
mod tests {
    use std::net::TcpListener;

    use rustix::net::{AddressFamily, SocketType, bind, getsockname, socket};
    use tokio::time::{Duration, timeout};

    use super::*;

    fn addresses(list: &[&str]) -> Vec<SocketAddr> {
        list.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn families_alternate_in_the_systems_order() {
        let found = addresses(&["[::1]:1", "[::2]:1", "[::3]:1", "10.0.0.1:1", "10.0.0.2:1"]);
        let ordered = addresses(&["[::1]:1", "10.0.0.1:1", "[::2]:1", "10.0.0.2:1", "[::3]:1"]);
        assert_eq!(alternating(found), ordered);
        let found = addresses(&["10.0.0.1:1", "[::1]:1", "[::2]:1"]);
        assert_eq!(alternating(found.clone()), found);
        assert!(alternating(Vec::new()).is_empty());
    }

    /// Returns an address whose backlog is full, so that it neither accepts nor refuses.
    fn silent() -> (SocketAddr, TcpListener, Vec<std::net::TcpStream>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        rustix::net::listen(&listener, 1).unwrap();
        let address = listener.local_addr().unwrap();
        let wait = Duration::from_millis(100);
        let connect = || std::net::TcpStream::connect_timeout(&address, wait).ok();
        let taken = std::iter::from_fn(connect).take(100).collect();
        (address, listener, taken)
    }

    #[tokio::test]
    async fn silent_or_closed_addresses_only_delay_the_one_that_answers() {
        let (silent, _full, _taken) = silent();
        let closed = socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
        bind(&closed, &SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        let closed = SocketAddr::try_from(getsockname(&closed).unwrap()).unwrap();
        let server = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = server.local_addr().unwrap();
        let all = vec![silent, closed, silent, silent, closed, address];
        let connected = timeout(Duration::from_secs(5), connect(all)).await.unwrap();
        assert_eq!(connected.unwrap().peer_addr().unwrap(), address);
        let waiting = timeout(Duration::from_millis(50), connect(vec![silent])).await;
        assert!(waiting.is_err());
    }

    #[tokio::test]
    async fn most_specific_of_several_failures_is_returned() {
        let server = TcpListener::bind("127.0.0.1:0").unwrap();
        let closed = server.local_addr().unwrap();
        drop(server);
        let unreachable = || io::Error::from(io::ErrorKind::NetworkUnreachable);
        let refused = connect(vec![closed]).await.unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
        let kept = more_specific(unreachable(), refused);
        let kept = more_specific(kept, unreachable());
        assert_eq!(kept.kind(), io::ErrorKind::ConnectionRefused);
        let none = connect(Vec::new()).await.unwrap_err();
        assert_eq!(none.to_string(), "the name has no address");
    }
}
