//! Domo's token endpoint over HTTP: `request` builds a request, `transport` sends it, `response`
//! classifies the response.
//!
//! Domo's responses are known from its documentation and its SDKs
//! (<https://www.domo.com/docs/portal/d9520f5752d56-get-access-token>); its errors aren't
//! documented, and come in two shapes.

mod request;
mod response;
#[cfg(all(test, unix))]
mod tests;
mod transport;

use std::sync::Arc;
use std::time::Duration;

use domo_token_protocol::scope::ScopeSet;
use secrecy::{ExposeSecret, SecretString};
use tokio::time::Instant;

use crate::config::named_path::NamedPath;
use crate::config::{Endpoint, Setting};
use crate::connect::{self, Connector, Proxy, Secrets, Shared};
use crate::credentials::{self, Credentials, CredentialsError, ProxyLogin};
use crate::platform::clock::timer_now;
use domo_token_core::fetch::Progress;
use domo_token_core::fetch_result::{Cause, FetchError, Fetched};

/// The longest body of a response, in bytes.
pub const MAX_BODY: usize = 1024 * 1024;

/// The time limit for the body of an error, whose status and headers have been received.
const ERROR_BODY: Duration = Duration::from_secs(1);

/// One API client as registered at the token endpoint (RFC 6749 §2). Equal ones receive equal responses.
#[derive(Debug, PartialEq, Eq)]
pub struct Registration {
    endpoint: Endpoint,
    credentials: Credentials,
    proxy_login: Option<ProxyLogin>,
    /// The content of the endpoint's CA file.
    ca: Option<Arc<[u8]>>,
}

impl Registration {
    /// Reads the endpoint's CA file.
    ///
    /// # Errors
    ///
    /// [`SourceError::CaFile`] if it cannot be read, or other users can write it.
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
        })
    }

    #[must_use]
    pub fn client_id(&self) -> &str {
        &self.credentials.client_id
    }

    pub(super) fn client_secret(&self) -> &SecretString {
        &self.credentials.client_secret
    }

    /// Returns messages about what is unusual about its credentials, each with what to do.
    #[must_use]
    pub fn paste_mistakes(&self) -> Vec<String> {
        let secret = self.credentials.paste_mistake();
        let login = self
            .proxy_login
            .as_ref()
            .and_then(ProxyLogin::paste_mistake);
        let secret = secret.map(|mistake| format!("client secret {}", mistake.advice()));
        let login = login.map(|mistake| format!("proxy login {}", mistake.advice()));
        secret.into_iter().chain(login).collect()
    }

    #[must_use]
    pub fn token_url(&self) -> &str {
        self.endpoint.url.as_str()
    }
}

/// Requests the tokens of one API client from Domo.
pub struct DomoSource {
    connector: Arc<Connector>,
    registration: Registration,
    /// The server's name in messages.
    server_name: String,
}

#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// The CA file cannot be read.
    #[error(transparent)]
    CaFile(#[from] CredentialsError),
    /// The certificates of the CA file cannot be used.
    #[error("{0}")]
    Ca(String),
}

impl SourceError {
    /// Returns whether no descriptor was left.
    #[must_use]
    pub fn is_exhausted(&self) -> bool {
        match self {
            Self::CaFile(error) => error.is_exhausted(),
            Self::Ca(_) => false,
        }
    }
}

impl DomoSource {
    /// Returns a source that shares name lookups and trust stores with those of the same `shared`. Connections are not
    /// reused, so none carries two secrets.
    ///
    /// # Errors
    ///
    /// [`SourceError::Ca`] if the certificates of the CA file cannot be used.
    pub fn new(mut registration: Registration, shared: &Shared) -> Result<Self, SourceError> {
        let Endpoint {
            url,
            ca_file,
            proxy,
            naming,
            ..
        } = &registration.endpoint;
        let path = ca_file.as_ref().map(NamedPath::shown).unwrap_or_default();
        let quoted = credentials::shell_quoted(&path);
        let ca = registration.ca.as_deref().map(|ca| (ca, quoted.as_str()));
        let server_name = connect::display_name(url, proxy.as_ref());
        let proxy = proxy.clone().map(|url| Proxy {
            url,
            login: registration.proxy_login.clone(),
        });
        let connector = Connector::new(shared, ca, proxy, *naming);
        let connector = connector.map_err(|problem| {
            let key = naming.name(Setting::CA_FILE);
            let message = format!("cannot use {key} {path}: {problem}");
            SourceError::Ca(message)
        })?;
        if let Some(ca) = &mut registration.ca {
            *ca = Arc::clone(connector.ca());
        }
        Ok(Self {
            connector: Arc::new(connector),
            registration,
            server_name,
        })
    }

