//! What is sealed opens only as what it was, where it was, with the same keys; golden records keep the format.

mod keys;
mod records;

use std::fs;
use std::path::Path;

use domo_token_core::fetch_result::Cause;
use domo_token_core::fleet::{HostId, NotedFailure};
use domo_token_protocol::messages::TokenText;

use super::*;

const URL: &str = "https://api.domo.com/oauth/token";
const CLIENT: &str = "441e307a-b2a1-4a99-8561-174e5b153fef";
const KEY_FILE: &[u8] = b"0123456789abcdef0123456789ABCDEF";

/// The name of the records of `data user` in the golden records.
const NAME: &str = "60073e75e7051d7d09799b7686a6abe6";

fn secret() -> SecretString {
    "0123456789abcdef".repeat(4).into()
}

fn keys() -> FleetKeys {
    FleetKeys::new(&secret(), None, URL, CLIENT).unwrap()
}

fn keys_with_file(key_file: &[u8]) -> FleetKeys {
    FleetKeys::new(&secret(), Some(key_file), URL, CLIENT).unwrap()
}

fn scope(text: &str) -> ScopeSet {
    ScopeSet::parse(text).unwrap()
}

/// The salt of a golden record: counts up from `first`.
fn salt(first: u8) -> [u8; SALT] {
    let mut salt = [0; SALT];
    for (byte, value) in salt.iter_mut().zip(first..=u8::MAX) {
        *byte = value;
    }
    salt
}

fn token() -> TokenRecord {
    TokenRecord {
        text: TokenText::new("eyJhbGciOiJSUzI1NiJ9.e30.c2ln".to_owned()),
        granted: "data user".to_owned(),
        lifetime_ms: 3_599_000,
        expires_engine_ms: 1_800_003_599_000,
        expires_wall_ms: 1_800_003_598_750,
    }
}

fn note() -> NoteRecord {
    NoteRecord {
        until_engine_ms: 1_800_000_060_000,
        until_wall_ms: 1_800_000_059_750,
        wait_ms: 30_000,
        count: 3,
        host: HostId(*salt(0).first_chunk().unwrap()),
        is_confirmed: true,
        failure: NotedFailure::Transient(Cause::Server),
        message: "Domo answered 503".to_owned(),
    }
}

fn rejection() -> NoteRecord {
    NoteRecord {
        until_engine_ms: 1_800_000_300_000,
        until_wall_ms: 1_800_000_299_750,
        wait_ms: 30_000,
        count: 251,
        is_confirmed: false,
        failure: NotedFailure::Rejected { scope_only: true },
        message: "Domo answered 401".to_owned(),
        ..note()
    }
}

/// Seals any content as a token, as a host with other code could.
fn sealed_content(content: &[u8]) -> Zeroizing<Vec<u8>> {
    keys().seal(Kind::Token, NAME, content, salt(0)).unwrap()
}

fn sealed_token() -> Zeroizing<Vec<u8>> {
    keys().seal_token(NAME, &token(), salt(0)).unwrap()
}

fn bytes_of(hex: &str) -> Vec<u8> {
    let bytes = hex.split_whitespace();
    bytes
        .map(|byte| u8::from_str_radix(byte, 16).unwrap())
        .collect()
}

fn golden(name: &str) -> Vec<u8> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fleet_records");
    bytes_of(&fs::read_to_string(folder.join(name)).unwrap())
}

// Names and records were computed by a script in Python with `hmac`, and with HKDF and ChaCha20Poly1305 of the package
// `cryptography`, from the description in docs/fleet-records.md; the content was encoded by hand.

#[test]
fn golden_records_open_and_are_sealed_byte_by_byte() {
    let keys = keys();
    assert_eq!(keys.open_token(NAME, &golden("token.hex")), Some(token()));
    let sealed = keys.seal_token(NAME, &token(), salt(0)).unwrap();
    assert_eq!(*sealed, golden("token.hex"));
    let notes = [
        ("note.hex", note(), 32),
        ("note-rejected.hex", rejection(), 64),
    ];
    for (file, note, first) in notes {
        let sealed = keys.seal_note(NAME, &note, salt(first)).unwrap();
        assert_eq!(*sealed, golden(file), "{file}");
        assert_eq!(keys.open_note(NAME, &golden(file)), Some(note), "{file}");
    }
}

