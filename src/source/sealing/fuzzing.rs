//! Entry point for fuzzers: records, and the content of records.

#![allow(clippy::expect_used, reason = "a panic is how a finding is reported")]

use domo_token_core::fleet::{NoteRecord, TokenRecord};

use super::{FleetKeys, Kind, SALT};

const NAME: &str = "60073e75e7051d7d09799b7686a6abe6";

/// Opens bytes as a record, and as the content of a record that was sealed with the right keys. The keys are those of
/// the golden records. What opens is valid, and the same after it is sealed again.
pub(crate) fn record(bytes: &[u8]) {
    let keys = FleetKeys::new(
        &"0123456789abcdef".repeat(4).into(),
        None,
        "https://api.domo.com/oauth/token",
        "441e307a-b2a1-4a99-8561-174e5b153fef",
    );
    let keys = keys.expect("the secret has 64 characters");
    open(&keys, bytes);
    for kind in [Kind::Token, Kind::Note] {
        if let Ok(sealed) = keys.seal(kind, NAME, bytes, [0; SALT]) {
            open(&keys, &sealed);
        }
    }
}

fn open(keys: &FleetKeys, record: &[u8]) {
    let token = keys.open_token(NAME, record);
    let note = keys.open_note(NAME, record);
    assert!(token.is_none() || note.is_none(), "it opens as both kinds");
    if let Some(token) = token {
        check_token(keys, &token);
    }
    if let Some(note) = note {
        check_note(keys, &note);
    }
}

fn check_token(keys: &FleetKeys, token: &TokenRecord) {
    let sealed = keys.seal_token(NAME, token, [1; SALT]);
    let sealed = sealed.expect("what opens is valid");
    assert_eq!(keys.open_token(NAME, &sealed).as_ref(), Some(token));
}

fn check_note(keys: &FleetKeys, note: &NoteRecord) {
    let sealed = keys.seal_note(NAME, note, [1; SALT]);
    let sealed = sealed.expect("what opens is valid");
    assert_eq!(keys.open_note(NAME, &sealed).as_ref(), Some(note));
}
