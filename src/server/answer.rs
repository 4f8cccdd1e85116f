//! Answers as bytes, and the one for whom there is no room.

use domo_token_protocol::frame::{self, FrameError, HELLO};
use domo_token_protocol::messages::{Refusal, RefusalKind, Response, VERSION};
use zeroize::Zeroizing;

use super::Stream;
use super::stream::write_final;

/// Tells a caller why there is no room for it.
pub(super) async fn reject(stream: Stream, cause: String) {
    if let Ok(bytes) = with_hello(&busy(cause)) {
        // It is going to be closed either way.
        let _told = write_final(stream, &bytes).await;
    }
}

/// An answer as the first of a connection.
pub(super) fn with_hello(response: &Response) -> Result<Zeroizing<Vec<u8>>, FrameError> {
    let frame = frame::encode(response)?;
    let mut bytes = Zeroizing::new(Vec::with_capacity(HELLO + frame.len()));
    bytes.extend_from_slice(&frame::hello(VERSION));
    bytes.extend_from_slice(&frame);
    Ok(bytes)
}

pub(super) fn busy(cause: String) -> Response {
    Response::Refusal(Refusal::new(RefusalKind::Busy, cause))
}
