#![expect(clippy::unwrap_used, reason = "in a test, what fails says so")]

mod callers;
mod environment;
mod fleet;
mod gateway;

use domo_token_protocol::scope::ScopeSet;

use super::*;

const CLIENT: &str = "client_id = \"441e307a\"\nclient_secret_file = \"acme.secret\"\n\
                      tokens = [\"data\"]\n";

/// Returns the config of that text, in `/etc/domo-token`.
fn parse(text: &str) -> Result<Config, String> {
    let parsed = Config::parse(text, Path::new("/etc/domo-token/config.toml"));
    parsed.map_err(|error| error.to_string())
}

/// Returns a client with these lines besides the least that it needs.
fn client(lines: &str) -> ClientConfig {
    let text = format!("[clients.acme]\n{CLIENT}{lines}\n");
    parse(&text).unwrap().clients.remove("acme").unwrap()
}

/// Returns a config of one client with that key in `[broker]`.
fn with_broker(line: &str) -> Result<Config, String> {
    parse(&format!("[broker]\n{line}\n[clients.acme]\n{CLIENT}"))
}

#[test]
fn default_client_is_the_only_one_or_the_configured_one() {
    let default = |text: &str| parse(text).map(|config| config.default_client);
    let one = format!("[clients.acme]\n{CLIENT}");
    assert_eq!(default(&one).unwrap().as_deref(), Some("acme"));
    let two = format!("{one}[clients.beta]\n{CLIENT}");
    assert_eq!(default(&two), Ok(None));
    let named = format!("[broker]\ndefault_client = \"beta\"\n{two}");
    assert_eq!(default(&named).unwrap().as_deref(), Some("beta"));
    let wrong = format!("[broker]\ndefault_client = \"gamma\"\n{two}");
    assert!(default(&wrong).unwrap_err().contains("no such client"));
}

#[test]
fn socket_mode_grants_its_owner_access_and_nobody_execution() {
    let mode = |text: &str| {
        let config = with_broker(&format!("socket_mode = \"{text}\""));
        config.map(|config| config.broker.socket_mode)
    };
    for (text, expected) in [
        ("0600", 0o600),
        ("660", 0o660),
        ("0666", 0o666),
        ("0640", 0o640),
        ("0602", 0o602),
    ] {
        assert_eq!(mode(text), Ok(expected), "{text}");
    }
    for wrong in [
        "0700", "0777", "0670", "0661", "0400", "0200", "0066", "60", "6", "06600", "1660", "+660",
        "0o660", "", "0680", "00600",
    ] {
        let error = mode(wrong).unwrap_err();
        assert!(error.contains("must be an octal mode"), "{wrong}: {error}");
    }
    assert_eq!(with_broker("").unwrap().broker.socket_mode, 0o600);
}

#[test]
fn unset_keys_have_defaults_and_set_keys_take_effect() {
    let plain = with_broker("").unwrap();
    assert!(plain.broker.keep_over_restart && !plain.broker.shared_directory);
    assert_eq!((plain.metrics.listen, &plain.audit.file), (None, &None));
    assert_eq!((&plain.log.level, &plain.broker.socket), (&None, &None));
    let set = "keep_over_restart = false\nshared_directory = true\nsocket = \"run/s.sock\"\n\
               [metrics]\nlisten = \"[::1]:9347\"\n[log]\nlevel = \"debug\"\n\
               [audit]\nfile = \"/var/log/a.jsonl\"";
    let set = with_broker(set).unwrap();
    assert!(!set.broker.keep_over_restart && set.broker.shared_directory);
    assert_eq!(set.metrics.listen, "[::1]:9347".parse().ok());
    assert_eq!(set.log.level.as_deref(), Some("debug"));
    assert_eq!(set.audit.file, Some("/var/log/a.jsonl".into()));
    assert_eq!(set.broker.socket, Some("/etc/domo-token/run/s.sock".into()));
    assert_eq!(set.path, Some("/etc/domo-token/config.toml".into()));
}

#[test]
fn a_clients_name_has_up_to_64_characters() {
    let named = |name: &str| parse(&format!("[clients.\"{name}\"]\n{CLIENT}"));
    assert!(named(&"n".repeat(MAX_NAME)).is_ok());
    assert!(named("A.b_c-9").is_ok());
    for wrong in [&"n".repeat(MAX_NAME + 1), "", "a b", "a/b", "ä"] {
        assert!(named(wrong).unwrap_err().contains("a client's name"));
    }
}

