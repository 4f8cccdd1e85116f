//! Tests credentials: requests one token for each scope set, and finds the scope at fault if Domo grants
//! fewer.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::time::Duration;

use domo_token_protocol::scope::{DOMO_SCOPE_NAMES, ScopeSet};

use crate::commands::check::online::request;
use crate::config::listed;
use crate::source::TokenSource;
use domo_token_core::fetch_result::{Cause, FetchError, Fetched};
use domo_token_core::schedule::CONFIRM_AFTER;

/// The most scopes that are tried alone.
const MAX_PROBES: usize = DOMO_SCOPE_NAMES.len();

/// Why a test failed.
#[derive(Debug)]
pub(super) enum Failure {
    /// Domo rejected the credentials, twice.
    Rejected(String),
    /// Domo grants the client less than what was requested; which scopes, and its message.
    Scopes(String),
    ProxyLogin(String),
    /// No answer that decides it.
    Transient {
        cause: Cause,
        message: String,
        retry_after: Option<Duration>,
    },
}

/// Requests a token of each set, and returns a line for each; `pause` waits.
pub(super) async fn run<S: TokenSource>(
    source: &S,
    sets: &[ScopeSet],
    pause: impl AsyncFn(Duration),
) -> Result<String, Failure> {
    let mut test = CredentialTest {
        source,
        pause,
        granted: BTreeMap::new(),
        probes: 0,
    };
    let (mut lines, mut denied) = (Vec::new(), Vec::new());
    for set in sets {
        match test.request(set).await? {
            Ok(fetched) => {
                let seconds = fetched.lifetime.as_secs();
                lines.push(format!(
                    "Domo issued a token for \"{set}\", valid for {seconds} s"
                ));
            }
            Err(message) => denied.push((set, message)),
        }
    }
    let Some((_, message)) = denied.first() else {
        return Ok(lines.join("\n"));
    };
    // The message about a token with fewer scopes adds nothing to what is found out here.
    let message = if message.starts_with("Domo granted") {
        String::new()
    } else {
        format!(": {message}")
    };
    let mut missing = Vec::new();
    for (set, _) in denied {
        missing.push(test.missing(set).await?);
    }
    Err(Failure::Scopes(missing.join(" and ") + &message))
}

/// What was found out so far.
struct CredentialTest<'a, S, P> {
    source: &'a S,
    pause: P,
    /// Whether Domo grants a scope.
    granted: BTreeMap<String, bool>,
    /// How many scopes were tried alone.
    probes: usize,
}

