//! The time limits of the gateway. Tests have shorter ones.

use std::time::Duration;

#[derive(Clone, Copy, Debug)]
pub(super) struct Timing {
    /// For the first head of a connection, TLS included.
    pub(super) first_head: Duration,
    /// For each further head, the wait for it included.
    pub(super) next_head: Duration,
    /// How long a body waits until the server agrees to receive it.
    pub(super) permission: Duration,
    /// For a token of the broker.
    pub(super) token: Duration,
    /// From the end of a request to the first byte of its response.
    pub(super) response: Duration,
    /// For which no byte of a body moves.
    pub(super) idle: Duration,
    /// For the body of a response that may have to be passed after a renewal.
    pub(super) rejection: Duration,
    /// How long the rest of a request is read, and what is read discarded, after a response that ends the connection.
    pub(super) linger: Duration,
    /// For which no byte arrives during that time.
    pub(super) linger_idle: Duration,
    /// For requests in flight when the gateway stops.
    pub(super) stop: Duration,
    /// For the next request on an idle connection when the gateway stops. An application may be sending it just then.
    pub(super) stop_idle: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        let seconds = Duration::from_secs;
        Self {
            first_head: seconds(5),
            next_head: seconds(30),
            permission: seconds(1),
            token: seconds(35),
            response: seconds(600),
            idle: seconds(300),
            rejection: seconds(1),
            linger: seconds(30),
            linger_idle: seconds(5),
            stop: seconds(30),
            stop_idle: seconds(1),
        }
    }
}
