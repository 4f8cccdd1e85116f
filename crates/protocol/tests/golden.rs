//! Every message of each protocol version as bytes, kept for good: `tests/wire/vVERSION/NAME.hex`.

#![cfg(test)]

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use domo_token_protocol::BootTime;
use domo_token_protocol::frame;
use domo_token_protocol::greeting::{self, GREETING, Greeting};
use domo_token_protocol::messages::{
    AppStatus, BrokerStatus, Explanation, FleetStatus, OLDEST_VERSION, Refusal, RefusalKind, Renew,
    Request, Response, ScopeState, ScopeStatus, TokenAnswer, TokenOrigin, TokenRequest,
    TokenSubject, TokenText, VERSION,
};

fn folder(version: u8) -> PathBuf {
    let name = format!("tests/wire/v{version}");
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(name)
}

fn versions() -> std::ops::RangeInclusive<u8> {
    OLDEST_VERSION..=VERSION
}

/// The bytes outside of frames. Those of version 1 are only in the protocol's description.
fn greetings(version: u8) -> Vec<(String, Vec<u8>)> {
    if version < 2 {
        return Vec::new();
    }
    let greeting = Greeting::new(version, BootTime::from_millis(1_000_000));
    let greeting = greeting.encode(&mut [0; GREETING]).to_vec();
    vec![
        ("hello".to_owned(), greeting::hello(version).to_vec()),
        ("greeting".to_owned(), greeting),
    ]
}

fn subject(client: Option<&str>) -> TokenSubject {
    TokenSubject {
        client: client.map(str::to_owned),
        scope: "data user".to_owned(),
    }
}

/// The requests of a protocol version, each with the first version that has it.
fn requests(version: u8) -> Vec<(String, Request)> {
    let token = |client, min_ttl_ms, renew| {
        Request::Token(TokenRequest {
            subject: subject(client),
            min_ttl_ms,
            time_left_ms: 10_000,
            renew,
        })
    };
    let all = [
        (1, "request-token", token(None, None, None)),
        (
            1,
            "request-token-all",
            token(Some("acme"), Some(600_000), Some(Renew::Current)),
        ),
        (
            1,
            "request-token-rejected",
            token(None, Some(0), Some(Renew::Rejected(u64::MAX))),
        ),
        (1, "request-watch", Request::Watch(subject(Some("acme")))),
        (1, "request-status", Request::Status),
        (1, "request-explain", Request::Explain(subject(None))),
        (1, "request-metrics", Request::Metrics),
    ];
    let of_version = all.into_iter().filter(|(since, ..)| *since <= version);
    of_version
        .map(|(_, name, request)| (name.to_owned(), request))
        .collect()
}

fn scope(version: u8, state: ScopeState, full: bool) -> Response {
    let from = full.then_some(TokenOrigin::Domo);
    let text = |text: &str| full.then(|| text.to_owned());
    Response::Scope(ScopeStatus {
        client: "acme".to_owned(),
        client_id: "441e307a…".to_owned(),
        scope: "data user".to_owned(),
        state,
        obtained: full.then_some(BootTime::from_millis(1_000_000)),
        expires: full.then_some(BootTime::from_millis(4_599_000)),
        generation: full.then_some(0x0123_4567_89ab_cdef),
        next_attempt: full.then_some(BootTime::from_millis(3_700_000)),
        requests: 3,
        attempts: 2,
        last_error: text("Domo answered 503"),
        last_error_at: full.then_some(BootTime::from_millis(999_000)),
        rejected: 1,
        last_rejected_by: text("uid 1004, pid 77"),
        credentials_error: text("Domo answered 401"),
        from: from.filter(|_| version >= 3),
    })
}

fn responses(version: u8) -> Vec<(String, Response)> {
    let mut all = vec![
        (
            "response-token".to_owned(),
            Response::Token(TokenAnswer {
                access_token: TokenText::new("eyJhbGciOiJSUzI1NiJ9.e30.c2ln".to_owned()),
                client: "acme".to_owned(),
                scope: "data user".to_owned(),
                generation: 0x0123_4567_89ab_cdef,
                lifetime_ms: 3_599_000,
                expires: BootTime::from_millis(4_599_000),
            }),
        ),
        (
            "response-broker".to_owned(),
            Response::Broker(BrokerStatus {
                version: "0.1.0".to_owned(),
                protocol: version,
                pid: 4242,
                started: BootTime::from_millis(900_000),
                config_path: Some("/etc/domo-token/config.toml".to_owned()),
                config_loaded: BootTime::from_millis(900_001),
                config_error: None,
                fleet: None,
                apps: Vec::new(),
                more_apps: 0,
            }),
        ),
        (
            "response-metrics".to_owned(),
            Response::Metrics("# EOF\n".to_owned()),
        ),
        ("response-end".to_owned(), Response::End),
    ];
    all.extend(explanations());
    all.extend(refusals());
    all.extend(scopes(version));
    if version >= 3 {
        all.extend(added_in_version_3());
    }
    all
}

