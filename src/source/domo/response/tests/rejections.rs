//! What is a rejection, and what is transient.

use super::*;

#[test]
fn rejection_is_recognized_in_domos_and_oauths_form() {
    let domo = r#"{"status":401,"statusReason":"Unauthorized","message":"Bad client credentials","toe":"AB-CD-EF"}"#;
    let oauth = r#"{"error":"invalid_client","error_description":"who are you"}"#;
    for (status, body, named) in [
        (
            401,
            domo,
            "Domo returned 401: Bad client credentials (toe AB-CD-EF)",
        ),
        (400, oauth, "Domo returned 400: invalid_client: who are you"),
        (
            403,
            domo,
            "Domo returned 403: Bad client credentials (toe AB-CD-EF)",
        ),
        (
            403,
            r#"{"status":"403","message":"no"}"#,
            "Domo returned 403: no",
        ),
        (
            401,
            r#"{"error":"temporarily_unavailable"}"#,
            "Domo returned 401: temporarily_unavailable",
        ),
        (
            401,
            "<html>",
            "api.domo.example returned 401: the response may be from a proxy or gateway",
        ),
        (
            401,
            "",
            "api.domo.example returned 401: the response may be from a proxy or gateway",
        ),
    ] {
        let expected = (false, named.to_owned());
        assert_eq!(
            denied(refuse(status, &[], body)),
            expected,
            "{status} {body}"
        );
    }
    assert!(
        denied(refuse(401, &[("retry-after", "30")], ""))
            .1
            .contains("401")
    );
    for status in [400, 401, 403] {
        assert!(denied(refuse(status, &[], r#"{"error":"invalid_scope"}"#)).0);
    }
}

#[test]
fn rejection_records_whether_its_body_has_the_form_of_domo() {
    let challenge = [("www-authenticate", "Bearer error=\"invalid_client\"")];
    for (headers, body, has_form) in [
        (
            &[][..],
            r#"{"status":401,"message":"Bad client credentials"}"#,
            true,
        ),
        (&[], r#"{"error":"invalid_client"}"#, true),
        (
            &[],
            r#"{"error":"Unauthorized","status":401,"message":"no"}"#,
            false,
        ),
        (&[], "<html>log in</html>", false),
        (&[], "", false),
        (&challenge, "", false),
    ] {
        let FetchError::Denied { in_domos_form, .. } = refuse(401, headers, body) else {
            panic!("not denied: {body}");
        };
        assert_eq!(in_domos_form, has_form, "{body}");
    }
}

#[test]
fn other_errors_are_transient() {
    let oauth = r#"{"error":"temporarily_unavailable"}"#;
    let gateways =
        r#"{"timestamp":"2026-01-01","status":400,"error":"Bad Request","path":"/oauth/token"}"#;
    let springs = r#"{"timestamp":1,"status":403,"error":"Forbidden","message":"","path":"/"}"#;
    for (status, body, cause) in [
        (400, "<html>", Cause::Unusable),
        (403, r#"{"message":"no"}"#, Cause::Unusable),
        (403, r#"{"status":403}"#, Cause::Unusable),
        (403, r#"{"status":"error","message":"no"}"#, Cause::Unusable),
        (400, gateways, Cause::Unusable),
        (403, springs, Cause::Unusable),
        (400, r#"{"error":null}"#, Cause::Unusable),
        (400, r#"{"error":""}"#, Cause::Unusable),
        (400, r#"{"error":"Invalid_client"}"#, Cause::Unusable),
        (400, r#"{"error":"rate limited"}"#, Cause::RateLimited),
        (400, r#"["invalid_scope"]"#, Cause::Unusable),
        (400, r#"{"error":"a","error":"b"}"#, Cause::Unusable),
        (404, oauth, Cause::NotFound),
        (407, "", Cause::Proxy),
        (408, "", Cause::Server),
        (425, "", Cause::Server),
        (429, oauth, Cause::RateLimited),
        (500, oauth, Cause::Server),
        (503, "<html>", Cause::Server),
        (511, "<html>", Cause::Server),
        (302, "", Cause::RedirectRefused),
        (307, oauth, Cause::RedirectRefused),
        (304, "", Cause::Unusable),
        (204, "", Cause::Unusable),
        (418, "", Cause::Unusable),
    ] {
        assert_eq!(
            transient(refuse(status, &[], body)).0,
            cause,
            "{status} {body}"
        );
    }
}

#[test]
fn rejection_that_asks_to_retry_later_is_transient() {
    for status in [400, 403] {
        for (code, cause) in [
            ("temporarily_unavailable", Cause::Server),
            ("server_error", Cause::Server),
            ("slow_down", Cause::RateLimited),
            ("rate_limit", Cause::RateLimited),
            ("rate_limit_exceeded", Cause::RateLimited),
            ("rate_limited", Cause::RateLimited),
            ("too_many_requests", Cause::RateLimited),
        ] {
            let body = format!(r#"{{"error":"{code}","error_description":"later"}}"#);
            let error = refuse(status, &[], body);
            let message = format!("Domo returned {status}: {code}: later");
            assert_eq!(transient(error), (cause, message));
        }
        for body in [
            r#"{"error":"invalid_client"}"#,
            r#"{"status":403,"message":"Bad client credentials"}"#,
            r#"{"message":"no"}"#,
            "<html>",
        ] {
            let error = refuse(status, &[("retry-after", "30")], body);
            let FetchError::Transient {
                cause, retry_after, ..
            } = error
            else {
                panic!("denied: {body}");
            };
            assert_eq!(
                (cause, retry_after),
                (Cause::Server, Some(Duration::from_secs(30)))
            );
        }
        let nonsense = refuse(status, &[("retry-after", "soon")], r#"{"error":"a"}"#);
        assert!(denied(nonsense).1.contains("Domo"));
    }
}

#[test]
fn retry_after_is_passed_on_with_every_transient_answer() {
    let wait = [("retry-after", "30")];
    let cases = [
        answer(200, &wait, "{}"),
        answer(200, &[wait[0], ("content-type", "text/html")], ""),
        answer(200, &[wait[0], ("content-encoding", "br")], ""),
        cut(answer(200, &wait, "{"), Cause::Connect),
        answer(204, &wait, ""),
        answer(302, &wait, ""),
        answer(404, &wait, ""),
        answer(429, &wait, ""),
        answer(503, &wait, ""),
    ];
    for answer in cases {
        let error = result(&answer).unwrap_err();
        let expected = Some(Duration::from_secs(30));
        assert!(
            matches!(error, FetchError::Transient { retry_after, .. } if retry_after == expected),
            "{error:?}"
        );
    }
}

#[test]
fn compressed_rejection_is_parsed_like_a_plain_one() {
    let coded = [("content-encoding", "gzip")];
    let scope = gzip(r#"{"error":"invalid_scope","error_description":"no dta"}"#);
    let domo = gzip(r#"{"status":401,"message":"Bad client credentials","toe":"A-B-C"}"#);
    for headers in [&coded[..], &[]] {
        let (scope_only, message) = denied(refuse(400, headers, &scope));
        assert_eq!(
            (scope_only, &*message),
            (true, "Domo returned 400: invalid_scope: no dta")
        );
        let (_, message) = denied(refuse(401, headers, &domo));
        assert_eq!(
            message,
            "Domo returned 401: Bad client credentials (toe A-B-C)"
        );
    }
    let (cause, message) = transient(refuse(400, &[("content-encoding", "zstd")], "x"));
    assert_eq!(cause, Cause::Unusable);
    assert!(
        message.contains("Content-Encoding \"zstd\" is not supported"),
        "{message}"
    );
    assert!(transient(refuse(503, &coded, "<html>")).1.contains("503"));
}

#[test]
fn partial_error_body_is_used_as_far_as_its_members_are_complete() {
    let scope = r#"{"error":"invalid_scope","error_description":"no dta"}"#;
    let of = |status, body: &[u8]| {
        let long = [("content-length", "9999")];
        result(&cut(answer(status, &long, body), Cause::Connect)).unwrap_err()
    };
    let (scope_only, message) = denied(of(400, scope.as_bytes()));
    assert_eq!(
        (scope_only, &*message),
        (true, "Domo returned 400: invalid_scope: no dta")
    );
    let (scope_only, message) = denied(of(400, &scope.as_bytes()[..scope.len() - 4]));
    assert_eq!(
        (scope_only, &*message),
        (true, "Domo returned 400: invalid_scope")
    );
    let (_, message) = denied(of(400, format!("{scope}<!-- scanned -->").as_bytes()));
    assert!(message.ends_with("no dta"), "{message}");
    let compressed = gzip(format!("{scope}{}", " ".repeat(5000)));
    let coded = [("content-encoding", "gzip")];
    let part = &compressed[..compressed.len() - 8];
    assert!(denied(result(&cut(answer(400, &coded, part), Cause::Connect)).unwrap_err()).0);
    assert_eq!(
        transient(of(400, &scope.as_bytes()[..15])).0,
        Cause::Unusable
    );
    assert_eq!(transient(of(503, b"<ht")).0, Cause::Server);
    assert!(denied(of(401, b"<ht")).1.contains("401"));
}
