//! What fuzzers call: each takes any bytes, and panics where a promise is broken.
//!
//! Only there for `cargo fuzz` (`fuzz/`) and for the tests below, which replay what it has found
//! worth keeping.

#![allow(
    missing_docs,
    clippy::expect_used,
    clippy::missing_panics_doc,
    reason = "a panic is how a finding is told, and the names say it all"
)]

mod operations;

use std::fmt::Debug;
use std::path::Path;

use domo_token_protocol::duration;
use domo_token_protocol::frame;
use domo_token_protocol::greeting::{self, GREETING, Greeting, HELLO};
use domo_token_protocol::messages::{OLDEST_VERSION, Request, Response, VERSION};
use domo_token_protocol::scope::ScopeSet;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::config::Config;
use crate::gateway;
use crate::server;
use crate::source::{domo, sealing};
use crate::store::redis;
use domo_token_core::fetch_result::FetchError;

pub use operations::operations;

type Target = fn(&[u8]);

/// The targets, each with the name of its corpus.
pub const TARGETS: [(&str, Target); 14] = [
    ("frames", frames),
    ("config", config),
    ("answers", answers),
    ("retry_after", retry_after),
    ("processes", processes),
    ("durations", durations),
    ("operations", operations),
    ("heads", heads),
    ("sniff", sniff),
    ("fleet_record", fleet_record),
    ("gateway_head", gateway_head),
    ("gateway_chunked", gateway_chunked),
    ("local_token", local_token),
    ("resp", resp),
];

/// Frames and messages: what can be decoded comes back as it was.
pub fn frames(bytes: &[u8]) {
    if let Some(hello) = bytes.first_chunk::<HELLO>()
        && let Ok(version) = greeting::hello_version(*hello)
    {
        assert_eq!(&greeting::hello(version), hello);
    }
    if let Ok(Some(greeting)) = Greeting::decode(bytes) {
        let mut buffer = [0; GREETING];
        let again = greeting.encode(&mut buffer);
        assert_eq!(bytes.get(..greeting.length()), Some(again));
    }
    if let Ok(Some((body, used))) = frame::split(bytes) {
        assert!(used <= bytes.len(), "more bytes were used than there are");
        again::<Request>(body);
        again_in_each_version(body);
    }
    if let Ok(Some(request)) = frame::split_request(bytes) {
        assert_eq!(frame::split(bytes), Ok(Some(request)));
        assert!(request.0.len() <= frame::MAX_REQUEST);
    }
    again::<Request>(bytes);
    again_in_each_version(bytes);
}

fn again_in_each_version(body: &[u8]) {
    again::<Response>(body);
    for version in OLDEST_VERSION..=VERSION {
        let Ok(message) = Response::decode(body, version) else {
            continue;
        };
        let whole = message.clone().encode(version);
        let whole = whole.expect("what was decoded fits a frame");
        let (body, used) = frame::split(&whole).ok().flatten().expect("a whole frame");
        assert_eq!(used, whole.len());
        assert_eq!(Response::decode(body, version), Ok(message));
    }
}

fn again<T: Serialize + DeserializeOwned + PartialEq + Debug>(body: &[u8]) {
    let Ok(message) = frame::decode::<T>(body) else {
        return;
    };
    let whole = frame::encode(&message).expect("what was decoded fits a frame");
    let (body, used) = frame::split(&whole).ok().flatten().expect("a whole frame");
    assert_eq!(used, whole.len());
    assert_eq!(frame::decode::<T>(body).as_ref(), Ok(&message));
}

/// Parses config files: an error is one line for any content.
pub fn config(bytes: &[u8]) {
    let Ok(text) = str::from_utf8(bytes) else {
        return;
    };
    match Config::parse(text, Path::new("/etc/domo-token/config.toml")) {
        Ok(config) => assert!(!config.clients.is_empty(), "nothing to do is an error"),
        Err(error) => one_line(&error.to_string()),
    }
}

