//! `[gateway]` and its applications.

use domo_token_core::api_rules::first_match;

use super::*;

/// Returns a config of two clients with these lines after `[gateway]`.
fn with_gateway(lines: &str) -> Result<Config, String> {
    parse(&format!(
        "[broker]\ndefault_client = \"acme\"\n[clients.acme]\n{CLIENT}[clients.local]\n{CLIENT}\
         allow_http_loopback = true\n[gateway]\n{lines}"
    ))
}

fn gateway(lines: &str) -> GatewayConfig {
    with_gateway(lines).unwrap().gateway.unwrap()
}

/// Returns an application with these lines in its table.
fn app(lines: &str) -> Result<AppConfig, String> {
    let allow = "allow = [{ methods = [\"GET\"], path = \"/v1/datasets/**\", scopes = \"data\" }]";
    let text = format!("listen = \"127.0.0.1:1\"\n[gateway.apps.etl]\n{allow}\n{lines}");
    let config = with_gateway(&text)?;
    Ok(config.gateway.unwrap().apps.remove("etl").unwrap())
}

fn beside(name: &str) -> PathBuf {
    Path::new("/etc/domo-token").join(name)
}

#[test]
fn gateway_without_an_application_has_defaults_and_a_notice() {
    let config = with_gateway("listen = \"127.0.0.1:8640\"").unwrap();
    assert_eq!(
        config.notices,
        [
            "gateway.apps: no application, so every request is denied; add one: domo-tokend app add NAME"
        ]
    );
    let gateway = config.gateway.unwrap();
    let expected = GatewayConfig {
        listen: Some("127.0.0.1:8640".parse().unwrap()),
        tls: None,
        key_file: NamedPath::new(
            Path::new("gateway.key"),
            Path::new("/etc/domo-token"),
            Naming::Keys,
        ),
        apps: BTreeMap::new(),
    };
    assert_eq!(gateway, expected);
    assert_eq!(gateway.files(), [beside("gateway.key")]);
    let none = parse(&format!("[clients.acme]\n{CLIENT}")).unwrap();
    assert_eq!(none.gateway, None);
    assert_eq!(environment::from_env(&[]).unwrap().gateway, None);
}

#[test]
fn keys_of_a_gateway_take_effect() {
    let set = gateway(
        "tls_listen = \"[::1]:8641\"\ntls_cert_file = \"tls.pem\"\ntls_key_file = \"/run/tls.key\"\n\
         key_file = \"/var/lib/host.key\"\n[gateway.apps.\"e.t-l_2\"]\nclient = \"local\"\n\
         secret_hash_file = \"/etc/e.hash\"\nupstream = \"http://127.0.0.1:8080\"\nexpect = false\n\
         allow = [{ methods = [\"GET\", \"HEAD\"], path = \"/v1/users/**\", scopes = \"data\" }, \
         { methods = [\"*\"], path = \"/v1/datasets/**\", scopes = \"data\" }]",
    );
    let tls = set.tls.as_ref().unwrap();
    assert_eq!(
        (set.listen, tls.listen),
        (None, "[::1]:8641".parse().unwrap())
    );
    let app = &set.apps["e.t-l_2"];
    assert_eq!(app.client, "local");
    assert_eq!(app.upstream.as_str(), "http://127.0.0.1:8080/");
    assert!(!app.expect);
    let rule =
        |method, path| first_match(&app.allow, method, path).map(|rule| rule.path.to_string());
    assert_eq!(rule("HEAD", "/v1/users").as_deref(), Some("/v1/users/**"));
    assert_eq!(rule("POST", "/v1/users"), None);
    assert_eq!(
        rule("PUT", "/v1/datasets/7").as_deref(),
        Some("/v1/datasets/**")
    );
    let expected = [
        "/var/lib/host.key",
        "tls.pem",
        "/run/tls.key",
        "/etc/e.hash",
    ]
    .map(beside);
    assert_eq!(set.files(), expected);
}

#[test]
fn application_has_defaults_for_all_keys_but_its_client_and_its_rules() {
    let app = app("client = \"acme\"").unwrap();
    assert_eq!(app.secret_hash_file.path(), beside("etl.hash"));
    assert_eq!(app.upstream.as_str(), "https://api.domo.com/");
    assert!(app.expect);
}