#[test]
fn endpoint_is_domos_unless_another_is_configured() {
    let plain = client("").endpoint;
    assert_eq!(plain.url.as_str(), TOKEN_URL);
    assert_eq!(plain.method, TokenMethod::Post);
    assert_eq!((plain.proxy, plain.proxy_auth_file), (None, None));
    let method = |name: &str| {
        client(&format!("token_method = \"{name}\""))
            .endpoint
            .method
    };
    assert_eq!(method("get"), TokenMethod::Get);
    assert_eq!(method("post"), TokenMethod::Post);
    let set = client(
        "token_url = \"https://domo.example/oauth/token\"\nca_file = \"own.pem\"\n\
         proxy = \"http://proxy.example:3128\"\nproxy_auth_file = \"/run/login\"",
    );
    assert_eq!(
        set.endpoint.url.as_str(),
        "https://domo.example/oauth/token"
    );
    assert_eq!(
        set.endpoint.proxy.unwrap().as_str(),
        "http://proxy.example:3128/"
    );
    assert_eq!(set.endpoint.proxy_auth_file, Some("/run/login".into()));
    assert_eq!(set.endpoint.ca_file, Some("/etc/domo-token/own.pem".into()));
}

#[test]
fn token_url_is_https_or_loopback() {
    let may = |url: &str, http: bool| validate::token_url(url, http).is_ok();
    for loopback in ["127.0.0.1", "127.1.2.3", "[::1]", "localhost"] {
        let url = format!("http://{loopback}:8080/oauth/token");
        assert!(may(&url, true) && !may(&url, false), "{url}");
    }
    for url in [
        "http://10.0.0.1/oauth/token",
        "http://[::2]/oauth/token",
        "http://localhost.example/oauth/token",
        "https://user@api.domo.com/oauth/token",
        "https://:word@api.domo.com/oauth/token",
        "https://api.domo.com/oauth/token?a=b",
        "https://api.domo.com/oauth/token#a",
        "https://api.domo.com",
        "https://api.domo.com/",
        "ftp://api.domo.com/oauth/token",
        "api.domo.com/oauth/token",
    ] {
        assert!(!may(url, true), "{url}");
    }
    assert!(may("https://api.domo.com/oauth/token", false));
}

#[test]
fn a_proxy_is_scheme_host_and_port() {
    let may = |url: &str| validate::proxy_url(url, Naming::Keys).is_ok();
    assert!(may("http://proxy.example:3128") && may("https://proxy.example"));
    for url in [
        "http://proxy.example/path",
        "http://proxy.example?a",
        "http://proxy.example#a",
        "http://user@proxy.example",
        "http://user:word@proxy.example",
        "socks5://proxy.example",
        "socks5://proxy.example/",
        "http://",
        "proxy.example:3128",
    ] {
        assert!(!may(url), "{url}");
    }
}

#[test]
fn token_url_over_http_with_a_proxy_is_refused_in_either_order() {
    let http = "allow_http_loopback = true\ntoken_url = \"http://localhost:8080/oauth/token\"";
    for proxy in ["http://proxy.example:3128", "https://proxy.example"] {
        let proxy = format!("proxy = \"{proxy}\"");
        for lines in [format!("{http}\n{proxy}"), format!("{proxy}\n{http}")] {
            let error = parse(&format!("[clients.acme]\n{CLIENT}{lines}\n")).unwrap_err();
            assert!(
                error.contains("clients.acme.proxy: cannot be combined with a token_url over http"),
                "{error}"
            );
        }
        client(&proxy);
    }
}

#[test]
fn scope_sets_are_sorted_without_duplicates() {
    let text = "[clients.acme]\nclient_id = \"a\"\nclient_secret_env = \"S\"\n\
                tokens = [\"user data\", \"data\", \"data,user\"]";
    let tokens = parse(text).unwrap().clients.remove("acme").unwrap().tokens;
    let tokens: Vec<&str> = tokens.iter().map(ScopeSet::as_str).collect();
    assert_eq!(tokens, ["data", "data user"]);
}

/// Returns the config of a client whose id and secret come from these lines.
fn credentials(lines: &str) -> Result<Config, String> {
    parse(&format!("[clients.acme]\ntokens = [\"data\"]\n{lines}\n"))
}

#[test]
fn files_that_a_config_depends_on_are_watched() {
    let files = |lines: &str| credentials(lines).unwrap().files();
    let beside = |name: &str| Path::new("/etc/domo-token").join(name);
    let proxy =
        "proxy = \"http://proxy.example\"\nproxy_auth_file = \"login\"\nca_file = \"ca.pem\"";
    let pair = "client_id_file = \"id\"\nclient_secret_file = \"/run/secret\"\n";
    assert_eq!(
        files(&(pair.to_owned() + proxy)),
        [
            beside("ca.pem"),
            beside("login"),
            beside("id"),
            "/run/secret".into()
        ]
    );
    assert_eq!(files("client_file = \"domo.ini\""), [beside("domo.ini")]);
    let none: [PathBuf; 0] = [];
    assert_eq!(files("client_id = \"a\"\nclient_secret_env = \"S\""), none);
}

