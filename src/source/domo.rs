//! Domo's token endpoint over HTTP: one request, one parse, one classification.
//!
//! The request is OAuth 2.0's client credentials grant (RFC 6749 §4.4.2) with HTTP Basic. What
//! Domo answers is known from its documentation and its SDKs
//! (<https://www.domo.com/docs/portal/d9520f5752d56-get-access-token>); its errors aren't
//! documented, and come in two shapes.

mod answer;
mod hint;
mod resolve;
#[cfg(all(test, unix))]
mod tests;
mod transport;

use std::io;
use std::time::Duration;

use domo_token_client::scope::ScopeSet;
use reqwest::header::ACCEPT;
use reqwest::{Certificate, Client, RequestBuilder, Response, StatusCode};
use secrecy::ExposeSecret;
use tokio::time::timeout;
use url::form_urlencoded;
use zeroize::Zeroizing;

use answer::Answer;

use super::{Cause, FetchError, Fetched, TokenSource};
use crate::clock::wall_now;
use crate::config::{Endpoint, TokenMethod};
use crate::credentials::{self, Credentials, CredentialsError, ProxyLogin};
use crate::descriptors::RAISE_LIMIT;
use crate::secret_masking::NamedPath;

/// The longest answer that is read, in bytes.
pub const MAX_BODY: usize = 1024 * 1024;

/// How long an error's body is waited for: its status, and how long we are to wait, are there.
const ERROR_BODY: Duration = Duration::from_secs(1);

/// One API client as the token endpoint knows it (RFC 6749 §2): if two are equal, so is what they
/// are answered.
#[derive(Debug, PartialEq, Eq)]
pub struct Registration {
    endpoint: Endpoint,
    credentials: Credentials,
    proxy_login: Option<ProxyLogin>,
    /// The content of the endpoint's CA file.
    ca: Option<Vec<u8>>,
}

impl Registration {
    /// Reads the endpoint's CA file.
    ///
    /// # Errors
    ///
    /// [`SourceError::CaFile`] if it can't be read, or others can write it.
    pub fn new(
        endpoint: Endpoint,
        credentials: Credentials,
        proxy_login: Option<ProxyLogin>,
    ) -> Result<Self, SourceError> {
        let ca = endpoint.ca_file.as_ref();
        let ca = ca.map(credentials::read_certificates).transpose()?;
        Ok(Self {
            endpoint,
            credentials,
            proxy_login,
            ca,
        })
    }

    /// The client id.
    #[must_use]
    pub fn client_id(&self) -> &str {
        &self.credentials.client_id
    }

    /// Returns what is unusual about its credentials, in words, each with what to do.
    #[must_use]
    pub fn slips(&self) -> Vec<String> {
        let secret = self.credentials.slip();
        let login = self.proxy_login.as_ref().and_then(ProxyLogin::slip);
        let secret = secret.map(|slip| format!("client secret {}", slip.advice()));
        let login = login.map(|slip| format!("proxy login {}", slip.advice()));
        secret.into_iter().chain(login).collect()
    }

    /// The token endpoint's URL.
    #[must_use]
    pub fn token_url(&self) -> &str {
        self.endpoint.url.as_str()
    }

    /// Whether an HTTP client for the one would do for the other.
    fn same_way(&self, other: &Self) -> bool {
        self.ca == other.ca
            && self.endpoint.proxy == other.endpoint.proxy
            && self.proxy_login == other.proxy_login
    }

    fn certificates(&self) -> Result<Vec<Certificate>, SourceError> {
        let pem = self.ca.as_deref();
        let parsed =
            pem.map(|pem| Certificate::from_pem_bundle(pem).map_err(|e| transport::innermost(&e)));
        let problem = match parsed {
            None => return Ok(Vec::new()),
            Some(Ok(certificates)) if !certificates.is_empty() => return Ok(certificates),
            Some(Ok(_)) => "no certificate in PEM form in it".to_owned(),
            Some(Err(problem)) => problem,
        };
        let path = self.endpoint.ca_file.as_ref();
        let path = path.map(NamedPath::shown).unwrap_or_default();
        Err(SourceError::Ca { path, problem })
    }
}

/// Asks Domo for the tokens of one API client.
pub struct DomoSource {
    http: Client,
    registration: Registration,
    /// Where its requests go, for people.
    place: String,
}

/// Why a source can't be made.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// The file of extra CA certificates can't be read.
    #[error(transparent)]
    CaFile(#[from] CredentialsError),
    /// The extra CA certificates can't be used.
    #[error("ca_file {path}: {problem}")]
    Ca {
        /// The file, as messages show it.
        path: String,
        /// What is wrong.
        problem: String,
    },
    /// The HTTP client can't be made, for example because the system trusts no certificate.
    #[error("the HTTP client can't be set up: {0}; is a package of CA certificates installed?")]
    Http(String),
    /// No descriptor is left to read the system's trust store.
    #[error("the trust store can't be read: {0}{RAISE_LIMIT}")]
    Exhausted(io::Error),
}

