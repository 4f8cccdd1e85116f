//! `[fleet]`, and the variables for it.

use url::Host;

use super::environment::from_env;
use super::*;

/// Returns a config of one client with these lines in `[fleet]`.
fn with_fleet(lines: &str) -> Result<Config, String> {
    parse(&format!("[fleet]\n{lines}\n[clients.acme]\n{CLIENT}"))
}

fn fleet(lines: &str) -> FleetConfig {
    with_fleet(lines).unwrap().fleet.unwrap()
}

fn address(host: &str, port: u16) -> FleetAddress {
    let host = Host::Domain(host.to_owned());
    FleetAddress { host, port }
}

#[test]
fn fleet_has_defaults_for_all_keys_but_the_url() {
    assert_eq!(
        parse(&format!("[clients.acme]\n{CLIENT}")).unwrap().fleet,
        None
    );
    let expected = FleetConfig {
        servers: FleetServers::Server(address("cache.example", 6379)),
        database: 0,
        is_tls: true,
        username: None,
        password: None,
        ca_file: None,
        client_certificate: None,
        key_file: None,
        prefix: "domo-token".to_owned(),
        allow_world_readable_secret: false,
        naming: Naming::Keys,
    };
    assert_eq!(fleet("url = \"rediss://cache.example\""), expected);
}

#[test]
fn keys_of_a_fleet_take_effect() {
    let set = fleet(
        "url = \"rediss://cache.example:7000/3\"\nusername = \"domo-token\"\n\
         password_file = \"redis.password\"\nca_file = \"ca.pem\"\n\
         client_certificate_file = \"own.pem\"\nclient_key_file = \"/run/own.key\"\n\
         key_file = \"fleet.key\"\nprefix = \"team-7\"\nallow_world_readable_secret = true",
    );
    let beside = |name: &str| Path::new("/etc/domo-token").join(name);
    let server = FleetServers::Server(address("cache.example", 7000));
    assert_eq!((&set.servers, set.database), (&server, 3));
    assert_eq!(set.username.as_deref(), Some("domo-token"));
    assert_eq!(set.prefix, "team-7");
    assert!(set.allow_world_readable_secret);
    assert_eq!(
        set.files(),
        [
            beside("redis.password"),
            beside("ca.pem"),
            beside("own.pem"),
            "/run/own.key".into(),
            beside("fleet.key"),
        ]
    );
    let config = with_fleet("url = \"rediss://cache.example\"\nkey_file = \"fleet.key\"").unwrap();
    assert_eq!(config.files(), [beside("acme.secret"), beside("fleet.key")]);
}

#[test]
fn sentinels_name_the_server_of_a_fleet() {
    let set = fleet(
        "url = \"rediss:///2\"\nsentinels = [\"s1\", \"s2.example:1\"]\nservice = \"mymaster\"\n\
         sentinel_password_file = \"/run/s.password\"",
    );
    let expected = FleetServers::Sentinels {
        addresses: vec![address("s1", 26379), address("s2.example", 1)],
        service: "mymaster".to_owned(),
        password_file: Some("/run/s.password".into()),
    };
    assert_eq!(
        (&set.servers, set.database, set.is_tls),
        (&expected, 2, true)
    );
    assert_eq!(set.files(), [Path::new("/run/s.password")]);
    let of = |count: usize| {
        let list = vec!["\"s1\""; count].join(", ");
        with_fleet(&format!(
            "url = \"rediss:///0\"\nsentinels = [{list}]\nservice = \"m\""
        ))
    };
    assert!(of(16).is_ok());
    assert!(of(17).unwrap_err().contains("must be 1 to 16 hosts"));
}

