use super::*;

/// Decodes a body that is in one slice: its content, and what follows it if it has ended.
fn decode(mut bytes: &[u8]) -> Result<(Vec<u8>, Option<Vec<u8>>), ChunkError> {
    let mut decoder = Decoder::new();
    let mut content = Vec::new();
    while !bytes.is_empty() {
        let step = decoder.step(bytes)?;
        content.extend_from_slice(&bytes[step.skip..step.skip + step.data]);
        bytes = &bytes[step.skip + step.data..];
        if step.is_end {
            return Ok((content, Some(bytes.to_vec())));
        }
    }
    Ok((content, None))
}

#[test]
fn body_is_decoded_without_extensions_and_trailers() {
    for (bytes, content, rest) in [
        (&b"0\r\n\r\n"[..], &b""[..], Some(&b""[..])),
        (b"5\r\nhello\r\n0\r\n\r\nGET /", b"hello", Some(b"GET /")),
        (
            b"1\r\na\r\n0A\r\n0123456789\r\n000\r\n\r\n",
            b"a0123456789",
            Some(b""),
        ),
        (b"1;a=b;c=\"d\"\r\na\r\n0;x\r\n\r\n", b"a", Some(b"")),
        (b"1 \t;a\r\na\r\n0\r\nX: y\r\nZ:\r\n\r\n.", b"a", Some(b".")),
        (b"5\r\nhel", b"hel", None),
        (b"5\r\nhello", b"hello", None),
        (b"5\r\nhello\r\n0\r\n", b"hello", None),
        (b"5\r\nhello\r\n0\r\nA: b\r\n\r", b"hello", None),
        (b"ffffffffffffffff\r\nab", b"ab", None),
    ] {
        let expected = (content.to_vec(), rest.map(<[u8]>::to_vec));
        assert_eq!(decode(bytes), Ok(expected), "{}", bytes.escape_ascii());
    }
}

#[test]
fn invalid_body_is_rejected() {
    for (bytes, expected) in [
        (&b"\r\n"[..], ChunkError::Size),
        (b"x\r\n", ChunkError::Size),
        (b";a\r\n", ChunkError::Size),
        (b" 1\r\n", ChunkError::Size),
        (b"+1\r\n", ChunkError::Size),
        (b"-1\r\n", ChunkError::Size),
        (b"0x1\r\n", ChunkError::Size),
        (b"1 1\r\n", ChunkError::Size),
        (b"1 \r\n", ChunkError::Size),
        (b"1\n", ChunkError::Size),
        (b"10000000000000000\r\n", ChunkError::Size),
        (b"fffffffffffffffff\r\n", ChunkError::Size),
        (b"1\rx", ChunkError::Line),
        (b"1\r\r\n", ChunkError::Line),
        (b"1;a\n", ChunkError::Line),
        (b"1;a\rb\r\n", ChunkError::Line),
        (b"1;a\0\r\n", ChunkError::Line),
        (b"1;a\x7f\r\n", ChunkError::Line),
        (b"1\r\nab\r\n", ChunkError::ChunkEnd),
        (b"1\r\na\n", ChunkError::ChunkEnd),
        (b"1\r\na\rb", ChunkError::ChunkEnd),
        (b"1\r\na0\r\n\r\n", ChunkError::ChunkEnd),
        (b"0\r\n\n", ChunkError::Line),
        (b"0\r\nA: b\n", ChunkError::Line),
        (b"0\r\nA: b\rc", ChunkError::Line),
        (b"0\r\nA: \0", ChunkError::Line),
        (b"0\r\n\r\r", ChunkError::Line),
    ] {
        assert_eq!(decode(bytes), Err(expected), "{}", bytes.escape_ascii());
        assert!(!expected.to_string().is_empty());
    }
}

#[test]
fn lines_are_limited() {
    let size_line = |length: usize| format!("0;{}\r\n\r\n", "a".repeat(length - 4)).into_bytes();
    assert!(decode(&size_line(MAX_SIZE_LINE)).is_ok());
    let longer = size_line(MAX_SIZE_LINE + 1);
    assert_eq!(decode(&longer), Err(ChunkError::LongSizeLine));
    let zeros = vec![b'0'; MAX_SIZE_LINE + 1];
    assert_eq!(decode(&zeros), Err(ChunkError::LongSizeLine));
    let trailers = |length: usize| {
        let fields = "a:\r\n".repeat(length / 8);
        let last = "b".repeat(length - fields.len() - 4);
        format!("0\r\n{fields}{last}\r\n\r\n").into_bytes()
    };
    assert!(decode(&trailers(MAX_TRAILERS)).unwrap().1.is_some());
    let longer = trailers(MAX_TRAILERS + 1);
    assert_eq!(decode(&longer), Err(ChunkError::LongTrailers));
}

#[test]
fn ended_body_takes_no_more() {
    let mut decoder = Decoder::new();
    assert!(!decoder.is_end());
    assert!(decoder.step(LAST_CHUNK).unwrap().is_end);
    let expected = Step {
        is_end: true,
        ..Step::default()
    };
    assert_eq!(decoder.step(b"GET"), Ok(expected));
    assert_eq!(decoder.step(b""), Ok(expected));
}

#[test]
fn head_of_a_chunk_is_its_size() {
    for (length, expected) in [
        (1, "1\r\n"),
        (15, "f\r\n"),
        (16, "10\r\n"),
        (0x1_0000, "10000\r\n"),
        (usize::MAX, "ffffffffffffffff\r\n"),
    ] {
        assert_eq!(ChunkHead::new(length).as_bytes(), expected.as_bytes());
    }
}
