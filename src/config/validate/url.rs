//! What is true of URLs: which ones a client secret may be sent to, and through.

mod fleet;
mod upstream;

use url::{Host, Url};

use crate::config::{IN_QUOTES, Naming, Setting, TOKEN_URL, is_quoted, without_mark};

pub(in crate::config) use fleet::{fleet_address, fleet_url};
pub(in crate::config) use upstream::{refuse_upstream_over_proxy, upstream_url};

/// What a URL of a proxy looks like.
const PROXY_LIKE: &str = "like http://proxy.example:3128";

/// What people write for no proxy.
const NO_PROXY: [&str; 7] = ["", "direct", "none", "no", "off", "false", "null"];

/// Returns the scheme of a URL and what follows it.
fn split<'a>(text: &'a str, like: &str) -> Result<(&'a str, &'a str), String> {
    if is_quoted(text) {
        return Err(IN_QUOTES.to_owned());
    }
    let in_brackets = text
        .strip_prefix('<')
        .and_then(|text| text.strip_suffix('>'));
    if in_brackets.is_some_and(|text| text.contains("://")) {
        return Err("is enclosed in < and >; remove them".to_owned());
    }
    if text.chars().any(|c| c.is_whitespace() || c.is_control()) {
        return Err("contains a space or a control character; remove it".to_owned());
    }
    text.split_once("://")
        .ok_or_else(|| format!("not a URL: write it {like}"))
}

fn is_placeholder(host: &str) -> bool {
    host.contains(['{', '}', '<', '>', '$'])
}

const NOT_ASCII: &str = "the host contains a character that is not ASCII; write an international name in its ASCII \
                         form, which begins with xn--";

const PLACEHOLDER: &str = "the host is a placeholder; replace it with the name of the host";

/// Parses a URL with a valid host and without a login.
fn parse(text: &str, login: &str, like: &str) -> Result<Url, String> {
    let text = without_mark(text);
    let (scheme, rest) = split(text, like)?;
    // Without a host the library would use the first part of the path as one.
    let authority = rest.split(['/', '\\', '?', '#']).next().unwrap_or_default();
    if authority.is_empty() && matches!(&*scheme.to_ascii_lowercase(), "http" | "https") {
        return Err(format!("the host is missing; write it {like}"));
    }
    let host = authority.rsplit('@').next().unwrap_or_default();
    if is_placeholder(host) {
        return Err(PLACEHOLDER.to_owned());
    }
    if !host.is_ascii() {
        return Err(NOT_ASCII.to_owned());
    }
    let invalid = || format!("the host is not a valid name; write it {like}");
    if host.contains('%') {
        return Err(invalid());
    }
    let url = Url::parse(text).map_err(|error| format!("not a URL: {error}; write it {like}"))?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err(format!(
            "this URL must not contain a user or password{login}"
        ));
    }
    if !url.host().is_some_and(|host| is_valid(&host)) {
        return Err(invalid());
    }
    if url.port() == Some(0) {
        return Err("port 0 is not valid; write another port or none".to_owned());
    }
    Ok(url)
}

/// Returns whether the host of a URL is an address or a valid name (RFC 1123 §2.1, and underscores).
fn is_valid(host: &Host<&str>) -> bool {
    let Host::Domain(name) = host else {
        return true;
    };
    let name = name.strip_suffix('.').unwrap_or(name);
    let allowed = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    let is_label = |label: &str| (1..=63).contains(&label.len()) && label.chars().all(allowed);
    name.len() <= 253 && name.split('.').all(is_label)
}

/// Parses a URL that a client secret may be sent to.
pub(in crate::config) fn token_url(text: &str, allow_http_loopback: bool) -> Result<Url, String> {
    let url = parse(text, "; remove them", &format!("like {TOKEN_URL}"))?;
    if url.query().is_some() || url.fragment().is_some() {
        return Err("this URL must not contain a query or fragment".to_owned());
    }
    match url.scheme() {
        "http" if !is_loopback(&url) => Err(
            "must be https: over http anyone on the network path could read the secret".to_owned(),
        ),
        "http" if !allow_http_loopback => Err(
            "must be https; for http to this machine, set allow_http_loopback = true".to_owned(),
        ),
        "http" | "https" if url.path() == "/" => Err(format!(
            "the path is missing; write the full URL, like {TOKEN_URL}"
        )),
        "http" | "https" => Ok(url),
        _ => Err("must be https".to_owned()),
    }
}

/// Parses a proxy's URL.
pub(in crate::config) fn proxy_url(text: &str, naming: Naming) -> Result<Url, String> {
    let lower = without_mark(text).trim().to_ascii_lowercase();
    if NO_PROXY.contains(&&*lower) {
        let remove = naming.choose("remove the key", "unset DOMO_PROXY", "remove the option");
        return Err(format!(
            "not a URL; to use no proxy, {remove}, else write it {PROXY_LIKE}"
        ));
    }
    if lower.starts_with("socks") && lower.contains(':') {
        return Err(format!(
            "SOCKS is not supported; use an HTTP proxy, {PROXY_LIKE}"
        ));
    }
    if !text.contains("://") {
        return Err(format!("not a URL: begin it with http://, {PROXY_LIKE}"));
    }
    let login = format!(
        "; write USER:PASSWORD to a file of mode 0600 and {} {}",
        naming.set(),
        naming.assignment(Setting::PROXY_LOGIN, "FILE")
    );
    let url = parse(text, &login, PROXY_LIKE)?;
    let is_host_alone = url.path() == "/" && url.query().is_none() && url.fragment().is_none();
    if !matches!(url.scheme(), "http" | "https") || !is_host_alone {
        return Err(format!("must be scheme, host and port, {PROXY_LIKE}"));
    }
    Ok(url)
}

