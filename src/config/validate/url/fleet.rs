//! What is true of the addresses of a fleet's servers.

use url::Host;

use super::{PLACEHOLDER, is_placeholder, is_valid, split};
use crate::config::fleet::FleetAddress;
use crate::config::{IN_QUOTES, Naming, is_quoted, without_mark};

/// What the URL of a server looks like.
const URL_LIKE: &str = "like rediss://cache.example:6379/0";

/// What the URL looks like where sentinels name the server.
const URL_WITHOUT_HOST: &str = "rediss:///0";

/// What an address looks like.
const ADDRESS_LIKE: &str = "like s1.example:26379";

/// The port of a server that is named without one.
const PORT: u16 = 6379;

/// The highest number of a database. A server has 16, unless it is configured to have more.
const MAX_DATABASE: u32 = 65_535;

/// The parts of a fleet's URL.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::config) struct FleetUrl {
    pub(in crate::config) is_tls: bool,
    /// `None` only where sentinels name the server.
    pub(in crate::config) server: Option<FleetAddress>,
    pub(in crate::config) database: u32,
}

/// Parses a fleet's URL, which has a host unless sentinels name it.
pub(in crate::config) fn fleet_url(
    text: &str,
    has_sentinels: bool,
    naming: Naming,
) -> Result<FleetUrl, String> {
    let like = if has_sentinels {
        "like rediss:///0"
    } else {
        URL_LIKE
    };
    let (scheme, rest) = split(without_mark(text), like)?;
    let is_tls = match &*scheme.to_ascii_lowercase() {
        "rediss" => true,
        "redis" => false,
        _ => {
            return Err(format!(
                "must begin with rediss://, or redis:// without TLS, {like}"
            ));
        }
    };
    // A password may contain any of the characters that end it in a valid URL.
    if rest.contains('@') {
        let instead = naming.choose(
            "set username, and password_file = \"FILE\"",
            "set DOMO_FLEET_PASSWORD_FILE=FILE; a user needs a config file",
            "write both to a config file",
        );
        return Err(format!(
            "this URL must not contain a user or password; write the password to a file of mode \
             0600 and {instead}"
        ));
    }
    if rest.contains(['?', '#']) {
        return Err("this URL must not contain a query or fragment".to_owned());
    }
    let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
    let server = match (host.is_empty(), has_sentinels) {
        (true, true) => None,
        (false, false) => Some(address(host, PORT, URL_LIKE)?),
        (false, true) => {
            return Err(format!(
                "must have no host, because the sentinels name the server; write {URL_WITHOUT_HOST}"
            ));
        }
        (true, false) => {
            let sentinels = naming.choose(", or set sentinels", "", "");
            return Err(format!("the host is missing; write it {like}{sentinels}"));
        }
    };
    Ok(FleetUrl {
        is_tls,
        server,
        database: database(path, like)?,
    })
}

fn database(path: &str, like: &str) -> Result<u32, String> {
    if path.is_empty() {
        return Ok(0);
    }
    let is_number = path.bytes().all(|byte| byte.is_ascii_digit());
    let number = path.parse().ok().filter(|_| is_number);
    number
        .filter(|number| *number <= MAX_DATABASE)
        .ok_or_else(|| {
            format!(
                "the path must be the number of a database, 0 to {MAX_DATABASE}; write it {like}"
            )
        })
}

/// Parses a host, with or without a port.
pub(in crate::config) fn fleet_address(
    text: &str,
    default_port: u16,
) -> Result<FleetAddress, String> {
    let text = without_mark(text);
    if is_quoted(text) {
        return Err(IN_QUOTES.to_owned());
    }
    if text.contains('@') {
        let problem = "must not contain a user or password; set sentinel_password_file";
        return Err(problem.to_owned());
    }
    if text.contains('/') {
        return Err(format!("must be a host and a port alone, {ADDRESS_LIKE}"));
    }
    address(text, default_port, ADDRESS_LIKE)
}

fn address(text: &str, default_port: u16, like: &str) -> Result<FleetAddress, String> {
    if is_placeholder(text) {
        return Err(PLACEHOLDER.to_owned());
    }
    // An IPv6 address in brackets has colons itself.
    let end = text.find(']').map_or(0, |at| at + 1);
    let (host, port) = match text.get(end..).and_then(|rest| rest.find(':')) {
        Some(colon) => text.split_at(end + colon),
        None => (text, ""),
    };
    let port = match port.strip_prefix(':') {
        None => default_port,
        Some(port) if port.contains(':') => {
            return Err("an IPv6 address must be in brackets, like [2001:db8::1]:6379".to_owned());
        }
        Some(port) => {
            let is_number = port.bytes().all(|byte| byte.is_ascii_digit());
            let port = port.parse().ok().filter(|port| is_number && *port > 0);
            port.ok_or_else(|| format!("the port must be 1 to 65535; write it {like}"))?
        }
    };
    let is_plain = host.is_ascii() && !host.contains('%');
    let parsed = is_plain.then(|| Host::parse(host).ok()).flatten();
    let parsed = parsed.filter(|parsed| is_valid(&borrowed(parsed)));
    let host = parsed.ok_or_else(|| format!("the host is not a valid name; write it {like}"))?;
    Ok(FleetAddress { host, port })
}

