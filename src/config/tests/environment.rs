//! The environment: the config that it makes, and the places that it names.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;

use domo_token_protocol::scope::ScopeSet;

use super::*;

/// Returns an environment of these variables.
fn variables<'a>(pairs: &'a [(&'a str, &'a str)]) -> impl Fn(&str) -> Option<OsString> + Sync + 'a {
    |name| {
        let pair = pairs.iter().find(|(existing, _)| *existing == name);
        pair.map(|(_, value)| OsString::from(*value))
    }
}

/// Returns the config of an environment with an id, a secret, and these variables.
pub(super) fn from_env(more: &[(&str, &str)]) -> Result<Config, String> {
    let least = [
        ("DOMO_CLIENT_ID", "an-id"),
        ("DOMO_CLIENT_SECRET", "c4nary"),
    ];
    let all = [more, &least].concat();
    Config::from_env(&variables(&all)).map_err(|error| error.to_string())
}

#[test]
fn environment_alone_configures_one_client() {
    let mut plain = from_env(&[]).unwrap();
    assert_eq!(plain.default_client.as_deref(), Some(ENV_CLIENT));
    let client = plain.clients.remove(ENV_CLIENT).unwrap();
    assert_eq!(client.tokens, [ScopeSet::parse("data").unwrap()]);
    assert_eq!(client.endpoint.url.as_str(), TOKEN_URL);
    assert_eq!(
        (client.endpoint.ca_file, client.endpoint.proxy),
        (None, None)
    );
    let CredentialsSource::Pair { id, secret } = client.credentials else {
        panic!("it is a pair")
    };
    assert!(matches!(id, IdSource::Inline(id) if id == "an-id"));
    assert!(matches!(secret, SecretSource::Env(name) if name == "DOMO_CLIENT_SECRET"));

    let mut set = from_env(&[
        ("DOMO_SCOPE", "user;data;user data;data"),
        ("DOMO_TOKEN_URL", "https://domo.example/oauth/token"),
        ("DOMO_CA_FILE", "/ca.pem"),
        ("DOMO_PROXY", "http://proxy.example:3128"),
        ("DOMO_PROXY_AUTH_FILE", "/login\r\n"),
        ("DOMO_ALLOW_WORLD_READABLE_SECRET", "1\r"),
    ])
    .unwrap();
    let client = set.clients.remove(ENV_CLIENT).unwrap();
    let tokens: Vec<&str> = client.tokens.iter().map(ScopeSet::as_str).collect();
    assert_eq!(tokens, ["data", "data user", "user"]);
    assert!(client.allow_world_readable_secret && client.endpoint.naming == Naming::Variables);
    let login = client.endpoint.proxy_auth_file.unwrap();
    assert_eq!(login.path(), "/login");
    assert_eq!(
        client.endpoint.url.as_str(),
        "https://domo.example/oauth/token"
    );
    assert_eq!(client.endpoint.ca_file.unwrap().path(), "/ca.pem");
    assert_eq!(
        client.endpoint.proxy.unwrap().host_str(),
        Some("proxy.example")
    );
}

#[test]
fn empty_variable_is_unset_and_an_invalid_one_is_named() {
    let empty = [
        "DOMO_SCOPE",
        "DOMO_TOKEN_URL",
        "DOMO_CA_FILE",
        "DOMO_PROXY",
        "DOMO_PROXY_AUTH_FILE",
        "DOMO_ALLOW_WORLD_READABLE_SECRET",
    ];
    let empty = empty.map(|name| (name, ""));
    assert!(from_env(&empty).is_ok());
    for (name, value) in [
        ("DOMO_CLIENT_ID", ""),
        ("DOMO_SCOPE", "data;b\u{e9}"),
        ("DOMO_TOKEN_URL", "http://domo.example/oauth/token"),
        ("DOMO_PROXY", "http://proxy.example/path"),
        ("DOMO_CLIENT_SECRET", ""),
        ("DOMO_CA_FILE", "~/ca.pem"),
        ("DOMO_CLIENT_ID", "\"an-id\""),
        ("DOMO_CLIENT_ID", "an\u{1b}[31mid"),
        ("DOMO_SCOPE", "data+user"),
        ("DOMO_SCOPE", "data;Data"),
        ("DOMO_TOKEN_URL", "https://{instance}.domo.com/oauth/token"),
        ("DOMO_PROXY", "DIRECT"),
        ("DOMO_PROXY_AUTH_FILE", "/login"),
        ("DOMO_PROXY_AUTH_FILE", "~/login"),
        ("DOMO_PROXY_AUTH_FILE", "ann:c4nary"),
        ("DOMO_ALLOW_WORLD_READABLE_SECRET", "0"),
        ("DOMO_ALLOW_WORLD_READABLE_SECRET", "true"),
    ] {
        let error = from_env(&[(name, value)]).unwrap_err();
        assert!(error.contains(&format!("environment: {name}: ")), "{error}");
        assert!(!error.contains(char::is_control), "{error:?}");
    }
    let long = "a".repeat(5000);
    assert!(from_env(&[("DOMO_CLIENT_ID", &long)]).is_err());
    let not_text = |name: &str| {
        let bytes = if name == "DOMO_SCOPE" {
            vec![0xff]
        } else {
            b"a".to_vec()
        };
        Some(OsString::from_vec(bytes))
    };
    let error = Config::from_env(&|name: &str| {
        (name != "DOMO_CLIENT_SECRET_FILE").then(|| not_text(name))?
    });
    assert!(
        error
            .unwrap_err()
            .to_string()
            .contains("DOMO_SCOPE: not UTF-8")
    );
}

