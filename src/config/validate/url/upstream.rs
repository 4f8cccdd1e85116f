//! The URL of the API that the gateway forwards to.

use url::Url;

use super::{is_loopback, parse};
use crate::config::UPSTREAM;

/// Parses the URL of a server that a token may be sent to: scheme, host and port.
pub(in crate::config) fn upstream_url(
    text: &str,
    allow_http_loopback: bool,
) -> Result<Url, String> {
    let url = parse(text, "; remove them", &format!("like {UPSTREAM}"))?;
    if url.path() != "/" || url.query().is_some() || url.fragment().is_some() {
        return Err(format!("must be scheme, host and port, like {UPSTREAM}"));
    }
    match url.scheme() {
        "https" => Ok(url),
        "http" if !is_loopback(&url) => Err(
            "must be https: over http anyone on the network path could read the token".to_owned(),
        ),
        "http" if allow_http_loopback => Ok(url),
        "http" => Err(
            "must be https; for http to this machine, set allow_http_loopback = true in the table of the client"
                .to_owned(),
        ),
        _ => Err("must be https".to_owned()),
    }
}

/// Returns the URL, unless the client's proxy would be sent the token in clear.
pub(in crate::config) fn refuse_upstream_over_proxy(
    upstream: Url,
    proxy: Option<&Url>,
) -> Result<Url, String> {
    if upstream.scheme() == "https" || proxy.is_none() {
        return Ok(upstream);
    }
    Err(
        "over http it cannot be combined with the proxy of the client, because the proxy would receive the \
         token unencrypted; use https, or another client"
            .to_owned(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn upstream_is_scheme_host_and_port() {
        for right in [UPSTREAM, "https://api.domo.com/", "https://[::1]:8443"] {
            assert!(upstream_url(right, false).is_ok(), "{right}");
        }
        for (wrong, message) in [
            ("https://api.domo.com/v1", "must be scheme, host and port"),
            ("https://api.domo.com?a=1", "must be scheme, host and port"),
            ("https://api.domo.com#a", "must be scheme, host and port"),
            ("https://a:c4nary@api.domo.com", "must not contain a user"),
            ("http://api.domo.com", "could read the token"),
            ("http://127.0.0.1:1", "allow_http_loopback = true"),
            ("ftp://api.domo.com", "must be https"),
            ("api.domo.com", "write it like https://api.domo.com"),
            ("https://", "the host is missing"),
        ] {
            let error = upstream_url(wrong, false).unwrap_err();
            assert!(error.contains(message), "{wrong}: {error}");
            assert!(!error.contains("c4nary"), "{error}");
        }
        assert!(upstream_url("http://localhost:1", true).is_ok());
        assert!(upstream_url("http://10.0.0.1", true).is_err());
    }

    #[test]
    fn http_upstream_with_a_proxy_is_an_error() {
        let url = |text: &str| Url::parse(text).unwrap();
        let proxy = url("http://proxy.example:3128");
        let (open, closed) = (url("http://127.0.0.1:1"), url(UPSTREAM));
        assert!(refuse_upstream_over_proxy(open.clone(), None).is_ok());
        assert!(refuse_upstream_over_proxy(closed, Some(&proxy)).is_ok());
        let error = refuse_upstream_over_proxy(open, Some(&proxy)).unwrap_err();
        assert!(error.contains("unencrypted"), "{error}");
    }
}