/// The statuses with values that version 3 added.
fn added_in_version_3() -> impl Iterator<Item = (String, Response)> {
    let broker = |fleet, apps, more_apps| {
        Response::Broker(BrokerStatus {
            version: "0.1.0".to_owned(),
            protocol: 3,
            pid: 4242,
            started: BootTime::from_millis(900_000),
            config_path: None,
            config_loaded: BootTime::from_millis(900_001),
            config_error: None,
            fleet,
            apps,
            more_apps,
        })
    };
    let up = FleetStatus {
        place: "rediss://cache.example:6379/0".to_owned(),
        up: true,
        since: None,
        last_error: None,
        clock_difference_ms: None,
    };
    let down = FleetStatus {
        up: false,
        since: Some(BootTime::from_millis(1_000_000)),
        last_error: Some("connection refused".to_owned()),
        clock_difference_ms: Some(-12_000),
        ..up.clone()
    };
    let mut shared = scope(3, ScopeState::Fresh, true);
    if let Response::Scope(status) = &mut shared {
        status.from = Some(TokenOrigin::Fleet);
    }
    let used = AppStatus {
        name: "etl".to_owned(),
        client: "acme".to_owned(),
        last_used: Some(BootTime::from_millis(1_000_000)),
        connections: 3,
        error: None,
    };
    let disabled = AppStatus {
        name: "report".to_owned(),
        last_used: None,
        connections: 0,
        error: Some("its secret was removed".to_owned()),
        ..used.clone()
    };
    let all = [
        ("broker-fleet", broker(Some(up), Vec::new(), 0)),
        ("broker-fleet-down", broker(Some(down), Vec::new(), 0)),
        ("broker-apps", broker(None, vec![used, disabled], 900)),
        ("scope-from-fleet", shared),
    ];
    all.into_iter()
        .map(|(name, response)| (format!("response-{name}"), response))
}

fn explanations() -> impl Iterator<Item = (String, Response)> {
    let all = [("yes", None), ("no", Some(RefusalKind::NotPermitted))];
    all.into_iter().map(|(name, refused)| {
        let explanation = Response::Explanation(Explanation {
            client: Some("acme".to_owned()),
            scope: "data user".to_owned(),
            peer: "uid 1004, pid 77".to_owned(),
            refused,
            rule: "clients.acme.access".to_owned(),
        });
        (format!("response-explanation-{name}"), explanation)
    })
}

fn refusals() -> impl Iterator<Item = (String, Response)> {
    let all = [
        ("not-permitted", RefusalKind::NotPermitted),
        ("unknown-client", RefusalKind::UnknownClient),
        ("unknown-scope", RefusalKind::UnknownScope),
        ("min-ttl-too-long", RefusalKind::MinTtlTooLong),
        ("denied", RefusalKind::Denied),
        ("gone", RefusalKind::Gone),
        ("unavailable", RefusalKind::Unavailable),
        ("busy", RefusalKind::Busy),
    ];
    all.into_iter().map(|(name, kind)| {
        let refusal = Response::Refusal(Refusal {
            kind,
            cause: "why".to_owned(),
            next_attempt: (name == "unavailable").then_some(BootTime::from_millis(1_003_000)),
        });
        (format!("response-refusal-{name}"), refusal)
    })
}

fn scopes(version: u8) -> impl Iterator<Item = (String, Response)> {
    let all = [
        ("idle", ScopeState::Idle),
        ("fetching", ScopeState::Fetching),
        ("fresh", ScopeState::Fresh),
        ("waiting", ScopeState::Waiting),
        ("denied", ScopeState::Denied),
    ];
    all.into_iter().map(move |(name, state)| {
        let scope = scope(version, state, name == "fresh");
        (format!("response-scope-{name}"), scope)
    })
}

