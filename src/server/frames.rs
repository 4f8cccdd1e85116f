//! The adapter for frames: answers of the API as messages of the protocol.

use domo_token_protocol::messages::{Refusal, RefusalKind, Response};

use crate::api::StatusPage;

/// The most of the metrics text that goes into one frame, in bytes.
const MAX_METRICS_PIECE: usize = 32 * 1024;

/// Returns a refusal after which the caller may try again.
pub(super) fn busy(cause: String) -> Response {
    Response::Refusal(Refusal::new(RefusalKind::Busy, cause))
}

/// Returns the messages of one page of a status. [`Response::End`] follows the last page.
pub(super) fn status(page: StatusPage) -> impl Iterator<Item = Response> {
    let broker = page.broker.map(Response::Broker);
    let scopes = page.scopes.into_iter().map(Response::Scope);
    broker.into_iter().chain(scopes)
}

/// Returns the messages of a metrics text, cut between lines. [`Response::End`] follows the last one.
pub(super) fn metrics(text: &str) -> impl Iterator<Item = Response> {
    let mut lines = text.split_inclusive('\n').peekable();
    std::iter::from_fn(move || {
        let mut piece = lines.next()?.to_owned();
        while let Some(line) = lines.next_if(|line| piece.len() + line.len() <= MAX_METRICS_PIECE) {
            piece.push_str(line);
        }
        Some(Response::Metrics(piece))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_are_cut_between_lines_and_complete() {
        for count in [0, 1, 999, 10_000] {
            let text = "metric 1\n".repeat(count);
            let mut all = String::new();
            for piece in metrics(&text) {
                let Response::Metrics(piece) = piece else {
                    panic!("not metrics");
                };
                assert!(piece.len() <= MAX_METRICS_PIECE && piece.ends_with('\n'));
                all.push_str(&piece);
            }
            assert_eq!(all, text);
        }
    }
}
