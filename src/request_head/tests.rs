use super::*;

/// Parses a POST with these fields besides `Host`, with space for four fields.
fn post(fields: &[&str], forwarded: ForwardedFields) -> Result<(BodyLength, bool), HeadError> {
    let lines = [&["POST /v1/x?y HTTP/1.1", "Host: localhost"], fields].concat();
    let bytes = format!("{}\r\n\r\n", lines.join("\r\n"));
    let mut storage = [const { MaybeUninit::uninit() }; 4];
    let head = parse(bytes.as_bytes(), &mut storage, forwarded)?;
    assert_eq!((head.method, head.target), ("POST", "/v1/x?y"));
    assert_eq!(head.fields.iter().count(), 1 + fields.len());
    Ok((head.body, head.fields.is_only_chunked()))
}

#[test]
fn body_length_is_found() {
    for (fields, expected) in [
        (&[][..], Some((BodyLength::None, false))),
        (&["Content-Length: 0"], Some((BodyLength::None, false))),
        (
            &["Content-Length: 0010"],
            Some((BodyLength::Length(10), false)),
        ),
        (
            &["Content-Length: 18446744073709551615"],
            Some((BodyLength::Length(u64::MAX), false)),
        ),
        (&["Content-Length: 18446744073709551616"], None),
        (&["Content-Length: 0x1"], None),
        (&["Content-Length: -1"], None),
        (&["Content-Length: 1 1"], None),
        (&["Content-Length: 1", "content-length: 2"], None),
        (&["Content-Length: 1", "Transfer-Encoding: chunked"], None),
        (
            &["Transfer-Encoding: Chunked"],
            Some((BodyLength::Chunked, true)),
        ),
        (
            &["Transfer-Encoding: gzip, chunked"],
            Some((BodyLength::Chunked, false)),
        ),
        (
            &["Transfer-Encoding: \"chunked\""],
            Some((BodyLength::Chunked, false)),
        ),
        (
            &["Transfer-Encoding: chunked", "Transfer-Encoding: chunked"],
            Some((BodyLength::Chunked, false)),
        ),
        (&["Transfer-Encoding:"], Some((BodyLength::Chunked, false))),
    ] {
        let found = post(fields, ForwardedFields::Accept);
        assert_eq!(found.clone().ok(), expected, "{fields:?}");
        let is_bad = |error: HeadError| error.kind == HeadErrorKind::BadRequest;
        assert!(found.err().is_none_or(is_bad), "{fields:?}");
    }
}

#[test]
fn fields_of_proxies_are_rejected_on_request_and_those_of_web_pages_always() {
    let kind = |name: &str, forwarded| {
        let result = post(&[&format!("{name}: x")], forwarded);
        result.err().map(|error| error.kind)
    };
    let forbidden = Some(HeadErrorKind::ForbiddenOrigin);
    for name in ["Forwarded", "X-Forwarded-For", "x-forwarded-host"] {
        assert_eq!(kind(name, ForwardedFields::Accept), None, "{name}");
        assert_eq!(kind(name, ForwardedFields::Reject), forbidden, "{name}");
    }
    for name in ["Origin", "REFERER", "Sec-Fetch-Site", "sec-fetch-"] {
        assert_eq!(kind(name, ForwardedFields::Accept), forbidden, "{name}");
        assert_eq!(kind(name, ForwardedFields::Reject), forbidden, "{name}");
    }
}

#[test]
fn limits_are_arguments_and_are_named() {
    let error = post(&["A: b"; 4], ForwardedFields::Accept).unwrap_err();
    assert_eq!(error.kind, HeadErrorKind::TooLarge);
    assert_eq!(error.detail, "a request has at most 4 header fields");
    let long = [b'a'; 2049];
    assert_eq!(length(&long, 0, 4096), Ok(None));
    let error = length(&long, 0, 2048).unwrap_err();
    assert_eq!(error.kind, HeadErrorKind::TooLarge);
    assert_eq!(error.detail, "the head of a request has at most 2 KiB");
}