/// Token responses: a token fits its frame, and no words show the secret, whatever the header that
/// comes with them says.
pub fn answers(bytes: &[u8]) {
    let (status, body) = bytes.split_at(bytes.len().min(1));
    let status = status.first().copied().unwrap_or_default();
    answer(status, None, body);
    for (name, value) in [
        ("content-encoding", &b"gzip"[..]),
        ("content-encoding", b"deflate"),
        ("content-encoding", body),
        ("content-type", body),
        ("server", body),
        ("www-authenticate", body),
    ] {
        answer(status, Some((name, value)), body);
    }
}

fn answer(status: u8, header: Option<(&'static str, &[u8])>, body: &[u8]) {
    const SECRET: &str = "c4nary-secret";
    let asked = ScopeSet::parse("data user").expect("it is one");
    let error = match domo::fuzzing::answer(status, header, body, &asked, SECRET) {
        Ok(fetched) => {
            assert!(
                !fetched.lifetime.is_zero(),
                "a token that has expired on arrival"
            );
            assert!(asked.missing_from(&fetched.granted).is_empty());
            return;
        }
        Err(error) => error,
    };
    let (FetchError::Denied { message: words, .. }
    | FetchError::ProxyLogin { message: words }
    | FetchError::Transient { message: words, .. }) = error;
    one_line(&words);
    assert!(!words.contains(SECRET), "{words}");
}

/// `Retry-After`, with or without a `Date`, separated by a line break.
pub fn retry_after(bytes: &[u8]) {
    let mut parts = bytes.splitn(2, |byte| *byte == b'\n');
    let value = parts.next().unwrap_or_default();
    let _any = domo::fuzzing::retry_after(value, parts.next());
}

/// Parses what the kernel reports about a process, parts of which the process may have chosen.
pub fn processes(bytes: &[u8]) {
    let Ok(text) = str::from_utf8(bytes) else {
        return;
    };
    server::fuzzing::process(text);
}

/// Heads of HTTP requests: their end, their meaning and their route.
pub fn heads(bytes: &[u8]) {
    server::fuzzing::head(bytes);
}

/// Sessions of callers that send anything, in pieces whose lengths are the first two bytes.
pub fn sniff(bytes: &[u8]) {
    server::fuzzing::session(bytes);
}

/// Records of a fleet: as they are in the store, and what is sealed in them.
pub fn fleet_record(bytes: &[u8]) {
    sealing::fuzzing::record(bytes);
}

/// Heads of requests to the gateway, with their path and login.
pub fn gateway_head(bytes: &[u8]) {
    gateway::head::fuzzing::head(bytes);
}

/// Bodies in chunks, in pieces whose length is the first byte.
pub fn gateway_chunked(bytes: &[u8]) {
    gateway::chunked::fuzzing::body(bytes);
}

/// Local tokens that were not issued.
pub fn local_token(bytes: &[u8]) {
    gateway::local_token::fuzzing::token(bytes);
}

/// Answers in the Redis protocol, in pieces of any length.
pub fn resp(bytes: &[u8]) {
    redis::fuzzing::answers(bytes);
}

/// Durations as people write them.
pub fn durations(bytes: &[u8]) {
    let Ok(text) = str::from_utf8(bytes) else {
        return;
    };
    let Some(span) = duration::parse(text) else {
        return;
    };
    let plain = format!("{}s", span.as_secs());
    assert_eq!(duration::parse(&plain), Some(span), "{text:?}");
    assert!(!duration::show(span).is_empty());
}

fn one_line(words: &str) {
    let broken = words.contains(char::is_control);
    assert!(!broken && !words.is_empty(), "{words:?}");
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn corpora_of_the_fuzz_targets_pass() {
        let corpora = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus");
        for (name, target) in TARGETS {
            let files = fs::read_dir(corpora.join(name)).expect(name);
            let files: Vec<_> = files.map(|file| file.unwrap().path()).collect();
            assert!((5..=50).contains(&files.len()), "{name}: {}", files.len());
            for file in files {
                println!("{}", file.display());
                target(&fs::read(&file).unwrap());
            }
        }
    }
}
