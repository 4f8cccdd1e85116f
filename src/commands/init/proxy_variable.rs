//! The proxy that the environment names for other programs. It is not used, since a daemon's
//! environment differs from a shell's, but it is the likely cause if Domo cannot be reached.

use url::Url;

use crate::config::{Env, PROXY_VARIABLES, needs_no_proxy};

/// Returns which variable is not used on the way to that URL, and what to type instead.
pub(super) fn hint(url: &Url, env: Env) -> Option<String> {
    if needs_no_proxy(url, env) {
        return None;
    }
    let set = PROXY_VARIABLES.into_iter().find_map(|name| {
        let value = env(name).filter(|value| !value.is_empty())?;
        Some((name, value.into_string().unwrap_or_default()))
    });
    let (name, value) = set?;
    let typed = match proxy(&value) {
        Some(Proxy::Plain(url)) => format!("--proxy {url}"),
        Some(Proxy::WithLogin) => "--proxy URL --proxy-auth-file FILE".to_owned(),
        None => "--proxy http://HOST:PORT".to_owned(),
    };
    Some(format!(
        "the environment variable {name} is not used; to use a proxy, add {typed}"
    ))
}

enum Proxy {
    Plain(String),
    WithLogin,
}

/// Returns what a variable names, if that can be the value of `--proxy`. Most programs take one without a
/// scheme as http.
fn proxy(value: &str) -> Option<Proxy> {
    let written = if value.contains("://") {
        value.to_owned()
    } else {
        format!("http://{value}")
    };
    let url = Url::parse(&written).ok()?;
    let is_http = matches!(url.scheme(), "http" | "https");
    if !url.username().is_empty() || url.password().is_some() {
        return is_http.then_some(Proxy::WithLogin);
    }
    let is_host_alone = url.path() == "/" && url.query().is_none() && url.fragment().is_none();
    (is_http && is_host_alone).then(|| Proxy::Plain(url.as_str().trim_end_matches('/').to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hint_of(variables: &[(&str, &str)]) -> Option<String> {
        let url = Url::parse("https://api.domo.com/oauth/token").unwrap();
        hint(&url, &|name| {
            let found = variables.iter().find(|(variable, _)| *variable == name);
            found.map(|(_, value)| value.into())
        })
    }

    #[test]
    fn proxy_variable_is_named_with_what_to_type() {
        for (value, typed) in [
            (
                "http://proxy.example:3128",
                "add --proxy http://proxy.example:3128",
            ),
            (
                "http://proxy.example:3128/",
                "add --proxy http://proxy.example:3128",
            ),
            (
                "proxy.example:3128",
                "add --proxy http://proxy.example:3128",
            ),
            (
                "socks5://proxy.example:1080",
                "add --proxy http://HOST:PORT",
            ),
            (
                "http://ann:c4nary@proxy.example",
                "add --proxy URL --proxy-auth-file FILE",
            ),
            (
                "ann:c4nary@proxy.example:3128",
                "add --proxy URL --proxy-auth-file FILE",
            ),
        ] {
            for name in PROXY_VARIABLES {
                let hint = hint_of(&[(name, value)]).unwrap();
                assert!(hint.starts_with(&format!("the environment variable {name} is not used")));
                assert!(hint.ends_with(typed) && !hint.contains("c4nary"), "{hint}");
            }
        }
    }

    #[test]
    fn variable_that_is_empty_for_plain_http_or_not_for_domo_gives_no_hint() {
        let set = ("HTTPS_PROXY", "http://proxy.example");
        assert_eq!(hint_of(&[set, ("NO_PROXY", "localhost,.domo.com")]), None);
        assert!(hint_of(&[set, ("NO_PROXY", "localhost")]).is_some());
        assert_eq!(hint_of(&[]), None);
        assert_eq!(hint_of(&[("HTTPS_PROXY", "")]), None);
        assert_eq!(hint_of(&[("http_proxy", "http://proxy.example")]), None);
    }
}
