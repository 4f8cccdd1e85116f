use super::*;

fn head(method: Method, target: &str) -> Head<'_> {
    Head {
        method,
        target,
        has_body: false,
        closes: false,
        if_none_match: Vec::new(),
        last_event_id: None,
    }
}

fn get(target: &str) -> Result<Route, Problem> {
    route(&head(Method::Get, target))
}

fn kind_of(target: &str) -> Kind {
    get(target).unwrap_err().kind
}

fn detail_of(target: &str) -> String {
    get(target).unwrap_err().detail
}

fn subject(client: Option<&str>, scope: &str) -> TokenSubject {
    TokenSubject {
        client: client.map(str::to_owned),
        scope: scope.to_owned(),
    }
}

#[test]
fn token_request_has_defaults() {
    let expected = TokenRequest {
        subject: subject(None, "data user"),
        min_ttl_ms: None,
        time_left_ms: 10_000,
        renew: None,
    };
    for path in [
        "/v1/token/user,data",
        "/v1/token/data%20user",
        "/v1/token/data,user?",
    ] {
        assert_eq!(
            get(path).unwrap(),
            Route::Token(expected.clone(), Format::Json),
            "{path}"
        );
    }
}

#[test]
fn query_of_a_token_request_is_applied() {
    let target = "/v1/token/data?client=ac%6De&min_ttl=1h30m&timeout=600&format=header&rejected=7";
    let expected = TokenRequest {
        subject: subject(Some("acme"), "data"),
        min_ttl_ms: Some(5_400_000),
        time_left_ms: 600_000,
        renew: Some(Renew::Rejected(7)),
    };
    assert_eq!(get(target).unwrap(), Route::Token(expected, Format::Header));
}

#[test]
fn every_path_has_its_route() {
    for (target, expected) in [
        (
            "/v1/watch/data?client=b",
            Route::Watch(subject(Some("b"), "data")),
        ),
        ("/v1/explain/data", Route::Explain(subject(None, "data"))),
        ("/v1/status", Route::Status),
        ("/v1/openapi.json", Route::OpenApi),
        ("/metrics", Route::Metrics),
        ("/livez", Route::Live),
        ("/readyz", Route::Ready),
        (
            "/readyz/acme/data%20user",
            Route::ReadySet {
                client: "acme".to_owned(),
                scope: "data user".to_owned(),
            },
        ),
    ] {
        assert_eq!(get(target).unwrap(), expected, "{target}");
    }
    for unknown in [
        "/",
        "/v1",
        "/v1/",
        "/v1/token",
        "/v1/status/",
        "/v1/token/a/b",
        "/readyz/acme",
    ] {
        assert_eq!(kind_of(unknown), Kind::NotFound, "{unknown}");
    }
}

#[test]
fn ambiguous_path_is_rejected() {
    for target in [
        "//v1/status",
        "/v1//status",
        "/./livez",
        "/v1/../livez",
        "/v1/%2e%2E/livez",
        "/%2e/livez",
        "/v1/token/%2e%2e",
        "/v1/token/%zz",
        "/v1/token/%2",
        "/v1/token/%",
        "/v1/token/%ff",
    ] {
        assert_eq!(kind_of(target), Kind::BadRequest, "{target}");
    }
}

#[test]
fn invalid_scopes_and_values_are_rejected() {
    for target in [
        "/v1/token/%20",
        "/v1/token/",
        "/v1/token/data+user",
        "/v1/token/d%22a",
        "/v1/token/d%0aa",
        "/v1/token/data?min_ttl=",
        "/v1/token/data?min_ttl=-1",
        "/v1/token/data?min_ttl=1.5s",
        "/v1/token/data?timeout=11m",
        "/v1/token/data?timeout=x",
        "/v1/token/data?format=curl",
        "/v1/token/data?rejected=x",
        "/v1/token/data?rejected=+1",
        "/v1/token/data?rejected=-1",
        "/v1/token/data?rejected=9007199254740992",
        "/v1/token/data?rejected=",
        "/v1/token/data?client=a&client=a",
        "/v1/token/data?client=%ff",
    ] {
        assert_eq!(kind_of(target), Kind::BadRequest, "{target}");
    }
}

#[test]
fn unknown_query_parameter_is_named_with_the_nearest_one() {
    assert!(detail_of("/v1/token/data?min-ttl=1").contains("did you mean \"min_ttl\"?"));
    assert!(
        detail_of("/v1/token/data?scope=x").contains("client, min_ttl, timeout, format, rejected")
    );
    assert!(detail_of("/v1/status?a").contains("this path has none"));
    let long = format!("/v1/status?{}=1", "x".repeat(5000));
    assert!(detail_of(&long).len() < 200);
}

#[test]
fn method_or_body_that_the_path_does_not_have_is_rejected() {
    let problem = route(&head(Method::Other, "/v1/status?x=1")).unwrap_err();
    assert_eq!(
        (problem.kind, problem.allow),
        (Kind::MethodNotAllowed, Some("GET, HEAD"))
    );
    let problem = route(&head(Method::Head, "/v1/watch/data")).unwrap_err();
    assert_eq!(
        (problem.kind, problem.allow),
        (Kind::MethodNotAllowed, Some("GET"))
    );
    assert!(route(&head(Method::Head, "/v1/token/data")).is_ok());
    let with_body = |method| Head {
        has_body: true,
        ..head(method, "/v1/status")
    };
    assert_eq!(
        route(&with_body(Method::Get)).unwrap_err().kind,
        Kind::BadRequest
    );
    assert_eq!(
        route(&with_body(Method::Other)).unwrap_err().kind,
        Kind::MethodNotAllowed
    );
    assert_eq!(
        route(&head(Method::Other, "/nope")).unwrap_err().kind,
        Kind::NotFound
    );
}
