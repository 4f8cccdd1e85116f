#![expect(clippy::unwrap_used, reason = "in a test, what fails says so")]

use std::io::Read;
use std::os::unix::net::UnixStream;

use super::super::connection_limits::ConnectionLimits;
use super::*;
use crate::config::Limits;
use crate::platform::clock::BootTime;

/// Returns a session that waits for a token and then loses its connection to another user, and what its
/// caller has received in the end. With `answered` it is answered first.
async fn received(answered: bool) -> String {
    let limits = Limits {
        connections: 8,
        connections_per_user: 8,
        ..Limits::default()
    };
    let limits = ConnectionLimits::new(limits);
    let peer = |uid| Peer {
        uid: Some(uid),
        ..Peer::default()
    };
    let take = |uid| limits.acquire(&peer(uid), BootTime::default()).unwrap();
    let permit = take(1001);
    let (stream, mut caller) = UnixStream::pair().unwrap();
    stream.set_nonblocking(true).unwrap();
    let connection = Connection {
        stream,
        peer: peer(1001),
        permit,
        accepted: BootTime::default(),
    };
    let shared = Arc::new(Shared {
        attestor: Attestor::new(),
        socket: PathBuf::new(),
        http: true,
    });
    let session = Session::new(connection, shared);
    let mut session = session.unwrap();
    session.awaits_token = true;
    if answered {
        let answer = busy("the answer".to_owned());
        session.answer(answer).await.unwrap();
    }
    let _same_user = [(); 6].map(|()| take(1001));
    let _others = [(); 2].map(|()| take(1002));
    assert!(session.permit.is_replaced());
    drop(session);
    let mut received = Vec::new();
    caller.read_to_end(&mut received).unwrap();
    String::from_utf8_lossy(&received).into_owned()
}

#[tokio::test]
async fn replaced_caller_that_waits_for_a_token_receives_one_answer() {
    let waiting = received(false).await;
    assert!(waiting.contains("to admit another user"), "{waiting}");
    let answered = received(true).await;
    assert!(answered.contains("the answer"), "{answered}");
    assert!(!answered.contains("to admit another user"), "{answered}");
}
