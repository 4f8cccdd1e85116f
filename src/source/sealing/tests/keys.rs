//! What the keys and names are derived from.

use super::*;

#[test]
fn names_are_those_computed_independently() {
    assert_eq!(keys().name(&scope("user data")), NAME);
    let other = "787510da0d39a9246602ff0439a12c49";
    assert_eq!(keys_with_file(KEY_FILE).name(&scope("data user")), other);
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