fn hex(bytes: &[u8]) -> String {
    let line = |line: &[u8]| {
        let bytes: Vec<String> = line.iter().map(|byte| format!("{byte:02x}")).collect();
        bytes.join(" ") + "\n"
    };
    bytes.chunks(16).map(line).collect()
}

fn bytes(hex: &str) -> Vec<u8> {
    hex.split_whitespace()
        .map(|byte| u8::from_str_radix(byte, 16).unwrap())
        .collect()
}

/// Compares the bytes with the stored ones of that name, and returns those.
#[track_caller]
fn golden(version: u8, name: &str, today: &[u8]) -> Vec<u8> {
    let path = folder(version).join(format!("{name}.hex"));
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::create_dir_all(folder(version)).unwrap();
        fs::write(&path, hex(today)).unwrap();
    }
    let golden = fs::read_to_string(&path).unwrap_or_else(|_| panic!("no {}", path.display()));
    assert_eq!(
        hex(today),
        golden,
        "{name} of version {version} is encoded otherwise than it was"
    );
    bytes(&golden)
}

#[test]
fn requests_encode_to_their_golden_frames() {
    for version in versions() {
        for (name, request) in requests(version) {
            let golden = golden(version, &name, &frame::encode(&request).unwrap());
            let (body, used) = frame::split(&golden).unwrap().unwrap();
            assert_eq!(used, golden.len());
            assert_eq!(frame::decode(body), Ok(request), "{name}");
        }
    }
}

#[test]
fn responses_encode_to_their_golden_frames() {
    for version in versions() {
        for (name, response) in responses(version) {
            let golden = golden(version, &name, &response.clone().encode(version).unwrap());
            let (body, used) = frame::split(&golden).unwrap().unwrap();
            assert_eq!(used, golden.len());
            assert_eq!(Response::decode(body, version), Ok(response), "{name}");
        }
    }
}

#[test]
fn greetings_are_the_bytes_they_always_were() {
    for version in versions() {
        for (name, greeting) in greetings(version) {
            golden(version, &name, &greeting);
        }
    }
}

#[test]
fn golden_frames_all_belong_to_a_message_of_the_tests() {
    for version in versions() {
        let requests = requests(version).into_iter().map(|(name, _)| name);
        let responses = responses(version).into_iter().map(|(name, _)| name);
        let greetings = greetings(version).into_iter().map(|(name, _)| name);
        let names: BTreeSet<String> = requests.chain(responses).chain(greetings).collect();
        for entry in fs::read_dir(folder(version)).unwrap() {
            let file = entry.unwrap().file_name().into_string().unwrap();
            let name = file.strip_suffix(".hex").unwrap();
            assert!(names.contains(name), "{file} is of no message");
        }
    }
}

#[test]
fn truncated_and_extended_messages_are_rejected() {
    for version in versions() {
        for (name, message) in responses(version) {
            let frame = message.encode(version).unwrap();
            let body = &frame[frame::HEAD..];
            let is_rejected = |body: &[u8]| Response::decode(body, version).is_err();
            for cut in 0..body.len() {
                assert!(is_rejected(&body[..cut]), "{name} cut at {cut}");
            }
            let longer = [body, &[0]].concat();
            assert!(is_rejected(&longer), "{name} with a byte more");
        }
    }
}

/// The hexdump in the manual matches the bytes.
#[test]
fn protocol_document_shows_the_bytes_of_the_golden_frames() {
    let manual = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../docs/protocol.md");
    let manual = fs::read_to_string(manual).unwrap();
    let dump = manual
        .split("```hexdump\n")
        .nth(1)
        .unwrap()
        .split("```")
        .next()
        .unwrap();
    let shown: String = dump
        .lines()
        .map(|line| line.split("  ").nth(1).unwrap_or("").to_owned() + " ")
        .collect();
    let mut conversation = greeting::hello(VERSION).to_vec();
    let named = |name: &str| {
        requests(VERSION)
            .into_iter()
            .find(|(other, _)| other == name)
            .unwrap()
            .1
    };
    conversation.extend_from_slice(&frame::encode(&named("request-token")).unwrap());
    let greeting = Greeting::new(VERSION, BootTime::from_millis(1_000_000));
    conversation.extend_from_slice(greeting.encode(&mut [0; GREETING]));
    let token = responses(VERSION)
        .into_iter()
        .find(|(name, _)| name == "response-token")
        .unwrap()
        .1;
    conversation.extend_from_slice(&frame::encode(&token).unwrap());
    let shown = bytes(&shown);
    assert_eq!(hex(&shown), hex(&conversation));
}
