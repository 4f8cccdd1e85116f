//! What is true of URLs: which ones a client secret may be sent to, and through.

use url::Url;

use crate::config::TOKEN_URL;

fn not_a_url(error: url::ParseError) -> String {
    if error == url::ParseError::RelativeUrlWithoutBase {
        return "not a URL: begin it with https://".to_owned();
    }
    format!("not a URL: {error}")
}

fn without_login(text: &str) -> Result<Url, String> {
    let url = Url::parse(text).map_err(not_a_url)?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err("no user or password belongs in this URL".to_owned());
    }
    Ok(url)
}

/// A URL that a client secret may be sent to.
pub(in crate::config) fn token_url(text: &str, allow_http_loopback: bool) -> Result<Url, String> {
    let url = without_login(text)?;
    if url.query().is_some() || url.fragment().is_some() {
        return Err("no query or fragment belongs in this URL".to_owned());
    }
    match url.scheme() {
        "http" if !is_loopback(&url) => {
            Err("https only: over http everyone on the way could read the secret".to_owned())
        }
        "http" if !allow_http_loopback => {
            Err("https only; http to this machine needs allow_http_loopback = true".to_owned())
        }
        "http" | "https" if url.path() == "/" => {
            Err(format!("no path: must be the whole URL, like {TOKEN_URL}"))
        }
        "http" | "https" => Ok(url),
        _ => Err("https only".to_owned()),
    }
}

pub(in crate::config) fn proxy_url(text: &str) -> Result<Url, String> {
    let url = without_login(text)?;
    let is_host_alone = url.path() == "/" && url.query().is_none() && url.fragment().is_none();
    // Whose URLs always have a host.
    if !matches!(url.scheme(), "http" | "https") || !is_host_alone {
        return Err("must be scheme, host and port, like http://proxy.example:3128".to_owned());
    }
    Ok(url)
}

fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(url::Host::Ipv4(address)) => address.is_loopback(),
        Some(url::Host::Ipv6(address)) => address.is_loopback(),
        Some(url::Host::Domain(name)) => name == "localhost",
        None => false,
    }
}