#[test]
fn only_an_inline_secret_makes_the_config_confidential() {
    let holds = |secret: &str| {
        let config = credentials(&format!("client_id = \"a\"\n{secret}")).unwrap();
        config.clients["acme"].holds_a_secret()
    };
    assert!(holds("client_secret = \"c4nary\""));
    for elsewhere in [
        "client_secret_file = \"s\"",
        "client_secret_env = \"S\"",
        "client_secret_credential = \"s\"",
        "client_secret_command = [\"pass\", \"domo\"]",
    ] {
        assert!(!holds(elsewhere), "{elsewhere}");
    }
    let file = credentials("client_file = \"domo.ini\"").unwrap();
    assert!(!file.clients["acme"].holds_a_secret());
}

#[test]
fn invalid_id_or_secret_is_an_error() {
    assert!(is_valid_client_id(&"a".repeat(256)) && is_valid_client_id("441e307a-b2a1"));
    for wrong in [&"a".repeat(257), "", "a b", "a\n", "\u{e9}", "a\u{7f}"] {
        assert!(!is_valid_client_id(wrong), "{wrong:?}");
    }
    for (wrong, message) in [
        ("${DOMO_CLIENT_ID}", "is a placeholder"),
        ("<YOUR_CLIENT_ID>", "is a placeholder"),
        ("DOMO_CLIENT_ID=441e307a", "begins with the name"),
        ("client_id: 441e307a", "begins with the name"),
        ("\u{201c}441e307a\u{201d}", "is enclosed in quotes"),
        ("441e307a\u{a0}", "ends with a space"),
        ("441e\u{200b}307a", "contains a zero-width space"),
        ("441e307a\u{2060}", "contains a zero-width space"),
        ("441e\u{ad}307a", "contains an invisible character"),
        ("$DOMO_CLIENT_ID", "is a placeholder"),
        ("DOMO_CLIENT_SECRET=5f3c", "begins with the name"),
        ("export client_secret = '5f3c'", "begins with the name"),
        ("API_SECRET=5f3c", "begins with the name"),
        ("secret: 5f3c", "begins with the name"),
        (&"5f3C".repeat(16), "looks like the secret"),
    ] {
        let fault = validate_id(wrong).unwrap();
        assert!(fault.contains(message), "{wrong}: {fault}");
    }
    let uuid = "441e307a-b2a1-4a99-8561-174e5b153fe1";
    let app = "000000004c12ae6f.apps.example:web";
    let digits = "5f3c".repeat(8);
    for right in ["a=b", "an-id", "QUJD==", uuid, app, &digits] {
        assert_eq!(validate_id(right), None, "{right}");
    }
    assert!(is_valid_secret("one of several words, \u{e9}"));
    assert!(
        !is_valid_secret("") && !is_valid_secret("two\nlines") && !is_valid_secret("\u{1b}[2J")
    );
}

#[test]
fn omitted_scope_sets_and_unresolved_principals_of_an_access_table_are_reported() {
    let nobody = users::overflow_uid();
    let table = format!(
        "tokens = [\"audit\", \"data\", \"user\"]\nclient_id = \"a\"\nclient_secret_env = \"S\"\n\
         [clients.acme.access]\n\"data\" = {{ users = [\"root\", 0, {nobody}, \"no-such-user\"], \
         groups = [\"root\", 0, \"no-such-group\"] }}\n"
    );
    let config = parse(&format!("[clients.acme]\n{table}")).unwrap();
    assert_eq!(
        config.notices,
        [
            "clients.acme.access has no entry for \"audit\", \"user\": denied to everyone, including root; add an entry to grant access"
        ]
    );
    let faults = [
        format!("user {nobody} stands for any user of another user namespace"),
        "user \"no-such-user\" does not exist on this host".to_owned(),
        "group \"no-such-group\" does not exist on this host".to_owned(),
    ];
    let expected =
        faults.map(|fault| format!("clients.acme.access: {fault}; the entry grants nothing"));
    assert_eq!(config.unresolved_principals(), expected);

    let whole = client("[clients.acme.access]\n\"data\" = { users = [0] }");
    assert!(whole.access.is_some());
    let text = format!("[clients.acme]\n{CLIENT}");
    assert!(
        parse(&text).unwrap().notices.is_empty(),
        "there is no table"
    );
}

#[test]
fn digests_are_equal_only_for_equal_texts() {
    let digest = |text: &str| with_broker(text).unwrap().digest;
    assert_eq!(
        digest("socket_mode = \"0660\""),
        digest("socket_mode = \"0660\"")
    );
    assert_ne!(
        digest("socket_mode = \"0660\""),
        digest("socket_mode = \"0666\"")
    );
}