    /// Returns the API client that it requests tokens for.
    #[must_use]
    pub fn registration(&self) -> &Registration {
        &self.registration
    }

    /// Returns how it connects.
    pub(super) fn connector(&self) -> &Arc<Connector> {
        &self.connector
    }

    /// Requests one token, once, within `limit`; never retries. Reports that it does, and when a proxy has opened a
    /// tunnel: then its login is valid, even if Domo rejects the request.
    ///
    /// # Errors
    ///
    /// [`FetchError`] with the likely mistake in the credentials.
    pub async fn fetch(
        &self,
        scope: &ScopeSet,
        limit: Duration,
        on_progress: &(dyn Fn(Progress) + Send + Sync),
    ) -> Result<Fetched, FetchError> {
        let deadline = timer_now() + limit;
        on_progress(Progress::Requested);
        let on_tunnel = || on_progress(Progress::TunnelOpened);
        let fetched = self.fetch_by(scope, deadline, &on_tunnel).await;
        fetched.map_err(|error| with_paste_mistake(error, &self.registration))
    }

    async fn fetch_by(
        &self,
        scope: &ScopeSet,
        deadline: Instant,
        on_tunnel: &(dyn Fn() + Send + Sync),
    ) -> Result<Fetched, FetchError> {
        let Registration {
            endpoint,
            credentials,
            ..
        } = &self.registration;
        let request = request::token_request(endpoint, credentials, scope);
        let request = request.map_err(|error| {
            let message = format!("cannot build a request for {}: {error}", self.server_name);
            FetchError::transient(Cause::Unusable, message)
        })?;
        let connected = self
            .connector
            .connect(&endpoint.url, deadline, on_tunnel)
            .await;
        let connection = connected.map_err(transport::of_connection)?;
        let answer = transport::send(connection, request, &self.server_name, deadline).await?;
        let secrets = Secrets {
            client_secret: self.registration.credentials.client_secret.expose_secret(),
            login: self.registration.proxy_login.as_ref(),
        };
        response::read(&answer, scope, secrets, &self.server_name, endpoint.naming)
    }
}

/// Returns the error with the mistake that the rejected secret or login shows, if it shows one.
fn with_paste_mistake(mut error: FetchError, registration: &Registration) -> FetchError {
    let (message, what, mistake) = match &mut error {
        FetchError::Denied {
            scope_only: false,
            message,
            ..
        } => (
            message,
            "client secret",
            registration.credentials.paste_mistake(),
        ),
        FetchError::ProxyLogin { message, .. } => {
            let login = registration.proxy_login.as_ref();
            (
                message,
                "proxy login",
                login.and_then(ProxyLogin::paste_mistake),
            )
        }
        FetchError::Denied { .. } | FetchError::Transient { .. } => return error,
    };
    if let Some(mistake) = mistake {
        *message = format!("{message}; the {what} {}", mistake.advice());
    }
    error
}

/// Entry points for fuzzers.
#[cfg(all(unix, any(test, fuzzing)))]
pub(crate) mod fuzzing {
    use hyper::StatusCode;
    use hyper::header::{DATE, HeaderMap, HeaderName, RETRY_AFTER};
    use zeroize::Zeroizing;

    use super::response::{self, Answer};
    use super::{Duration, ScopeSet, Secrets};
    use crate::config::Naming;
    use crate::platform::clock::wall_now;
    use domo_token_core::fetch_result::{FetchError, Fetched};

    /// Reads a response whose status is 100 plus twice `status`.
    pub(crate) fn answer(
        status: u8,
        header: Option<(&'static str, &[u8])>,
        body: &[u8],
        requested: &ScopeSet,
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
        response::read(&answer, requested, secrets, "domo.example", Naming::Keys)
    }

    pub(crate) fn retry_after(value: &[u8], date: Option<&[u8]>) -> Option<Duration> {
        let mut headers = HeaderMap::new();
        headers.insert(RETRY_AFTER, value.try_into().ok()?);
        if let Some(date) = date {
            headers.insert(DATE, date.try_into().ok()?);
        }
        response::retry_after(&headers, wall_now())
    }
}
