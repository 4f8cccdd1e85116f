//! pydomo's connection file: an INI file with the section `client_auth`, as pydomo reads it
//! (`Domo(connection_file=…)`, pydomo 0.3.0.13 and later).

use url::Url;

use super::file::{self, Readers};
use super::secret_text::{check_secret, utf8};
use super::{Credentials, CredentialsError, MAX_SECRET, unusable};
use crate::config::{Endpoint, usable_id};
use crate::secret_masking::NamedPath;

const WHAT: &str = "connection file";
const SECTION: &str = "client_auth";

/// Reads id and secret. The host it names must be the one that we ask: a secret isn't sent to
/// another one than its owner wrote.
pub(super) fn read(
    path: &NamedPath,
    readers: Readers,
    endpoint: &Endpoint,
) -> Result<Credentials, CredentialsError> {
    let from = path.shown();
    let wrong = |problem: &str| unusable(WHAT, &from, problem);
    let bytes = file::read(path, WHAT, readers, MAX_SECRET)?;
    let text = utf8(&bytes).map_err(wrong)?;
    let value = |key| value(text, key);
    let missing = |key: &str| wrong(&format!("no {key} in its section [{SECTION}]"));
    let client_id = value("client").ok_or_else(|| missing("client"))?;
    if !usable_id(client_id) {
        return Err(wrong("its client is too long, or not one word of ASCII"));
    }
    let secret = value("secret").ok_or_else(|| missing("secret"))?;
    if let Some(host) = value("api_host")
        && !is_host_of(host, &endpoint.url)
    {
        return Err(wrong(
            "its api_host is not the host of token_url: set token_url = \"https://API_HOST/oauth/token\"",
        ));
    }
    Ok(Credentials {
        client_id: client_id.to_owned(),
        client_secret: check_secret(secret.as_bytes(), &from)?,
    })
}

/// A key's value in the section, as Python's configparser finds it: keys in any case, `=` or `:`,
/// whole lines of comment, the last one counts.
fn value<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    let mut inside = false;
    let mut found = None;
    for line in text.lines().map(str::trim) {
        if let Some(section) = line
            .strip_prefix('[')
            .and_then(|rest| rest.strip_suffix(']'))
        {
            inside = section == SECTION;
        } else if inside && !line.starts_with(['#', ';']) {
            let pair = line.split_once(['=', ':']);
            let pair = pair.filter(|(name, _)| name.trim().eq_ignore_ascii_case(key));
            found = pair.map(|(_, value)| value.trim()).or(found);
        }
    }
    found.filter(|value| !value.is_empty())
}

fn is_host_of(written: &str, url: &Url) -> bool {
    let host = written.split_once("://").map_or(written, |(_, rest)| rest);
    let host = host.trim_end_matches('/');
    let with_port = url
        .port()
        .map(|port| format!("{}:{port}", url.host_str().unwrap_or_default()));
    url.host_str()
        .is_some_and(|name| name.eq_ignore_ascii_case(host))
        || with_port.is_some_and(|name| name.eq_ignore_ascii_case(host))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "; ours\n[other]\nclient = no\n[client_auth]\nClient = 441e307a\n\
                        # secret = commented\nsecret: a=b\napi_host = api.domo.com\n[end]\nsecret = no\n";

    #[test]
    fn keys_are_found_as_python_finds_them() {
        assert_eq!(value(TEXT, "client"), Some("441e307a"));
        assert_eq!(value(TEXT, "secret"), Some("a=b"));
        assert_eq!(value(TEXT, "api_host"), Some("api.domo.com"));
        assert_eq!(value(TEXT, "use_https"), None);
    }

    #[test]
    fn a_host_is_the_same_with_and_without_its_scheme() {
        let url = Url::parse("https://api.domo.com/oauth/token").unwrap();
        for host in ["api.domo.com", "https://api.domo.com/", "API.domo.com"] {
            assert!(is_host_of(host, &url), "{host}");
        }
        assert!(!is_host_of("api.domo.com.evil.example", &url));
        let local = Url::parse("http://127.0.0.1:8080/oauth/token").unwrap();
        assert!(is_host_of("127.0.0.1:8080", &local));
    }
}
