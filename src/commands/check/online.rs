//! Checks against Domo: one request for each scope set.

use std::time::Duration;

use domo_token_protocol::scope::ScopeSet;
use tokio::time::timeout;

use super::{Checked, Report};
use crate::config::Endpoint;
use crate::source::TokenSource;
use domo_token_core::fetch::{Fetch, Occasion};
use domo_token_core::fetch_result::{Cause, FetchError, Fetched};
use domo_token_core::schedule::REQUEST_MAX;
use domo_token_core::scheduler::ProxyLoginId;

/// How long after its limit a request that has not ended by itself is dropped.
const GRACE: Duration = Duration::from_millis(500);

/// Requests a token once. Ends at the limit even if the source still waits, for example for a name server.
pub(crate) async fn request<S: TokenSource>(
    source: &S,
    scope: &ScopeSet,
) -> Result<Fetched, FetchError> {
    let occasion = Occasion::once(scope.clone(), REQUEST_MAX);
    ended(REQUEST_MAX + GRACE, source.fetch(&occasion, &|_| ())).await
}

async fn ended(
    limit: Duration,
    request: impl Future<Output = Fetch>,
) -> Result<Fetched, FetchError> {
    match timeout(limit, request).await {
        Ok(fetch) => fetch.into_result(),
        Err(_late) => {
            let seconds = REQUEST_MAX.as_secs();
            let message = format!("no response within {seconds} s");
            Err(FetchError::transient(Cause::Timeout, message))
        }
    }
}

/// A failure that the next request on the same way would meet as well.
struct Shut<'a> {
    way: Way<'a>,
    /// Whether it is the proxy that rejected its login, which more attempts would lock.
    is_login: bool,
    message: String,
}

/// How a client's requests go.
#[derive(Clone, Copy)]
struct Way<'a> {
    endpoint: &'a Endpoint,
    /// The login itself: two files may have the same one.
    login: Option<ProxyLoginId>,
}

impl Shut<'_> {
    fn is_on(&self, way: Way) -> bool {
        let Endpoint { url, ca_file, .. } = self.way.endpoint;
        let other = way.endpoint;
        self.way.login == way.login
            && (self.is_login || *url == other.url && *ca_file == other.ca_file)
    }
}

/// Requests each token once, one after the other: nobody waits for these tokens. A client is ok if
/// all of them come. What a request before it has shown to be out of reach is not requested.
pub(super) async fn request_tokens(checked: Vec<Checked<'_>>, report: &mut Report) {
    let mut shut: Vec<Shut> = Vec::new();
    for client in checked {
        let errors = report.wrong.len();
        let mut good = Vec::new();
        let way = Way {
            endpoint: &client.client.endpoint,
            login: client.loaded.proxy_login,
        };
        for scope in &client.client.tokens {
            let set = format!("client \"{}\", scope set \"{scope}\"", client.name);
            if let Some(shut) = shut.iter().find(|shut| shut.is_on(way)) {
                let line = format!(
                    "{set}: not requested, because an earlier request failed: {}",
                    shut.message
                );
                report.wrong.push(line);
                report.denied |= shut.is_login;
                continue;
            }
            match request(&*client.loaded.source, scope).await {
                Ok(fetched) => {
                    let seconds = fetched.lifetime.as_secs();
                    good.push(format!("{set}: token obtained, valid for {seconds} s"));
                }
                Err(error) => {
                    let error = with_advice(error, &client);
                    shut.extend(failed(error, &set, way, report));
                }
            }
        }
        let is_ok = report.wrong.len() == errors;
        report
            .good
            .push(client.good(if is_ok { "ok" } else { "files ok" }));
        report.good.extend(good);
    }
}

/// Returns the error with what to do about a rejected scope set, or about a rejected client, unless a mistake
/// of its secret explains it.
fn with_advice(mut error: FetchError, client: &Checked) -> FetchError {
    if let FetchError::Denied {
        scope_only: true,
        message,
        ..
    } = &mut error
        // The message about a token with fewer scopes has advice.
        && !message.contains("create an API client")
    {
        message.push_str(
            "; create an API client with these scopes at Domo (Admin > Authentication > API clients), or \
             correct tokens in the config",
        );
    }
    if let FetchError::Denied {
        scope_only: false,
        message,
        ..
    } = &mut error
        && client.loaded.source.credential_warnings().is_empty()
    {
        message.push_str(
            "; check the client id and the secret at Domo (Admin > Authentication > API clients)",
        );
    }
    error
}

/// Reports a failure, and returns what it means for the requests that follow.
fn failed<'a>(error: FetchError, set: &str, way: Way<'a>, report: &mut Report) -> Option<Shut<'a>> {
    let (message, is_login, is_shut) = match error {
        FetchError::Denied { message, .. } => {
            report.denied = true;
            (message, false, false)
        }
        FetchError::ProxyLogin { message } => {
            report.denied = true;
            (message, true, true)
        }
        FetchError::Transient { cause, message, .. } => (message, false, cause == Cause::Timeout),
    };
    report.wrong.push(format!("{set}: {message}"));
    is_shut.then_some(Shut {
        way,
        is_login,
        message,
    })
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use url::Url;

    use super::*;

    #[tokio::test]
    async fn request_that_never_ends_is_dropped_at_the_limit() {
        let error = ended(Duration::ZERO, pending()).await.unwrap_err();
        assert!(
            matches!(&error, FetchError::Transient { cause: Cause::Timeout, message, .. }
                if message == "no response within 20 s"),
            "{error:?}"
        );
    }

    fn endpoint(url: &str) -> Endpoint {
        Endpoint::new(Url::parse(url).unwrap())
    }

    #[test]
    fn failure_skips_its_route_and_a_rejected_login_each_route_through_its_proxy() {
        let acme = endpoint("https://acme.example/token");
        let beta = endpoint("https://beta.example/token");
        let way = |endpoint, login: Option<u64>| Way {
            endpoint,
            login: login.map(ProxyLoginId::new),
        };
        for (is_login, shut) in [
            (true, [true, true, false, false]),
            (false, [true, false, false, false]),
        ] {
            let failure = Shut {
                way: way(&acme, Some(1)),
                is_login,
                message: String::new(),
            };
            let ways = [
                way(&acme, Some(1)),
                way(&beta, Some(1)),
                way(&acme, Some(2)),
                way(&acme, None),
            ];
            assert_eq!(ways.map(|way| failure.is_on(way)), shut, "{is_login}");
        }
    }

    #[test]
    fn only_failures_that_would_repeat_skip_the_route() {
        let endpoint = endpoint("https://acme.example/token");
        let way = Way {
            endpoint: &endpoint,
            login: None,
        };
        let message = String::new();
        for (error, shuts, denied) in [
            (
                FetchError::ProxyLogin {
                    message: message.clone(),
                },
                true,
                true,
            ),
            (FetchError::transient(Cause::Timeout, ""), true, false),
            (FetchError::transient(Cause::Connect, ""), false, false),
            (FetchError::transient(Cause::Server, ""), false, false),
            (
                FetchError::Denied {
                    scope_only: false,
                    in_domos_form: true,
                    message: message.clone(),
                },
                false,
                true,
            ),
        ] {
            let mut report = Report::default();
            let shut = failed(error, "set", way, &mut report);
            assert_eq!((shut.is_some(), report.denied), (shuts, denied));
            assert_eq!(report.wrong.len(), 1);
        }
    }
}
