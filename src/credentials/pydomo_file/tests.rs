#![expect(clippy::unwrap_used, reason = "in a test, what fails says so")]

use super::*;

/// Returns id and secret of a file for Domo's own host, or its problem.
fn found(text: &str) -> Result<(String, String), String> {
    let url = Url::parse(crate::config::TOKEN_URL).unwrap();
    let found = Connection::read(text).and_then(|found| found.checked(&url));
    let found = found.map_err(|fault| {
        let line = fault.line.map(|line| line.to_string()).unwrap_or_default();
        format!("{line}: {}", fault.problem)
    })?;
    Ok((found.client, found.secret.to_string()))
}

#[test]
fn file_of_pydomos_example_has_id_and_secret() {
    let text = "; ours\n[other]\nclient = no\n[client_auth]\nClient = 441e307a\n\
                # secret = commented\nsecret: a=b\napi_host = api.domo.com\nuse_https = True\n";
    let pair = Ok(("441e307a".to_owned(), "a=b".to_owned()));
    assert_eq!(found(text), pair);
}

#[test]
fn file_that_pydomo_rejects_is_an_error_with_what_to_write() {
    let pair = "client = 441e307a\nsecret = c4nary\n";
    for (text, expected) in [
        (
            pair.to_owned(),
            "1: text before the first section; begin the file with [client_auth]",
        ),
        (String::new(), ": no section [client_auth] in it"),
        (
            format!("[Client_Auth]\n{pair}"),
            ": the section's name is misspelled; write [client_auth]",
        ),
        (
            format!("[ client_auth ]\n{pair}"),
            ": the section's name is misspelled",
        ),
        (
            "[client_auth]\nclient_id = a\nsecret = c4nary\n".to_owned(),
            "rename client_id to client",
        ),
        (
            "[client_auth]\nclient = a\nclient_secret = c4nary\n".to_owned(),
            "rename client_secret to secret",
        ),
        (
            "[client_auth]\nclient = a\nsecret =\n".to_owned(),
            ": its secret is empty; write secret = VALUE",
        ),
        (
            "[client_auth]\nclient = a\n".to_owned(),
            "add secret = VALUE",
        ),
        (
            "[client_auth]\nclient = a\n\tsecret = c4nary\n".to_owned(),
            "remove the indentation of secret",
        ),
        (
            format!("[client_auth]\n{pair}use_https = 5%\n"),
            "4: a single %",
        ),
        (
            format!("[client_auth]\n{pair}secret = other\n"),
            "4: duplicate key",
        ),
    ] {
        let error = found(&text).unwrap_err();
        assert!(error.contains(expected), "{error}");
        assert!(!error.contains("c4nary"), "{error}");
    }
}

#[test]
fn invalid_id_is_an_error_with_its_line() {
    let of = |id: &str| found(&format!("[client_auth]\nsecret = c4nary\nclient = {id}\n"));
    assert_eq!(
        of("\"441e307a\"").unwrap_err(),
        "3: its client is enclosed in quotes; remove them"
    );
    assert!(
        of("441e307a # prod")
            .unwrap_err()
            .contains("without a space")
    );
    assert_eq!(of("441e307a").unwrap().0, "441e307a");
}

#[test]
fn host_that_is_not_token_urls_is_an_error_that_names_the_mistake() {
    let of = |host: &str| {
        let pair = "client = a\nsecret = c4nary\n";
        found(&format!("[client_auth]\n{pair}api_host = {host}\n"))
    };
    for right in ["api.domo.com", "https://api.domo.com/", "API.domo.com"] {
        assert!(of(right).is_ok(), "{right}");
    }
    for (host, message) in [
        ("\"api.domo.com\"", "4: its api_host is enclosed in quotes"),
        (
            "api.domo.com  # prod",
            "4: its api_host has a comment after it",
        ),
        (
            "api.domo.com ; prod",
            "4: its api_host has a comment after it",
        ),
        ("", "4: its api_host is empty"),
        (
            "api.domo.com.evil.example",
            "4: its api_host is not the host of token_url",
        ),
    ] {
        let error = of(host).unwrap_err();
        assert!(error.starts_with(message), "{error}");
    }
    let local = Url::parse("http://127.0.0.1:8080/oauth/token").unwrap();
    assert!(is_host_of("127.0.0.1:8080", &local));
}