impl<S: TokenSource, P: AsyncFn(Duration)> CredentialTest<'_, S, P> {
    /// Requests a token, or returns Domo's message if it does not grant the set.
    async fn request(&mut self, set: &ScopeSet) -> Result<Result<Fetched, String>, Failure> {
        let mut result = request(self.source, set).await;
        if let Err(FetchError::Denied {
            scope_only: false, ..
        }) = &result
        {
            let seconds = CONFIRM_AFTER.as_secs();
            // With standard error closed nobody sees the wait.
            let _ = writeln!(
                io::stderr(),
                "Domo rejected the credentials; trying again in {seconds} s"
            );
            (self.pause)(CONFIRM_AFTER).await;
            result = request(self.source, set).await;
        }
        match result {
            Ok(fetched) => {
                let scopes = set.iter().map(|scope| (scope.to_owned(), true));
                self.granted.extend(scopes);
                Ok(Ok(fetched))
            }
            Err(FetchError::Denied {
                scope_only: true,
                message,
                ..
            }) => {
                let mut scopes = set.iter();
                if let (Some(scope), None) = (scopes.next(), scopes.next()) {
                    self.granted.insert(scope.to_owned(), false);
                }
                Ok(Err(message))
            }
            Err(FetchError::Denied {
                scope_only: false,
                message,
                ..
            }) => Err(Failure::Rejected(message)),
            Err(FetchError::ProxyLogin { message }) => Err(Failure::ProxyLogin(message)),
            Err(FetchError::Transient {
                cause,
                message,
                retry_after,
            }) => Err(Failure::Transient {
                cause,
                message,
                retry_after,
            }),
        }
    }

    /// Returns which scopes of a set Domo does not grant, found by requesting each of them alone.
    async fn missing(&mut self, set: &ScopeSet) -> Result<String, Failure> {
        for scope in set.iter() {
            let single = ScopeSet::parse(scope);
            let Some(single) = single.ok().filter(|_| self.probes < MAX_PROBES) else {
                break;
            };
            if !self.granted.contains_key(scope) {
                self.probes += 1;
                // The result is kept.
                let _ = self.request(&single).await?;
            }
        }
        let missing = set
            .iter()
            .filter(|scope| self.granted.get(*scope) == Some(&false));
        let missing: Vec<&str> = missing.collect();
        Ok(match missing.as_slice() {
            [] => format!("the scope set \"{set}\""),
            [scope] if *scope == set.as_str() => format!("the scope \"{scope}\""),
            [scope] => format!("the scope \"{scope}\" (scope set \"{set}\")"),
            several => format!("the scopes {} (scope set \"{set}\")", listed(several)),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::pin::pin;
    use std::sync::Mutex;
    use std::task::{Context, Poll, Waker};

    use secrecy::SecretString;

    use super::*;
    use domo_token_core::fetch::{Fetch, Occasion, Progress};
    use domo_token_core::fetch_result::LifetimeSource;

    /// Grants these scopes; the script's answers come first.
    struct Domo {
        granted: &'static [&'static str],
        script: Mutex<Vec<FetchError>>,
        requests: Mutex<Vec<String>>,
    }

    fn domo(granted: &'static [&'static str], script: &[FetchError]) -> Domo {
        Domo {
            granted,
            script: Mutex::new(script.iter().rev().cloned().collect()),
            requests: Mutex::default(),
        }
    }

    impl TokenSource for Domo {
        async fn fetch(&self, occasion: &Occasion, _: &(dyn Fn(Progress) + Send + Sync)) -> Fetch {
            let scope = &occasion.scope;
            self.requests.lock().unwrap().push(scope.to_string());
            if let Some(error) = self.script.lock().unwrap().pop() {
                return Err(error).into();
            }
            if scope.iter().any(|scope| !self.granted.contains(&scope)) {
                return Err(denied(true)).into();
            }
            Fetch::Obtained(Fetched {
                text: SecretString::from("token"),
                lifetime: Duration::from_secs(3599),
                expires: None,
                renew_at: None,
                origin: domo_token_core::fetch_result::TokenOrigin::Domo,
                lifetime_source: LifetimeSource::Stated,
                granted: scope.clone(),
            })
        }
    }

    fn denied(scope_only: bool) -> FetchError {
        let message = if scope_only {
            "not granted"
        } else {
            "bad credentials"
        };
        FetchError::Denied {
            scope_only,
            in_domos_form: true,
            message: message.to_owned(),
        }
    }

    /// Runs a test in which no time passes; its result, its pauses and its requests.
    fn test(domo: &Domo, sets: &[&str]) -> (Result<String, Failure>, Vec<u64>, Vec<String>) {
        let sets: Vec<_> = sets
            .iter()
            .map(|set| ScopeSet::parse(set).unwrap())
            .collect();
        let pauses = RefCell::default();
        let pause = async |time: Duration| {
            let pauses: &RefCell<Vec<u64>> = &pauses;
            pauses.borrow_mut().push(time.as_secs());
        };
        let result = {
            let mut runtime = tokio::runtime::Builder::new_current_thread();
            let runtime = runtime.enable_time().build().unwrap();
            let _entered = runtime.enter();
            let mut run = pin!(run(domo, &sets, pause));
            match run.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
                Poll::Ready(result) => result,
                Poll::Pending => panic!("nothing here waits"),
            }
        };
        let requests = domo.requests.lock().unwrap().clone();
        (result, pauses.into_inner(), requests)
    }

    #[test]
    fn trial_of_good_credentials_requests_each_set_once() {
        let domo = domo(&["data", "user"], &[]);
        let (result, pauses, requests) = test(&domo, &["data", "data user"]);
        let expected = "Domo issued a token for \"data\", valid for 3599 s\n\
                        Domo issued a token for \"data user\", valid for 3599 s";
        assert_eq!(result.unwrap(), expected);
        assert_eq!(pauses, [0; 0]);
        assert_eq!(requests, ["data", "data user"]);
    }

    #[test]
    fn rejection_is_confirmed_by_one_request_after_5_s() {
        let wrong = domo(&["data"], &[denied(false), denied(false)]);
        let (result, pauses, requests) = test(&wrong, &["data", "user"]);
        assert!(matches!(result, Err(Failure::Rejected(message)) if message == "bad credentials"));
        assert_eq!((pauses.as_slice(), requests.len()), (&[5][..], 2));
        let new = domo(&["data"], &[denied(false)]);
        let (result, pauses, requests) = test(&new, &["data"]);
        assert!(result.is_ok(), "{result:?}");
        assert_eq!((pauses.as_slice(), requests.len()), (&[5][..], 2));
    }

    #[test]
    fn scopes_that_are_not_granted_are_found_with_one_request_for_each_unknown_one() {
        let few = domo(&["data"], &[]);
        let (result, pauses, requests) = test(&few, &["data", "data user"]);
        let Err(Failure::Scopes(message)) = result else {
            panic!("{result:?}");
        };
        assert_eq!(
            message,
            "the scope \"user\" (scope set \"data user\"): not granted"
        );
        assert_eq!(requests, ["data", "data user", "user"]);
        assert_eq!(pauses, [0; 0]);

        let few = domo(&["data"], &[]);
        let (result, _, requests) = test(&few, &["audit", "audit data user"]);
        let Err(Failure::Scopes(message)) = result else {
            panic!("{result:?}");
        };
        let expected = "the scope \"audit\" and \
                        the scopes \"audit\", \"user\" (scope set \"audit data user\"): not granted";
        assert_eq!(message, expected);
        assert_eq!(requests, ["audit", "audit data user", "data", "user"]);
    }

    #[test]
    fn set_of_scopes_that_are_granted_alone_is_named_as_a_set() {
        let domo = domo(&["data", "user"], &[denied(true)]);
        let (result, _, requests) = test(&domo, &["data user"]);
        let Err(Failure::Scopes(message)) = result else {
            panic!("{result:?}");
        };
        assert_eq!(message, "the scope set \"data user\": not granted");
        assert_eq!(requests, ["data user", "data", "user"]);
    }

    #[test]
    fn token_with_fewer_scopes_is_reported_once() {
        let granted_less = FetchError::Denied {
            scope_only: true,
            in_domos_form: true,
            message: "Domo granted a token without the scope \"user\"; create an API client with that scope, or correct tokens in the config"
                .to_owned(),
        };
        let domo = domo(&["data"], &[granted_less]);
        let (result, ..) = test(&domo, &["data user"]);
        let Err(Failure::Scopes(message)) = result else {
            panic!("{result:?}");
        };
        assert_eq!(message, "the scope \"user\" (scope set \"data user\")");
    }

    #[test]
    fn at_most_seven_scopes_are_tried_alone() {
        let nothing = domo(&[], &[]);
        let (result, _, requests) = test(&nothing, &["a b c d e", "f g h i j"]);
        assert!(matches!(result, Err(Failure::Scopes(_))), "{result:?}");
        assert_eq!(requests.len(), 2 + 7, "{requests:?}");
    }

    #[test]
    fn other_failure_ends_the_trial_without_another_request() {
        let transient = FetchError::transient(Cause::Timeout, "no answer");
        let login = FetchError::ProxyLogin {
            message: "407".to_owned(),
        };
        for error in [transient, login] {
            let domo = domo(&["data"], std::slice::from_ref(&error));
            let (result, pauses, requests) = test(&domo, &["data", "user"]);
            match result {
                Err(Failure::Transient { cause, message, .. }) => {
                    assert_eq!(error, FetchError::transient(cause, message));
                }
                Err(Failure::ProxyLogin(message)) => {
                    assert_eq!(error, FetchError::ProxyLogin { message });
                }
                other => panic!("{other:?}"),
            }
            assert_eq!((pauses.len(), requests.len()), (0, 1));
        }
    }
}
