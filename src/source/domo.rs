//! Domo's token endpoint over HTTP: one request, one parse, one classification.
//!
//! The request is OAuth 2.0's client credentials grant (RFC 6749 §4.4.2) with HTTP Basic. What
//! Domo answers is known from its documentation and its SDKs
//! (<https://www.domo.com/docs/portal/d9520f5752d56-get-access-token>); its errors aren't
//! documented, and come in two shapes.

mod answer;
mod exchange;
mod hint;
#[cfg(all(test, unix))]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use domo_token_protocol::scope::ScopeSet;
use http_body_util::Full;
use hyper::body::Bytes;
use hyper::header::{
    ACCEPT, ACCEPT_ENCODING, AUTHORIZATION, CONTENT_TYPE, HOST, HeaderValue, USER_AGENT,
};
use hyper::{Method, Request};
use secrecy::ExposeSecret;
use tokio::time::Instant;
use url::{Position, form_urlencoded};
use zeroize::Zeroizing;

use super::TokenSource;
use crate::config::named_path::NamedPath;
use crate::config::{ClientConfig, Endpoint, TokenMethod, in_variables};
use crate::connect::{self, Connector, Proxy, Secrets, Shared};
use crate::credentials::{self, Credentials, CredentialsError, ProxyLogin};
use crate::platform::clock::timer_now;
use domo_token_core::fetch::{Cause, FetchError, Fetched};

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
    ca: Option<Arc<[u8]>>,
    /// Whether there are variables in place of keys.
    by_environment: bool,
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
        let ca = ca.map(Arc::from);
        Ok(Self {
            endpoint,
            credentials,
            proxy_login,
            ca,
            by_environment: false,
        })
    }

    /// Returns it with its messages as the reader of that client's config needs them.
    #[must_use]
    pub fn of(self, client: &ClientConfig) -> Self {
        let by_environment = client.by_environment;
        Self {
            by_environment,
            ..self
        }
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
}

/// Requests the tokens of one API client from Domo.
pub struct DomoSource {
    connector: Connector,
    registration: Registration,
    /// Where its requests go, for messages.
    place: String,
}

/// Why a source can't be made.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// The file of extra CA certificates can't be read.
    #[error(transparent)]
    CaFile(#[from] CredentialsError),
    /// The extra CA certificates can't be used.
    #[error("{0}")]
    Ca(String),
}

impl SourceError {
    /// Whether no descriptor was left.
    #[must_use]
    pub fn is_exhausted(&self) -> bool {
        match self {
            Self::CaFile(error) => error.is_exhausted(),
            Self::Ca(_) => false,
        }
    }

    /// Returns it with what the reader of that client's config can do.
    #[must_use]
    pub fn for_reader(self, client: &ClientConfig) -> Self {
        match self {
            Self::CaFile(error) => credentials::for_reader(error, client).into(),
            Self::Ca(message) if client.by_environment => Self::Ca(in_variables(&message)),
            Self::Ca(_) => self,
        }
    }
}

impl DomoSource {
    /// Returns a source that shares with others what `shared` holds: what is trusted is kept once for
    /// each CA file, however many clients name it. No connection is kept, so none carries two secrets.
    ///
    /// # Errors
    ///
    /// [`SourceError::Ca`] if the CA certificates can't be used.
    pub fn new(mut registration: Registration, shared: &Shared) -> Result<Self, SourceError> {
        let Endpoint {
            url,
            ca_file,
            proxy,
            ..
        } = &registration.endpoint;
        let path = ca_file.as_ref().map(NamedPath::shown).unwrap_or_default();
        let quoted = credentials::shell_quoted(&path);
        let ca = registration.ca.as_deref().map(|ca| (ca, quoted.as_str()));
        let place = connect::place(url, proxy.as_ref());
        let proxy = proxy.clone().map(|url| Proxy {
            url,
            login: registration.proxy_login.clone(),
        });
        let connector = Connector::new(shared, ca, proxy);
        let connector = connector.map_err(|problem| {
            let message = format!("ca_file {path} can't be used: {problem}");
            SourceError::Ca(message)
        })?;
        if let Some(ca) = &mut registration.ca {
            *ca = Arc::clone(connector.ca());
        }
        Ok(Self {
            connector,
            registration,
            place,
        })
    }

