//! What is sealed opens only as what it was, where it was, with the same keys; golden records keep the format.

use std::fs;
use std::path::Path;

use domo_token_core::fetch_result::Cause;
use domo_token_core::fleet::{HostId, NotedFailure};
use domo_token_protocol::messages::TokenText;
use proptest::prelude::*;

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
fn names_are_those_computed_independently() {
    assert_eq!(keys().name(&scope("user data")), NAME);
    let other = "787510da0d39a9246602ff0439a12c49";
    assert_eq!(keys_with_file(KEY_FILE).name(&scope("data user")), other);
}

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
fn hkdf_gives_the_first_block_of_the_vectors_of_rfc_5869() {
    let okm = hkdf(&[0x0b; 22], &salt(0)[..13], &salt(0xf0)[..10]);
    let expected = "3c b2 5f 25 fa ac d5 7a 90 43 4f 64 d0 36 2f 2a 2d 2d 0a 90 cf 1a 5a 4c 5d b0 2d 56 ec c4 c5 bf";
    assert_eq!(*okm, bytes_of(expected));
    let okm = hkdf(&[0x0b; 22], b"", b"");
    let expected = "8d a4 e7 75 a5 63 c1 8f 71 5f 80 2a 06 3c 5a 31 b8 a1 1f 5c 5e e1 87 9e c3 45 4e 5f 3c 73 8d 2d";
    assert_eq!(*okm, bytes_of(expected));
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
fn other_credentials_or_key_file_give_other_names_and_open_nothing() {
    let other_secret = SecretString::from("0123456789abcdeF".repeat(4));
    let of = |secret: &SecretString, key_file, url, client| {
        FleetKeys::new(secret, key_file, url, client).unwrap()
    };
    let other_file = b"0123456789abcdef0123456789ABCDEG";
    let all = [
        of(&secret(), None, URL, CLIENT),
        of(&other_secret, None, URL, CLIENT),
        of(&secret(), None, "https://api.domo.com/oauth/tokem", CLIENT),
        of(&secret(), None, URL, "another"),
        // The boundary between both parts counts.
        of(&secret(), None, &format!("{URL}4"), &CLIENT[1..]),
        keys_with_file(KEY_FILE),
        keys_with_file(other_file),
    ];
    for (number, keys) in all.iter().enumerate() {
        let name = keys.name(&scope("data user"));
        let sealed = keys.seal_token(&name, &token(), salt(7)).unwrap();
        for (other_number, other) in all.iter().enumerate() {
            let is_same = number == other_number;
            let opened = other.open_token(&name, &sealed);
            assert_eq!(opened, is_same.then(token), "{number} {other_number}");
            assert_eq!(other.name(&scope("data user")) == name, is_same);
        }
    }
}

#[test]
fn trailing_line_breaks_of_the_key_file_do_not_count() {
    let expected = keys_with_file(KEY_FILE).name(&scope("data"));
    for end in [&b"\n"[..], b"\r\n", b"\n\n"] {
        let keys = keys_with_file(&[KEY_FILE, end].concat());
        assert_eq!(keys.name(&scope("data")), expected, "{end:?}");
    }
    let inside = keys_with_file(&[b"\n", KEY_FILE].concat());
    assert_ne!(inside.name(&scope("data")), expected);
}

#[test]
fn short_secret_without_a_key_file_is_an_error() {
    let new = |secret: String, key_file| {
        FleetKeys::new(&secret.into(), key_file, URL, CLIENT).map(|_| ())
    };
    assert_eq!(new("x".repeat(31), None), Err(FleetKeysError::ShortSecret));
    // Bytes are not characters.
    assert_eq!(new("ä".repeat(31), None), Err(FleetKeysError::ShortSecret));
    assert_eq!(new("x".repeat(32), None), Ok(()));
    assert_eq!(new("x".to_owned(), Some(KEY_FILE)), Ok(()));
}

#[test]
fn short_key_file_is_an_error() {
    let new = |key_file: &[u8]| {
        let keys = FleetKeys::new(&secret(), Some(key_file), URL, CLIENT);
        keys.map(|_| ())
    };
    let short = Err(FleetKeysError::ShortKeyFile);
    for key_file in [&b""[..], b"\n", &KEY_FILE[..31]] {
        assert_eq!(new(key_file), short, "{key_file:?}");
    }
    assert_eq!(new(&[&KEY_FILE[..31], b"\n"].concat()), short);
    assert_eq!(new(KEY_FILE), Ok(()));
}

#[test]
fn part_of_the_key_over_65535_bytes_is_an_error() {
    let new = |key_file: &[u8], url: &str| {
        let keys = FleetKeys::new(&secret(), Some(key_file), url, CLIENT);
        keys.map(|_| ())
    };
    let long = "x".repeat(65_536);
    assert_eq!(new(&long.as_bytes()[1..], &long[1..]), Ok(()));
    assert_eq!(
        new(long.as_bytes(), URL),
        Err(FleetKeysError::TooLong("key file"))
    );
    assert_eq!(
        new(KEY_FILE, &long),
        Err(FleetKeysError::TooLong("token URL"))
    );
}

#[test]
fn errors_are_one_line_that_ends_with_what_to_do() {
    for error in [FleetKeysError::ShortSecret, FleetKeysError::ShortKeyFile] {
        let message = error.to_string();
        assert!(message.ends_with(": openssl rand -hex 32"), "{message}");
        assert!(!message.contains(char::is_control), "{message}");
    }
}

#[test]
fn token_with_invalid_facts_is_neither_sealed_nor_opened() {
    let with = |text: &str| TokenRecord {
        text: TokenText::new(text.to_owned()),
        ..token()
    };
    let granted = |granted: &str| TokenRecord {
        granted: granted.to_owned(),
        ..token()
    };
    let lifetime = |lifetime_ms| TokenRecord {
        lifetime_ms,
        ..token()
    };
    let long = "x".repeat(MAX_TOKEN + 1);
    let invalid = [
        with(""),
        with("x;id"),
        with(&long),
        granted(""),
        granted("da\nta"),
        granted(&"x".repeat(1025)),
        lifetime(0),
        lifetime(86_400_001),
        lifetime(u64::MAX),
    ];
    for record in invalid {
        let sealed = keys().seal_token(NAME, &record, salt(0));
        assert_eq!(sealed, Err(SealError::Invalid), "{record:?}");
        let sealed = sealed_content(&encoded(&record).unwrap());
        assert_eq!(keys().open_token(NAME, &sealed), None, "{record:?}");
    }
    let valid = [
        with(&long[1..]),
        granted("x"),
        lifetime(1),
        lifetime(86_400_000),
    ];
    for record in valid {
        let sealed = keys().seal_token(NAME, &record, salt(0)).unwrap();
        assert_eq!(keys().open_token(NAME, &sealed), Some(record));
    }
}

#[test]
fn content_that_is_not_exactly_one_record_does_not_open() {
    let content = encoded(&token()).unwrap();
    assert!(keys().open_token(NAME, &sealed_content(&content)).is_some());
    for length in 0..content.len() {
        let sealed = sealed_content(&content[..length]);
        assert_eq!(keys().open_token(NAME, &sealed), None, "{length}");
    }
    let longer = sealed_content(&[&content[..], &[0]].concat());
    assert_eq!(keys().open_token(NAME, &longer), None);
    // A length of 2^64 - 1 that would not fit the memory.
    let huge = sealed_content(&[&[0xfd][..], &[0xff; 8], &[b'x'; 64]].concat());
    assert_eq!(keys().open_token(NAME, &huge), None);
}

#[test]
fn longest_record_is_sealed_and_a_longer_one_is_not() {
    assert_eq!(MAX_RECORD, 20_480, "as documented");
    let room = MAX_RECORD - HEAD - TAG;
    let seal = |length| keys().seal(Kind::Token, NAME, &vec![0; length], salt(0));
    assert_eq!(seal(room).unwrap().len(), MAX_RECORD);
    assert_eq!(seal(room + 1), Err(SealError::TooLong));
    let longest = TokenRecord {
        text: TokenText::new("x".repeat(MAX_TOKEN)),
        granted: "x".repeat(1024),
        expires_engine_ms: u64::MAX,
        expires_wall_ms: u64::MAX,
        ..token()
    };
    let sealed = keys().seal_token(NAME, &longest, salt(0)).unwrap();
    assert_eq!(keys().open_token(NAME, &sealed), Some(longest));
}

#[test]
fn note_with_a_long_message_or_a_line_break_does_not_open() {
    let opens = |message: &str| {
        let message = message.to_owned();
        let note = NoteRecord { message, ..note() };
        let content = encoded(&note).unwrap();
        let sealed = keys().seal(Kind::Note, NAME, &content, salt(0)).unwrap();
        keys().open_note(NAME, &sealed).is_some()
    };
    assert!(opens("") && opens(&"ä".repeat(300)));
    assert!(!opens(&"ä".repeat(301)));
    for message in [
        "a\nb",
        "a\rb",
        "a\0",
        "\u{1b}[2J",
        "a\u{85}b",
        "a\u{2028}b",
        "a\u{2029}b",
    ] {
        assert!(!opens(message), "{message:?}");
    }
}

#[test]
fn message_of_a_note_is_shortened_to_one_line_of_300_characters() {
    let sealed_as = |message: &str| {
        let message = message.to_owned();
        let note = NoteRecord { message, ..note() };
        let sealed = keys().seal_note(NAME, &note, salt(0)).unwrap();
        keys().open_note(NAME, &sealed).unwrap().message
    };
    assert_eq!(sealed_as("a\nb\u{1b}c\u{2028}d"), "a b c d");
    assert_eq!(sealed_as(&"ä".repeat(300)), "ä".repeat(300));
    assert_eq!(sealed_as(&"ä".repeat(301)), "ä".repeat(299) + "…");
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

proptest! {
    #[test]
    fn any_valid_token_opens_as_it_was_sealed(
        text in "[A-Za-z0-9._~+/-]{1,2000}={0,2}",
        granted in "[a-z:]{1,20}( [a-z]{1,20}){0,5}",
        lifetime_ms in 1..=86_400_000_u64,
        expires in any::<[u64; 2]>(),
        scopes in "[a-z]{1,20}",
        salt in any::<[u8; SALT]>(),
    ) {
        let record = TokenRecord {
            text: TokenText::new(text),
            granted,
            lifetime_ms,
            expires_engine_ms: expires[0],
            expires_wall_ms: expires[1],
        };
        let keys = keys();
        let name = keys.name(&scope(&scopes));
        prop_assert!(name.len() == 32 && name.bytes().all(|byte| b"0123456789abcdef".contains(&byte)));
        let sealed = keys.seal_token(&name, &record, salt).unwrap();
        prop_assert_eq!(keys.open_token(&name, &sealed), Some(record));
    }

    #[test]
    fn any_note_opens_as_it_was_sealed(
        until in any::<[u64; 2]>(),
        count in any::<u32>(),
        host in any::<[u8; 16]>(),
        is_confirmed in any::<bool>(),
        failure in prop_oneof![
            any::<bool>().prop_map(|scope_only| NotedFailure::Rejected { scope_only }),
            Just(NotedFailure::Transient(Cause::Connect)),
            Just(NotedFailure::Transient(Cause::Unusable)),
        ],
        message in any::<String>(),
        salt in any::<[u8; SALT]>(),
    ) {
        let record = NoteRecord {
            until_engine_ms: until[0],
            until_wall_ms: until[1],
            wait_ms: 30_000,
            count,
            host: HostId(host),
            is_confirmed,
            failure,
            message: shortened(&message),
        };
        let sealed = keys().seal_note(NAME, &record, salt).unwrap();
        prop_assert_eq!(keys().open_note(NAME, &sealed), Some(record));
    }
}