#[test]
fn password_of_a_fleet_has_the_sources_of_a_clients_secret() {
    let password = |line: &str| {
        let lines = format!("url = \"rediss://cache.example\"\n{line}");
        with_fleet(&lines).map(|config| config.fleet.unwrap().password.unwrap())
    };
    let command = |argv: &[&str]| SecretCommand {
        argv: argv.iter().map(|word| (*word).to_owned()).collect(),
        withheld: [
            "DOMO_CLIENT_SECRET",
            "DOMO_PROXY",
            "DOMO_PROXY_AUTH_FILE",
            "DOMO_FLEET_URL",
            "DOMO_FLEET_PASSWORD_FILE",
        ]
        .map(str::to_owned)
        .to_vec(),
    };
    for (line, expected) in [
        ("password_file = \"/p\"", SecretSource::File("/p".into())),
        ("password_env = \"P\"", SecretSource::Env("P".to_owned())),
        (
            "password_credential = \"redis\"",
            SecretSource::Credential("redis".to_owned()),
        ),
        (
            "password_command = [\"pass\", \"redis\"]",
            SecretSource::Command(command(&["pass", "redis"])),
        ),
    ] {
        assert_eq!(password(line), Ok(expected), "{line}");
    }
    for (line, message) in [
        ("password_file = \"\"", "empty"),
        ("password_env = \"A=c4nary\"", "an environment variable"),
        ("password_credential = \"a/b\"", "not a path"),
        ("password_command = []", "a program and its arguments"),
    ] {
        let error = password(line).unwrap_err();
        assert!(error.contains(message), "{line}: {error}");
        assert!(!error.contains("c4nary"), "{error}");
    }
}

#[test]
fn password_variable_of_a_fleet_is_withheld_from_the_commands_of_clients() {
    let text = "[fleet]\nurl = \"rediss://cache.example\"\npassword_env = \"REDIS\"\n\
                [clients.a]\nclient_id = \"a\"\nclient_secret_command = [\"pass\"]\ntokens = [\"data\"]\n";
    let config = parse(text).unwrap();
    let (_, command) = config.clients["a"].secret_command().unwrap();
    assert_eq!(command.withheld.last().unwrap(), "REDIS");
}

#[test]
fn prefix_has_up_to_32_lower_case_letters_digits_and_dashes() {
    let prefix = |text: &str| {
        let lines = format!("url = \"rediss://cache.example\"\nprefix = \"{text}\"");
        with_fleet(&lines).map(|config| config.fleet.unwrap().prefix)
    };
    for right in ["a", "0-9", &"p".repeat(32)] {
        assert_eq!(prefix(right).as_deref(), Ok(right));
    }
    for wrong in ["", "A", "a:b", "a_b", "{a}", "\u{e9}", &"p".repeat(33)] {
        assert!(
            prefix(wrong).unwrap_err().contains("must be 1 to 32"),
            "{wrong}"
        );
    }
}

#[test]
fn connection_without_tls_is_reported_unless_it_stays_on_the_host() {
    let notices = |lines: &str| with_fleet(lines).unwrap().notices;
    for quiet in [
        "url = \"rediss://cache.example\"",
        "url = \"redis://localhost\"",
        "url = \"redis://127.0.0.2:1\"",
        "url = \"redis://[::1]/1\"",
        "url = \"redis:///0\"\nsentinels = [\"localhost\", \"127.0.0.1\"]\nservice = \"m\"",
    ] {
        assert_eq!(notices(quiet), [""; 0], "{quiet}");
    }
    let password = "url = \"redis://cache.example\"\npassword_env = \"P\"";
    assert_eq!(
        notices(password),
        [
            "fleet.url: redis:// has no TLS: the password is sent in clear, while tokens are sealed; use rediss://"
        ]
    );
    for open in [
        "url = \"redis://10.0.0.1\"",
        "url = \"redis:///0\"\nsentinels = [\"localhost\", \"10.0.0.1\"]\nservice = \"m\"",
    ] {
        let notices = notices(open);
        assert!(
            notices[0].contains("delete or withhold them"),
            "{notices:?}"
        );
        assert_eq!(notices.len(), 1);
    }
}

#[test]
fn client_shares_its_tokens_unless_it_is_excluded() {
    assert!(client("").shares && client("fleet = true").shares);
    assert!(!client("fleet = false").shares);
}