#[test]
fn document_shows_the_keys_the_content_and_the_record_of_the_golden_token() {
    let document = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/fleet-records.md");
    let document = fs::read_to_string(document).unwrap();
    let dumps = document.split("```hexdump\n").skip(1).map(|dump| {
        let (dump, _) = dump.split_once("```").unwrap();
        let columns = dump.lines().map(|line| line.split("  ").next().unwrap());
        bytes_of(&columns.collect::<Vec<_>>().join(" "))
    });
    let content = encoded(&token()).unwrap().to_vec();
    assert_eq!(dumps.collect::<Vec<_>>(), [content, golden("token.hex")]);
    let keys = keys();
    let record_key = hkdf(&keys.master, &salt(0), b"seal");
    for (value, bytes) in [("master", &keys.master), ("record key", &record_key)] {
        let hex = hex(bytes);
        assert!(
            document.contains(&format!("| {value} | `{hex}` |")),
            "{value}"
        );
    }
    assert!(document.contains(&format!("| name | `{NAME}` |")));
}

#[test]
fn record_with_a_changed_bit_does_not_open() {
    let keys = keys();
    let sealed = sealed_token();
    for at in 0..sealed.len() {
        for bit in 0..8 {
            let mut changed = sealed.to_vec();
            changed[at] ^= 1 << bit;
            assert_eq!(keys.open_token(NAME, &changed), None, "byte {at} bit {bit}");
        }
    }
}

#[test]
fn truncated_or_extended_record_does_not_open() {
    let keys = keys();
    let sealed = sealed_token();
    for length in 0..sealed.len() {
        assert_eq!(keys.open_token(NAME, &sealed[..length]), None, "{length}");
        assert_eq!(
            keys.open_token(NAME, &sealed[length + 1..]),
            None,
            "{length}"
        );
    }
    let longer = [&sealed[..], &[0]].concat();
    assert_eq!(keys.open_token(NAME, &longer), None);
}

#[test]
fn record_of_another_kind_does_not_open() {
    let keys = keys();
    let note = keys.seal_note(NAME, &note(), salt(1)).unwrap();
    assert_eq!(keys.open_token(NAME, &note), None);
    assert_eq!(keys.open_note(NAME, &sealed_token()), None);
    // Nor does one whose content is of the other kind.
    let content = encoded(&token()).unwrap();
    let as_note = keys.seal(Kind::Note, NAME, &content, salt(1)).unwrap();
    assert_eq!(keys.open_token(NAME, &as_note), None);
}

#[test]
fn record_of_another_version_does_not_open() {
    let keys = keys();
    for version in (0..=u8::MAX).filter(|version| *version != VERSION) {
        let mut other = sealed_token();
        other[0] = version;
        assert_eq!(keys.open_token(NAME, &other), None, "{version}");
    }
}

#[test]
fn record_of_another_scope_set_does_not_open() {
    let keys = keys();
    let other = keys.name(&scope("data"));
    assert_ne!(other, NAME);
    assert_eq!(keys.open_token(&other, &sealed_token()), None);
    for name in ["", &NAME[..31], "02"] {
        assert_eq!(keys.open_token(name, &sealed_token()), None, "{name}");
    }
}

#[test]
fn debug_output_hides_keys_and_token() {
    let keys = keys_with_file(KEY_FILE);
    let output = format!("{keys:?} {:?}", token());
    assert_eq!(output.matches("[REDACTED]").count(), 2, "{output}");
    assert!(
        !output.contains("eyJh") && !output.contains("0123"),
        "{output}"
    );
    assert!(output.len() < 250, "{output}");
}

#[test]
fn sealed_record_contains_nothing_readable() {
    let sealed = sealed_token();
    for text in [
        &b"eyJh"[..],
        b"data user",
        CLIENT.as_bytes(),
        NAME.as_bytes(),
    ] {
        assert!(!sealed.windows(text.len()).any(|window| window == text));
    }
}