#[test]
fn application_of_a_client_with_a_proxy_has_an_https_upstream() {
    let with_proxy = |upstream: &str| {
        parse(&format!(
            "[clients.acme]\n{CLIENT}proxy = \"http://proxy.example:3128\"\n\
             allow_http_loopback = true\n[gateway]\nlisten = \"127.0.0.1:1\"\n[gateway.apps.etl]\n\
             client = \"acme\"\nupstream = \"{upstream}\"\n\
             allow = [{{ methods = [\"*\"], path = \"/v1/**\", scopes = \"data\" }}]\n"
        ))
    };
    assert!(with_proxy("https://api.domo.com").is_ok());
    let error = with_proxy("http://127.0.0.1:8080").unwrap_err();
    assert!(
        error.contains("gateway.apps.etl.upstream: over http"),
        "{error}"
    );
}

#[test]
fn listeners_of_a_gateway_are_loopback_addresses_of_their_own() {
    let tls = "tls_cert_file = \"c\"\ntls_key_file = \"k\"\ntls_listen";
    let same = format!("listen = \"127.0.0.1:1\"\n{tls} = \"127.0.0.1:1\"");
    let error = with_gateway(&same).unwrap_err();
    assert!(
        error.contains("gateway.tls_listen: is the address of gateway.listen; choose another port"),
        "{error}"
    );
    for right in [
        format!("listen = \"127.0.0.1:0\"\n{tls} = \"127.0.0.1:0\""),
        format!("listen = \"127.0.0.1:1\"\n{tls} = \"127.0.0.2:1\""),
        format!("listen = \"127.0.0.1:1\"\n{tls} = \"[::1]:1\""),
    ] {
        assert!(with_gateway(&right).is_ok(), "{right}");
    }
    for wrong in [
        "0.0.0.0:1",
        "[::]:1",
        "10.0.0.1:1",
        "localhost:1",
        "127.0.0.1",
        ":1",
        "",
    ] {
        let error = with_gateway(&format!("listen = \"{wrong}\"")).unwrap_err();
        assert!(error.contains("must be a loopback address"), "{error}");
    }
    let metrics = "listen = \"127.0.0.1:1\"\n[metrics]\nlisten = \"127.0.0.1:1\"";
    let error = with_gateway(metrics).unwrap_err();
    assert!(
        error.contains("is the address of metrics.listen"),
        "{error}"
    );
}

#[test]
fn changed_listener_of_a_gateway_needs_a_restart_and_a_changed_application_does_not() {
    let settings = |lines: &str| with_gateway(lines).unwrap().start_settings();
    let tls = "tls_cert_file = \"c\"\ntls_key_file = \"k\"\ntls_listen = \"127.0.0.1:2\"";
    let old = settings("listen = \"127.0.0.1:1\"");
    let none = parse(&format!("[clients.acme]\n{CLIENT}"))
        .unwrap()
        .start_settings();
    let both = settings(&format!("listen = \"127.0.0.1:3\"\n{tls}"));
    assert_eq!(
        old.changed_keys(&both),
        ["gateway.listen", "gateway.tls_listen"]
    );
    assert_eq!(old.changed_keys(&none), ["gateway.listen"]);
    assert_eq!(none.changed_keys(&old), ["gateway.listen"]);
    let app = "listen = \"127.0.0.1:1\"\nkey_file = \"other\"\n[gateway.apps.etl]\nclient = \"acme\"\n\
               allow = [{ methods = [\"*\"], path = \"/v1/**\", scopes = \"data\" }]";
    assert_eq!(old.changed_keys(&settings(app)), [""; 0]);
}

#[test]
fn file_of_a_gateway_is_not_the_audit_file() {
    for file in ["gateway.key", "etl.hash"] {
        let text = format!(
            "listen = \"127.0.0.1:1\"\n[gateway.apps.etl]\nclient = \"acme\"\n\
             allow = [{{ methods = [\"*\"], path = \"/v1/**\", scopes = \"data\" }}]\n\
             [audit]\nfile = \"{file}\"\n"
        );
        let error = with_gateway(&text).unwrap_err();
        assert!(
            error.contains("audit.file: must not be the config"),
            "{error}"
        );
    }
}
