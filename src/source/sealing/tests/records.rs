//! Which contents are sealed and opened.

use proptest::prelude::*;

use super::*;

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
