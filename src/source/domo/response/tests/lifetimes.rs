//! How long a token is valid, and how that was derived.

use super::*;

const DATE: (&str, &str) = ("date", "Mon, 23 Nov 2026 12:00:00 GMT");

/// `DATE` in seconds since 1970.
const NOW: i64 = 1_795_435_200;

/// Returns a token that expires so many seconds after [`DATE`] by itself.
fn jwt(seconds: i64) -> String {
    let payload = format!("{{\"exp\":{},\"scope\":[\"data\"]}}", NOW + seconds);
    let parts = ["{\"alg\":\"RS256\"}", &payload, "sig"];
    parts.map(|part| URL_SAFE_NO_PAD.encode(part)).join(".")
}

#[test]
fn expires_in_is_parsed_as_number_and_text() {
    let read = |text: &str| {
        let fetched = token(format!(r#"{{"access_token":"abc","expires_in":{text}}}"#)).ok()?;
        Some((fetched.lifetime.as_secs(), fetched.lifetime_source))
    };
    let stated = |seconds| Some((seconds, LifetimeSource::Stated));
    let capped = |seconds| {
        let stated = Duration::from_secs(seconds);
        Some((86_400, LifetimeSource::Capped { stated }))
    };
    for (written, expected) in [
        ("1", stated(1)),
        ("3599", stated(3599)),
        (r#""3599""#, stated(3599)),
        ("3599.0", stated(3599)),
        ("3599.9", stated(3599)),
        ("1e3", stated(1000)),
        ("86400", stated(86_400)),
        ("86401", capped(86_401)),
        ("3599000", capped(3_599_000)),
        ("1e5", capped(100_000)),
        ("100000.5", capped(100_000)),
        ("1e18", capped(u64::MAX)),
        ("1e300", capped(u64::MAX)),
        ("100000000000000000000", capped(u64::MAX)),
        (r#""100000000000000000000""#, capped(u64::MAX)),
        ("null", Some((300, LifetimeSource::Assumed))),
        ("0", None),
        ("0.5", None),
        ("-1", None),
        ("-1e300", None),
        (r#""3599.0""#, None),
        (r#"" 3599""#, None),
        (r#""-1""#, None),
        (r#""""#, None),
        (r#""soon""#, None),
        ("true", None),
        ("[]", None),
        ("{}", None),
    ] {
        assert_eq!(read(written), expected, "{written}");
    }
    let absent = token(r#"{"access_token":"abc"}"#).unwrap();
    assert_eq!(
        (absent.lifetime, absent.lifetime_source),
        (LIFETIME_ASSUMED, LifetimeSource::Assumed)
    );
}

#[test]
fn jwt_expiry_is_used_if_it_is_earlier_by_the_servers_clock() {
    let read = |expires_in: &str, exp: i64, headers: &[(&'static str, &str)]| {
        let token = jwt(exp);
        let body = format!(r#"{{"access_token":"{token}","expires_in":{expires_in}}}"#);
        let fetched = result(&answer(200, headers, body)).unwrap();
        (fetched.lifetime.as_secs(), fetched.lifetime_source)
    };
    let itself = |left, stated| {
        let stated = Duration::from_secs(stated);
        (left, LifetimeSource::OwnExpiry { stated })
    };
    let stated = |seconds| (seconds, LifetimeSource::Stated);
    let capped = |seconds| {
        let stated = Duration::from_secs(seconds);
        (86_400, LifetimeSource::Capped { stated })
    };
    let cached = [DATE, ("age", "3000")];
    for (expires_in, exp, headers, expected) in [
        ("3599", 3600, &[DATE][..], stated(3599)),
        ("3599", 3539, &[DATE], stated(3599)),
        ("3599", 3538, &[DATE], itself(3538, 3599)),
        ("3599", 30, &[DATE], itself(30, 3599)),
        ("3599", 7200, &[DATE], stated(3599)),
        ("3599", 3599, &cached, itself(599, 3599)),
        ("3599000", 3599, &[DATE], itself(3599, 3_599_000)),
        ("3599000", 90_000, &[DATE], capped(3_599_000)),
        ("null", 100, &[DATE], itself(100, 300)),
        ("null", 3599, &[DATE], (300, LifetimeSource::Assumed)),
        ("30", -20, &[DATE], stated(30)),
        ("3599", -3600, &[], stated(3599)),
        ("3599", -3600, &[("age", "3000")], stated(3599)),
        ("3599", -3600, &[("date", "now")], stated(3599)),
    ] {
        let found = read(expires_in, exp, headers);
        assert_eq!(found, expected, "{expires_in} {exp} {headers:?}");
    }
}

#[test]
fn token_expired_by_its_jwt_is_transient_and_a_cache_is_suggested() {
    let read = |exp: i64, headers: &[(&'static str, &str)]| {
        let body = format!(r#"{{"access_token":"{}","expires_in":3599}}"#, jwt(exp));
        transient(result(&answer(200, headers, body)).unwrap_err())
    };
    for (exp, headers, hint) in [
        (0, &[DATE][..], "the response may be from a cache"),
        (-3600, &[DATE], "the response may be from a cache"),
        (
            -3600,
            &[DATE, ("age", "3000")],
            "from a cache (it has an Age header)",
        ),
        (
            600,
            &[DATE, ("age", "3000")],
            "from a cache (it has an Age header)",
        ),
    ] {
        let (cause, message) = read(exp, headers);
        assert_eq!(cause, Cause::Unusable);
        assert!(
            message.contains("the token has expired by its exp claim"),
            "{message}"
        );
        assert!(message.contains(hint), "{message}");
    }
}

#[test]
fn local_clock_changes_no_lifetime_and_is_reported_without_a_date() {
    let read = |expires_in: &str, exp: i64, headers: &[(&'static str, &str)]| {
        let body = format!(
            r#"{{"access_token":"{}","expires_in":{expires_in}}}"#,
            jwt(exp)
        );
        let received = Duration::from_secs(NOW.unsigned_abs());
        let fetched = result(&Answer {
            received: SystemTime::UNIX_EPOCH + received,
            ..answer(200, headers, body)
        });
        let fetched = fetched.unwrap();
        (fetched.lifetime.as_secs(), fetched.lifetime_source)
    };
    let other = ("date", "Mon, 23 Nov 2026 09:00:00 GMT");
    for (expires_in, exp, headers, expected) in [
        ("3599", 3599, &[][..], (3599, LifetimeSource::Stated)),
        ("3599", 30, &[], (3599, LifetimeSource::Unchecked)),
        (
            "3599",
            -3600,
            &[("age", "3000")],
            (3599, LifetimeSource::Unchecked),
        ),
        ("null", -3600, &[], (300, LifetimeSource::Assumed)),
        ("3599", -3600, &[other], (3599, LifetimeSource::Stated)),
    ] {
        let found = read(expires_in, exp, headers);
        assert_eq!(found, expected, "{expires_in} {exp} {headers:?}");
    }
}