fn borrowed(host: &Host<String>) -> Host<&str> {
    match host {
        Host::Domain(name) => Host::Domain(name),
        Host::Ipv4(address) => Host::Ipv4(*address),
        Host::Ipv6(address) => Host::Ipv6(*address),
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use super::*;

    fn server(host: Host<String>, port: u16) -> FleetAddress {
        FleetAddress { host, port }
    }

    fn url(text: &str) -> Result<FleetUrl, String> {
        fleet_url(text, false, Naming::Keys)
    }

    #[test]
    fn fleet_url_has_a_host_and_may_have_port_and_database() {
        let cache = || Host::Domain("cache.example".to_owned());
        for (text, is_tls, expected, database) in [
            ("rediss://cache.example", true, server(cache(), 6379), 0),
            (
                "REDISS://CACHE.example:7000/",
                true,
                server(cache(), 7000),
                0,
            ),
            ("redis://cache.example/15", false, server(cache(), 6379), 15),
            (
                "redis://127.0.0.1:1/65535",
                false,
                server(Host::Ipv4(Ipv4Addr::LOCALHOST), 1),
                65_535,
            ),
            (
                "\u{feff}rediss://[::1]",
                true,
                server(Host::Ipv6(Ipv6Addr::LOCALHOST), 6379),
                0,
            ),
            (
                "rediss://[::1]:65535/0",
                true,
                server(Host::Ipv6(Ipv6Addr::LOCALHOST), 65_535),
                0,
            ),
        ] {
            let expected = FleetUrl {
                is_tls,
                server: Some(expected),
                database,
            };
            assert_eq!(url(text), Ok(expected), "{text}");
        }
    }

    #[test]
    fn fleet_url_that_is_none_is_an_error_with_what_to_write() {
        for (text, message) in [
            ("", "not a URL"),
            ("cache.example:6379", "not a URL: write it like rediss://"),
            ("\"rediss://cache.example\"", "is enclosed in quotes"),
            ("rediss://cache .example", "a space"),
            ("http://cache.example", "must begin with rediss://"),
            ("rediss://", "the host is missing"),
            ("rediss:///0", "the host is missing"),
            ("rediss://{host}", "placeholder"),
            ("rediss://:6379", "not a valid name"),
            ("rediss://a..example", "not a valid name"),
            ("rediss://a%2eexample", "not a valid name"),
            ("rediss://[::1", "in brackets"),
            ("rediss://[::1]x:1", "not a valid name"),
            ("rediss://2001:db8::1", "in brackets"),
            ("rediss://cache.example:0", "the port must be"),
            ("rediss://cache.example:", "the port must be"),
            ("rediss://cache.example:+1", "the port must be"),
            ("rediss://cache.example:65536", "the port must be"),
            ("rediss://cache.example/65536", "0 to 65535"),
            ("rediss://cache.example/+1", "0 to 65535"),
            ("rediss://cache.example/0/1", "0 to 65535"),
            ("rediss://cache.example/c4nary", "0 to 65535"),
            ("rediss://cache.example?db=c4nary", "query or fragment"),
            ("rediss://cache.example/0#c4nary", "query or fragment"),
            ("rediss://:c4nary@cache.example", "password_file = \"FILE\""),
            ("rediss://a:c4/na?ry@cache.example", "set username, and"),
        ] {
            let error = url(text).unwrap_err();
            assert!(error.contains(message), "{text}: {error}");
            assert!(!error.contains("c4nary"), "{error}");
        }
        let error = fleet_url("redis://:c4nary@host", false, Naming::Variables).unwrap_err();
        assert!(
            error.contains("set DOMO_FLEET_PASSWORD_FILE=FILE"),
            "{error}"
        );
    }

    #[test]
    fn url_has_no_host_exactly_if_sentinels_name_it() {
        let with_sentinels = |text| fleet_url(text, true, Naming::Keys);
        for (text, database) in [("rediss://", 0), ("rediss:///", 0), ("rediss:///7", 7)] {
            let expected = FleetUrl {
                is_tls: true,
                server: None,
                database,
            };
            assert_eq!(with_sentinels(text), Ok(expected));
        }
        let error = with_sentinels("rediss://cache.example/0").unwrap_err();
        assert!(error.ends_with("write rediss:///0"), "{error}");
    }

    #[test]
    fn address_is_a_host_with_or_without_a_port() {
        let sentinel = |text| fleet_address(text, 26379);
        let name = || Host::Domain("s1".to_owned());
        assert_eq!(sentinel("s1"), Ok(server(name(), 26379)));
        assert_eq!(sentinel("S1:1"), Ok(server(name(), 1)));
        for (text, message) in [
            ("", "not a valid name"),
            ("redis://s1", "a host and a port alone, like"),
            ("s1/0", "a host and a port alone, like"),
            ("a:c4nary@s1", "set sentinel_password_file"),
            ("::1", "in brackets"),
            ("s1:port", "the port must be 1 to 65535"),
            ("'s1'", "is enclosed in quotes"),
            ("s 1", "not a valid name"),
        ] {
            let error = sentinel(text).unwrap_err();
            assert!(error.contains(message), "{text}: {error}");
            assert!(!error.contains("c4nary"), "{error}");
        }
    }
}