#[test]
fn id_of_the_environment_is_trimmed_as_that_of_a_file() {
    for written in ["an-id\r", "an-id\n", " an-id ", "\u{feff}an-id\r\n"] {
        let mut config = from_env(&[("DOMO_CLIENT_ID", written)]).unwrap();
        let client = config.clients.remove(ENV_CLIENT).unwrap();
        let CredentialsSource::Pair { id, .. } = client.credentials else {
            panic!("it is a pair")
        };
        assert_eq!(id, IdSource::Inline("an-id".to_owned()), "{written:?}");
    }
}

#[test]
fn hint_about_a_variable_names_variables_and_no_keys() {
    let secret = "deadbeef0123456789abcdef0123456789abcdef0123456789abcdef01234567";
    let http = ("DOMO_TOKEN_URL", "http://localhost:1/oauth/token");
    let proxy = ("DOMO_PROXY", "http://proxy.example:3128");
    for (variables, message) in [
        (
            &[http, proxy][..],
            "DOMO_PROXY: cannot be combined with a DOMO_TOKEN_URL over http",
        ),
        (
            &[("DOMO_PROXY", "http://a:b@proxy.example")],
            "set DOMO_PROXY_AUTH_FILE=FILE",
        ),
        (&[("DOMO_PROXY", "none")], "unset DOMO_PROXY"),
        (
            &[("DOMO_PROXY_AUTH_FILE", "/login")],
            "set DOMO_PROXY, or unset this",
        ),
        (
            &[("DOMO_SCOPE", secret)],
            "it belongs in DOMO_CLIENT_SECRET",
        ),
    ] {
        let error = from_env(variables).unwrap_err();
        assert!(error.contains(message), "{error}");
        for key in ["token_url", "proxy_auth_file", "client_secret", "the key"] {
            assert!(!error.contains(key), "{error}");
        }
    }
}

#[test]
fn environment_secret_is_in_exactly_one_of_variable_and_file() {
    let id = ("DOMO_CLIENT_ID", "an-id");
    let (secret, file) = (
        ("DOMO_CLIENT_SECRET", "c4nary"),
        ("DOMO_CLIENT_SECRET_FILE", "/s"),
    );
    let of = |pairs: &[(&str, &str)]| Config::from_env(&variables(pairs));
    let from_file = of(&[id, file]).unwrap();
    assert_eq!(from_file.files(), [Path::new("/s")]);
    let both = of(&[id, secret, file]).unwrap_err().to_string();
    assert!(both.contains("not both"), "{both}");
    let tilde = of(&[id, ("DOMO_CLIENT_SECRET_FILE", "~/s")]).unwrap_err();
    let tilde = tilde.to_string();
    assert!(
        tilde.contains("DOMO_CLIENT_SECRET_FILE: the tilde is not expanded"),
        "{tilde}"
    );
    let none = of(&[id]).unwrap_err().to_string();
    assert!(none.contains("DOMO_CLIENT_SECRET: missing"), "{none}");
}

/// Returns where the config is found, if these files are there.
fn found(flag: Option<&str>, pairs: &[(&str, &str)], existing: &[&str]) -> Option<PathBuf> {
    let exists = |path: &Path| existing.iter().any(|file| Path::new(file) == path);
    find(flag.map(PathBuf::from), &variables(pairs), &exists)
}

#[test]
fn named_config_path_has_no_fallback() {
    let named = [("DOMO_TOKEN_CONFIG", "/named"), ("HOME", "/home/ann")];
    let own = ["/home/ann/.config/domo-token/config.toml"];
    assert_eq!(found(Some("/flag"), &named, &own), Some("/flag".into()));
    assert_eq!(found(None, &named, &own), Some("/named".into()));
    assert_eq!(
        explicit_config_path(None, &variables(&[("DOMO_TOKEN_CONFIG", "")])),
        None
    );
}

#[test]
fn default_config_is_the_first_existing_of_service_user_and_host() {
    let all = [
        ("CONFIGURATION_DIRECTORY", "/service"),
        ("XDG_CONFIG_HOME", "/xdg"),
        ("HOME", "/home/ann"),
    ];
    let (service, own) = ("/service/config.toml", "/xdg/domo-token/config.toml");
    let (of_home, host) = (
        "/home/ann/.config/domo-token/config.toml",
        "/etc/domo-token/config.toml",
    );
    let at = |path: &str| Some(PathBuf::from(path));
    assert_eq!(found(None, &all, &[host, own, service]), at(service));
    assert_eq!(found(None, &all, &[host, own, of_home]), at(own));
    assert_eq!(
        found(None, &all, &[host, of_home]),
        at(host),
        "$XDG_CONFIG_HOME takes its place"
    );
    assert_eq!(found(None, &all[2..], &[host, of_home]), at(of_home));
    let empty = [("XDG_CONFIG_HOME", ""), ("CONFIGURATION_DIRECTORY", "")];
    assert_eq!(found(None, &empty, &[host]), at(host));
    let relative = [("XDG_CONFIG_HOME", "xdg"), all[2]];
    assert_eq!(found(None, &relative, &[of_home]), at(of_home));
    assert_eq!(found(None, &all, &[]), None);
    assert_eq!(host_config_path(&variables(&[])), at(host));
    assert_eq!(user_config_path(&variables(&[])), None);
}