#[test]
fn login_is_named_by_the_form_of_its_password() {
    let url = "url = \"rediss://cache.example\"";
    for (password, keys) in [
        ("", "username and password_file"),
        ("password_file = \"p\"", "username and password_file"),
        (
            "password_credential = \"p\"",
            "username and password_credential",
        ),
        ("password_env = \"P\"", "username and password_env"),
        (
            "password_command = [\"pass\"]",
            "username and password_command",
        ),
    ] {
        assert_eq!(fleet(&format!("{url}\n{password}")).login_keys(), keys);
    }
    let config = from_env(&[
        ("DOMO_CLIENT_ID", "an-id"),
        ("DOMO_CLIENT_SECRET", "a-secret"),
        ("DOMO_FLEET_URL", "rediss://cache.example"),
    ]);
    let fleet = config.unwrap().fleet.unwrap();
    assert_eq!(fleet.login_keys(), "DOMO_FLEET_PASSWORD_FILE");
}

#[test]
fn environment_alone_configures_a_fleet() {
    assert_eq!(from_env(&[]).unwrap().fleet, None);
    let config = from_env(&[
        ("DOMO_FLEET_URL", "rediss://cache.example/1\n"),
        ("DOMO_FLEET_PASSWORD_FILE", "/run/p"),
        ("DOMO_FLEET_CA_FILE", "/ca.pem"),
        ("DOMO_ALLOW_WORLD_READABLE_SECRET", "1"),
    ])
    .unwrap();
    assert_eq!(config.files(), [Path::new("/run/p"), Path::new("/ca.pem")]);
    let fleet = config.fleet.unwrap();
    assert_eq!((fleet.database, fleet.naming), (1, Naming::Variables));
    assert!(fleet.allow_world_readable_secret);
    let plain = from_env(&[("DOMO_FLEET_URL", "redis://cache.example")]).unwrap();
    assert!(plain.notices[0].starts_with("DOMO_FLEET_URL: redis:// has no TLS"));
}

#[test]
fn invalid_variable_of_a_fleet_is_an_error_that_names_variables() {
    let tls = ("DOMO_FLEET_URL", "rediss://cache.example");
    for (variables, name, message) in [
        (
            &[("DOMO_FLEET_URL", "cache")][..],
            "DOMO_FLEET_URL",
            "not a URL",
        ),
        (
            &[("DOMO_FLEET_URL", "rediss:///0")],
            "DOMO_FLEET_URL",
            "write it like rediss://cache.example:6379/0",
        ),
        (
            &[("DOMO_FLEET_URL", "redis://a:c4nary@cache")],
            "DOMO_FLEET_URL",
            "set DOMO_FLEET_PASSWORD_FILE=FILE",
        ),
        (
            &[("DOMO_FLEET_PASSWORD_FILE", "/p")],
            "DOMO_FLEET_PASSWORD_FILE",
            "set DOMO_FLEET_URL, or unset this variable",
        ),
        (
            &[("DOMO_FLEET_CA_FILE", "/p")],
            "DOMO_FLEET_CA_FILE",
            "set DOMO_FLEET_URL, or unset this variable",
        ),
        (
            &[tls, ("DOMO_FLEET_CA_FILE", "~/p")],
            "DOMO_FLEET_CA_FILE",
            "the tilde is not expanded",
        ),
        (
            &[
                ("DOMO_FLEET_URL", "redis://h"),
                ("DOMO_FLEET_CA_FILE", "/p"),
            ],
            "DOMO_FLEET_CA_FILE",
            "begin DOMO_FLEET_URL with rediss://",
        ),
    ] {
        let error = from_env(variables).unwrap_err();
        assert!(
            error.starts_with(&format!("environment: {name}: ")),
            "{error}"
        );
        assert!(error.contains(message), "{error}");
        assert!(
            !error.contains("sentinels") && !error.contains("c4nary"),
            "{error}"
        );
    }
}
