//! Which protocol a caller speaks, by the first bytes that it sends.

use domo_token_protocol::greeting::{HELLO, hello_version};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Protocol {
    Frames,
    Http,
}

/// Returns the protocol of these first bytes: a hello, or the start of an HTTP method; `None` for anything else. A hello
/// begins with the letter D, as `DELETE` does.
pub(super) fn protocol(first: [u8; HELLO]) -> Option<Protocol> {
    if hello_version(first).is_ok() {
        return Some(Protocol::Frames);
    }
    let [method @ .., _] = first;
    method
        .iter()
        .all(u8::is_ascii_uppercase)
        .then_some(Protocol::Http)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hello_is_distinguished_from_methods_that_begin_with_its_letters() {
        assert_eq!(protocol(*b"DTK\x01"), Some(Protocol::Frames));
        assert_eq!(protocol(*b"DTK "), Some(Protocol::Frames));
        for method in [b"GET ", b"DELE", b"DTX ", b"DTKX", b"PRI ", b"AAA\0"] {
            let expected = if method.starts_with(b"DTK") {
                Protocol::Frames
            } else {
                Protocol::Http
            };
            assert_eq!(protocol(*method), Some(expected), "{method:?}");
        }
    }

    #[test]
    fn other_bytes_are_no_protocol() {
        for other in [
            b"get ",
            b"GE /",
            b"\x16\x03\x01\0",
            b"\0\0\0\0",
            b"dtk\x01",
            b"DT\x01K",
        ] {
            assert_eq!(protocol(*other), None, "{other:?}");
        }
    }
}