/// Returns the error about a login without a proxy.
pub(in crate::config) fn login_without_proxy(naming: Naming) -> &'static str {
    naming.choose(
        "there is no proxy for this login; set proxy, or remove the login",
        "there is no proxy for this login; set DOMO_PROXY, or unset this variable",
        "there is no proxy for this login; add --proxy URL, or remove the option",
    )
}

/// Returns the proxy, unless it would be sent the secret in clear.
pub(in crate::config) fn refuse_proxy_over_http(
    token_url: &Url,
    proxy: Url,
    naming: Naming,
) -> Result<Url, String> {
    if token_url.scheme() == "https" {
        return Ok(proxy);
    }
    let key = naming.name(Setting::TOKEN_URL);
    Err(format!(
        "cannot be combined with a {key} over http, because the proxy would receive the secret \
         unencrypted; remove one of the two"
    ))
}

/// Returns whether the text of a host is a loopback address or name. What a name resolves to is checked on connecting.
fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        Some(Host::Domain(name)) => matches!(name, "localhost" | "localhost."),
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn refused(result: Result<Url, String>, message: &str) {
        let error = result.unwrap_err();
        assert!(error.contains(message), "{error}");
        assert!(!error.contains("c4nary"), "{error}");
    }

    #[test]
    fn token_url_without_a_valid_host_is_refused() {
        for (url, message) in [
            ("https://{c4nary}.domo.com/oauth/token", "placeholder"),
            ("https://$C4NARY/oauth/token", "placeholder"),
            ("https://<c4nary>/oauth/token", "placeholder"),
            ("https://a%2edomo.com/oauth/token", "not a valid name"),
            ("https://a..domo.com/oauth/token", "not a valid name"),
            ("https://a!domo.com/oauth/token", "not a valid name"),
            (
                "\"https://api.domo.com/oauth/token\"",
                "is enclosed in quotes",
            ),
            (
                "<https://api.domo.com/oauth/token>",
                "is enclosed in < and >",
            ),
            ("https:///oauth/token", "the host is missing"),
            ("https://\\oauth/token", "the host is missing"),
            ("HTTPS:///oauth/token", "the host is missing"),
            ("https:/oauth/token", "not a URL"),
            ("https:oauth/token", "not a URL"),
            ("https://api.domo.com:0/oauth/token", "port 0 is not valid"),
            ("https://api.domo.com:65536/oauth/token", "not a URL"),
            ("https://api.domo.com/oauth/tok en", "a space"),
            (" https://api.domo.com/oauth/token", "a space"),
            ("https://api.do\nmo.com/oauth/token", "a control character"),
            (
                "https://a:c4nary@api.domo.com/oauth/token",
                "must not contain a user or password",
            ),
            ("https://b\u{fc}cher.example/token", "begins with xn--"),
            ("api.domo.com", "like https://api.domo.com/oauth/token"),
            ("", "not a URL"),
        ] {
            refused(token_url(url, true), message);
        }
        for right in [
            TOKEN_URL,
            "https://API.domo.com:8443/oauth/token",
            "https://xn--bcher-kva.example/token",
            "https://a_b.example./token",
            "https://[::1]:8443/token",
        ] {
            assert!(token_url(right, false).is_ok(), "{right}");
            assert_eq!(
                token_url(&format!("\u{feff}{right}"), false),
                token_url(right, false)
            );
        }
    }

    #[test]
    fn http_token_url_is_loopback_by_its_text() {
        for right in [
            "127.0.0.1",
            "127.9.8.7",
            "[::1]",
            "localhost",
            "LOCALHOST",
            "localhost.",
            "127.1",
        ] {
            let url = format!("http://{right}:1/token");
            assert!(token_url(&url, true).is_ok(), "{right}");
            refused(token_url(&url, false), "allow_http_loopback = true");
        }
        for wrong in [
            "0.0.0.0",
            "10.0.0.1",
            "[::ffff:127.0.0.1]",
            "localhost.example",
            "a.localhost",
            "localhos",
        ] {
            refused(
                token_url(&format!("http://{wrong}:1/token"), true),
                "must be https",
            );
        }
    }

    #[test]
    fn proxy_that_is_not_a_url_is_an_error_with_what_to_write() {
        for (proxy, message) in [
            ("", "remove the key"),
            ("DIRECT", "remove the key"),
            ("none", "remove the key"),
            ("proxy.corp:3128", "begin it with http://"),
            ("10.0.0.1:3128", "begin it with http://"),
            ("proxy.corp", "begin it with http://"),
            ("socks5://127.0.0.1:1080", "SOCKS is not supported"),
            ("SOCKS5H://127.0.0.1:1080", "SOCKS is not supported"),
            ("socks4://127.0.0.1:1080", "SOCKS is not supported"),
            ("ftp://proxy.corp:3128", "must be scheme, host and port"),
            (
                "http://proxy.corp/proxy.pac",
                "must be scheme, host and port",
            ),
            ("http://:3128", "like http://"),
            ("http:///", "the host is missing"),
            ("http://proxy.corp:0", "port 0 is not valid"),
            (
                "http://me:c4nary@proxy.corp",
                "set proxy_auth_file = \"FILE\"",
            ),
        ] {
            refused(proxy_url(proxy, Naming::Keys), message);
        }
        for (proxy, message) in [
            ("none", "unset DOMO_PROXY"),
            (
                "http://me:c4nary@proxy.corp",
                "set DOMO_PROXY_AUTH_FILE=FILE",
            ),
        ] {
            refused(proxy_url(proxy, Naming::Variables), message);
        }
        assert!(proxy_url("http://proxy.corp:3128/", Naming::Keys).is_ok());
    }
}