    /// Whom it asks for.
    #[must_use]
    pub fn registration(&self) -> &Registration {
        &self.registration
    }

    fn request(&self, scope: &ScopeSet) -> Result<Request<Full<Bytes>>, hyper::http::Error> {
        let Registration {
            endpoint,
            credentials,
            ..
        } = &self.registration;
        let parameters = form_urlencoded::Serializer::new(String::new())
            .append_pair("grant_type", "client_credentials")
            .append_pair("scope", scope.as_str())
            .finish();
        let path = &endpoint.url[Position::BeforePath..Position::AfterPath];
        let host = &endpoint.url[Position::BeforeHost..Position::AfterPort];
        let request = Request::builder()
            .header(HOST, host)
            .header(AUTHORIZATION, authorization(credentials)?)
            .header(ACCEPT, "application/json")
            // Without it any coding is acceptable (RFC 9110 §12.5.3).
            .header(ACCEPT_ENCODING, "identity")
            .header(USER_AGENT, connect::USER_AGENT);
        match endpoint.method {
            TokenMethod::Post => request
                .method(Method::POST)
                .uri(path)
                .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
                .body(Full::from(parameters)),
            TokenMethod::Get => request
                .method(Method::GET)
                .uri(format!("{path}?{parameters}"))
                .body(Full::default()),
        }
    }

    async fn fetch_by(
        &self,
        scope: &ScopeSet,
        deadline: Instant,
        on_tunnel: &(dyn Fn() + Send + Sync),
    ) -> Result<Fetched, FetchError> {
        let request = self.request(scope).map_err(|error| {
            let words = format!("no request can be made for {}: {error}", self.place);
            FetchError::transient(Cause::Unusable, words)
        })?;
        let url = &self.registration.endpoint.url;
        let connected = self.connector.connect(url, deadline, on_tunnel).await;
        let connection = connected.map_err(exchange::of_connection)?;
        let answer = exchange::exchange(connection, request, &self.place, deadline).await?;
        let secrets = Secrets {
            client_secret: self.registration.credentials.client_secret.expose_secret(),
            login: self.registration.proxy_login.as_ref(),
        };
        answer::read(&answer, scope, secrets, &self.place)
    }
}

impl TokenSource for DomoSource {
    async fn fetch(
        &self,
        scope: &ScopeSet,
        limit: Duration,
        on_tunnel: &(dyn Fn() + Send + Sync),
    ) -> Result<Fetched, FetchError> {
        let deadline = timer_now() + limit;
        let fetched = self.fetch_by(scope, deadline, on_tunnel).await;
        fetched.map_err(|error| hint::for_reader(error, &self.registration))
    }
}

/// HTTP Basic with id and secret (RFC 6749 §2.3.1).
fn authorization(credentials: &Credentials) -> Result<HeaderValue, hyper::http::Error> {
    let id = form_encode(&credentials.client_id);
    let secret = form_encode(credentials.client_secret.expose_secret());
    let plain = Zeroizing::new(format!("{}:{}", *id, *secret));
    let value = Zeroizing::new(format!(
        "Basic {}",
        *Zeroizing::new(STANDARD.encode(&*plain))
    ));
    let mut value = HeaderValue::from_str(&value)?;
    value.set_sensitive(true);
    Ok(value)
}

/// Id and secret are form-encoded before Basic (RFC 6749 §2.3.1).
fn form_encode(text: &str) -> Zeroizing<String> {
    Zeroizing::new(form_urlencoded::byte_serialize(text.as_bytes()).collect())
}

/// What fuzzers reach no other way.
#[cfg(all(unix, any(test, fuzzing)))]
pub(crate) mod fuzzing {
    use hyper::StatusCode;
    use hyper::header::{DATE, HeaderMap, HeaderName, RETRY_AFTER};

    use super::answer::{self, Answer};
    use super::{Duration, ScopeSet, Secrets, Zeroizing};
    use crate::platform::clock::wall_now;
    use domo_token_core::fetch::{FetchError, Fetched};

    /// What an answer of that status, counted from 100 in steps of two, means, with a header.
    pub(crate) fn answer(
        status: u8,
        header: Option<(&'static str, &[u8])>,
        body: &[u8],
        asked: &ScopeSet,
        client_secret: &str,
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
        let secrets = Secrets {
            client_secret,
            login: None,
        };
        answer::read(&answer, asked, secrets, "domo.example")
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