impl SourceError {
    /// Whether no descriptor was left.
    #[must_use]
    pub fn is_exhausted(&self) -> bool {
        match self {
            Self::CaFile(error) => error.is_exhausted(),
            Self::Exhausted(_) => true,
            Self::Ca { .. } | Self::Http(_) => false,
        }
    }
}

impl DomoSource {
    /// Shares the HTTP client of `like` if that would be set up the same way: a trust store for
    /// each of a thousand sources is too much. No connection is kept, so none carries two secrets.
    ///
    /// # Errors
    ///
    /// [`SourceError`] if the CA certificates or the system's trust store can't be used.
    pub fn new(registration: Registration, like: Option<&Self>) -> Result<Self, SourceError> {
        let like = like.filter(|like| like.registration.same_way(&registration));
        let http = match like {
            Some(like) => like.http.clone(),
            None => transport::client(&registration)?,
        };
        let place = transport::place(&registration.endpoint);
        Ok(Self {
            http,
            registration,
            place,
        })
    }

    /// Whom it asks for.
    #[must_use]
    pub fn registration(&self) -> &Registration {
        &self.registration
    }

    fn request(&self, scope: &ScopeSet) -> RequestBuilder {
        let Registration {
            endpoint,
            credentials,
            ..
        } = &self.registration;
        let url = endpoint.url.clone();
        let parameters = form_urlencoded::Serializer::new(String::new())
            .append_pair("grant_type", "client_credentials")
            .append_pair("scope", scope.as_str())
            .finish();
        let request = match endpoint.method {
            TokenMethod::Post => self
                .http
                .post(url)
                .header("content-type", "application/x-www-form-urlencoded")
                .body(parameters),
            TokenMethod::Get => {
                let mut url = url;
                url.set_query(Some(&parameters));
                self.http.get(url)
            }
        };
        let secret = form_encode(credentials.client_secret.expose_secret());
        request
            .basic_auth(
                form_encode(&credentials.client_id).as_str(),
                Some(secret.as_str()),
            )
            .header(ACCEPT, "application/json")
    }
}

impl TokenSource for DomoSource {
    async fn fetch(&self, scope: &ScopeSet, _: Duration) -> Result<Fetched, FetchError> {
        let failed = |error: reqwest::Error| transport::failure(&error, &self.place);
        let response = self.request(scope).send().await.map_err(failed)?;
        let answer = receive(response, failed).await;
        let secret = self.registration.credentials.client_secret.expose_secret();
        answer::read(&answer, scope, secret, &self.place)
            .map_err(|error| hint::with_slip(error, &self.registration))
    }
}

/// Id and secret are form-encoded before Basic (RFC 6749 §2.3.1).
fn form_encode(text: &str) -> Zeroizing<String> {
    Zeroizing::new(form_urlencoded::byte_serialize(text.as_bytes()).collect())
}

/// Reads a whole answer.
async fn receive(mut response: Response, failed: impl Fn(reqwest::Error) -> FetchError) -> Answer {
    let (status, headers) = (response.status(), response.headers().clone());
    let mut body = Zeroizing::new(Vec::new());
    let read = async {
        while let Some(chunk) = response.chunk().await.map_err(&failed)? {
            if body.len() + chunk.len() > MAX_BODY {
                let words = format!("the answer is longer than {MAX_BODY} bytes");
                return Err(FetchError::transient(Cause::Unusable, words));
            }
            body.extend_from_slice(&chunk);
        }
        Ok(())
    };
    let result = if status == StatusCode::OK {
        read.await
    } else {
        timeout(ERROR_BODY, read).await.unwrap_or(Ok(()))
    };
    Answer {
        status,
        headers,
        body,
        received: wall_now(),
        cut: result.err(),
    }
}

/// What fuzzers reach no other way.
#[cfg(all(unix, any(test, fuzzing)))]
pub(crate) mod fuzzing {
    use super::answer::{self, Answer};
    use super::{Duration, FetchError, Fetched, ScopeSet, StatusCode, Zeroizing, wall_now};
    use reqwest::header::{DATE, HeaderMap, HeaderName, RETRY_AFTER};

    /// What an answer of that status, counted from 100 in steps of two, means, with a header.
    pub(crate) fn answer(
        status: u8,
        header: Option<(&'static str, &[u8])>,
        body: &[u8],
        asked: &ScopeSet,
        secret: &str,
    ) -> Result<Fetched, FetchError> {
        let mut headers = HeaderMap::new();
        if let Some((name, value)) = header
            && let Ok(value) = value.try_into()
        {
            headers.insert(HeaderName::from_static(name), value);
        }
        let answer = Answer {
            status: StatusCode::from_u16(100 + u16::from(status) * 2).unwrap_or_default(),
            headers,
            body: Zeroizing::new(body.to_vec()),
            received: wall_now(),
            cut: None,
        };
        answer::read(&answer, asked, secret, "domo.example")
    }

    pub(crate) fn retry_after(value: &[u8], date: Option<&[u8]>) -> Option<Duration> {
        let mut headers = HeaderMap::new();
        headers.insert(RETRY_AFTER, value.try_into().ok()?);
        if let Some(date) = date {
            headers.insert(DATE, date.try_into().ok()?);
        }
        answer::retry_after(&headers, wall_now())
    }
}