#[test]
fn long_list_of_names_is_truncated_to_a_line() {
    let names = |count: usize| (0..count).map(|number| number.to_string());
    let of = |count| listed(&names(count).collect::<Vec<String>>());
    assert_eq!(of(2), "\"0\", \"1\"");
    assert!(of(20).ends_with("\"19\""));
    assert!(of(21).ends_with("\"19\" and 1 more"));
}

#[test]
fn error_position_is_line_and_character() {
    let position = |at| line_and_column("a\n\u{e9}b\n", at);
    assert_eq!(position(0), (1, 1));
    assert_eq!(position(1), (1, 2));
    assert_eq!(position(2), (2, 1));
    assert_eq!(position(4), (2, 2));
    assert_eq!(position(6), (3, 1));
}

#[test]
fn secret_variables_are_withheld_from_commands() {
    let text = "[clients.a]\nclient_id = \"a\"\nclient_secret_command = [\"pass\"]\ntokens = [\"data\"]\n\
                [clients.b]\nclient_id = \"b\"\nclient_secret_env = \"B_SECRET\"\ntokens = [\"data\"]\n\
                [clients.z]\nclient_id = \"z\"\nclient_secret_env = \"Z_SECRET\"\ntokens = [\"data\"]\n";
    let config = Config::parse(text, Path::new("/etc/config.toml")).unwrap();
    let CredentialsSource::Pair {
        secret: SecretSource::Command(command),
        ..
    } = &config.clients["a"].credentials
    else {
        panic!("no command: {config:?}");
    };
    assert_eq!(
        command.withheld,
        [
            "DOMO_CLIENT_SECRET",
            "DOMO_PROXY",
            "DOMO_PROXY_AUTH_FILE",
            "DOMO_FLEET_URL",
            "DOMO_FLEET_PASSWORD_FILE",
            "B_SECRET",
            "Z_SECRET"
        ]
    );
}

#[test]
fn path_of_a_new_file_may_look_like_a_secret_if_its_directory_exists() {
    let folder = tempfile::tempdir().unwrap();
    let parse = |key: &str, written: &str| {
        let (table, key) = key.split_once('.').unwrap();
        let text = format!("[{table}]\n{key} = \"{written}\"\n[clients.acme]\n{CLIENT}");
        Config::parse(&text, &folder.path().join("config.toml"))
    };
    let written = "production_logs/domo_token/audit_log";
    for key in ["audit.file", "broker.socket"] {
        for refused in [written, "production_logs_domo_token_audit_log"] {
            let error = parse(key, refused).unwrap_err().to_string();
            assert!(error.contains("looks like a secret"), "{error}");
        }
    }
    let path = folder.path().join(written);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    let found = parse("audit.file", written).unwrap();
    assert_eq!(found.audit.file.as_ref(), Some(&path));
    let found = parse("broker.socket", written).unwrap();
    assert_eq!(found.broker.socket, Some(path));
}

#[test]
fn client_name_of_32_or_more_hexadecimal_digits_is_a_masked_error() {
    let secret = "deadbeef".repeat(8);
    let client = |name: &str| parse(&format!("[clients.{name}]\n{CLIENT}"));
    for name in [&secret[..32], &secret, &secret.to_uppercase()] {
        let error = client(name).unwrap_err();
        assert!(error.contains("looks like a secret"), "{error}");
        assert!(!error.contains(&name[..9]), "{error}");
    }
    for name in [
        &secret[..31],
        "441e307a-1f3b-4f0d-9a5c-0d7e8c1b2a39",
        "warehouse-loader-of-the-finance-team",
    ] {
        client(name).unwrap();
    }
}

#[test]
fn audit_file_that_is_in_use_otherwise_is_an_error() {
    let with_audit = |file: &str| {
        parse(&format!(
            "[broker]\nsocket = \"/run/b.sock\"\n[audit]\nfile = \"{file}\"\n\
             [clients.acme]\n{CLIENT}ca_file = \"ca.pem\"\n"
        ))
    };
    for file in [
        "config.toml",
        "./config.toml",
        "/etc/domo-token/config.toml",
        "acme.secret",
        "/etc/domo-token//ca.pem",
        "/run/b.sock",
        "/run/b.sock.lock",
    ] {
        let error = with_audit(file).unwrap_err();
        assert!(error.contains("audit.file: must not be"), "{file}: {error}");
    }
    for file in ["audit.jsonl", "/run/audit.lock", "/dev/stdout"] {
        with_audit(file).unwrap();
    }
}

#[test]
fn audit_file_of_a_relative_config_is_compared_by_its_absolute_path() {
    let own = std::path::absolute("config.toml").unwrap();
    let text = format!(
        "[audit]\nfile = \"{}\"\n[clients.acme]\n{CLIENT}",
        own.display()
    );
    let error = Config::parse(&text, Path::new("./config.toml")).unwrap_err();
    assert!(error.to_string().contains("audit.file"), "{error}");
}
