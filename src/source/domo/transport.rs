//! How requests get to Domo, and why they don't.

use std::error::Error;
use std::io;
use std::time::Duration;

use reqwest::{Client, Proxy, redirect};
use secrecy::ExposeSecret;
use url::Url;

use super::resolve::Resolver;
use super::{Registration, SourceError, answer};
use crate::config::Endpoint;
use crate::descriptors;
use crate::secret_masking::masked;
use crate::source::{Cause, FetchError};

/// How long a connection may take to come about.
pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// A backstop: the schedule gives a request up earlier, on its own clock.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

/// How many descriptors reading a directory of files takes.
const DIRECTORY_DESCRIPTORS: usize = 3;

/// An HTTP client that goes that way.
pub(super) fn client(registration: &Registration) -> Result<Client, SourceError> {
    let failed = |error: reqwest::Error| SourceError::Http(innermost(&error));
    // Whoever installed one before made the choice.
    let _already = rustls::crypto::ring::default_provider().install_default();
    let mut builder = Client::builder()
        .redirect(redirect::Policy::none())
        .no_proxy()
        .connect_timeout(CONNECT_TIMEOUT)
        .timeout(REQUEST_TIMEOUT)
        .pool_max_idle_per_host(0)
        .dns_resolver(Resolver)
        .user_agent(concat!("domo-token/", env!("CARGO_PKG_VERSION")));
    if let Some(url) = &registration.endpoint.proxy {
        let mut proxy = Proxy::all(url.clone()).map_err(failed)?;
        if let Some(login) = &registration.proxy_login {
            proxy = proxy.basic_auth(&login.user, login.password.expose_secret());
        }
        builder = builder.proxy(proxy);
    }
    let certificates = registration.certificates()?;
    if !certificates.is_empty() {
        builder = builder.tls_certs_merge(certificates);
    }
    builder.build().map_err(|error| {
        // The library only says that it has no certificates.
        let exhausted = descriptors::probe(DIRECTORY_DESCRIPTORS).err();
        exhausted.map_or_else(|| failed(error), SourceError::Exhausted)
    })
}

/// Where its requests go, for people.
pub(super) fn place(endpoint: &Endpoint) -> String {
    let host = |url: &Url| {
        let name = url.host_str().unwrap_or_default();
        let port = url.port().map(|port| format!(":{port}"));
        format!("{}{}", masked(name), port.unwrap_or_default())
    };
    let through = endpoint
        .proxy
        .as_ref()
        .map(|proxy| format!(" through the proxy {}", host(proxy)));
    format!("{}{}", host(&endpoint.url), through.unwrap_or_default())
}

/// What kept a request or its answer from getting through to `place`.
pub(super) fn failure(error: &reqwest::Error, place: &str) -> FetchError {
    let words = innermost(error);
    if causes(error).any(<dyn Error>::is::<rustls::Error>) {
        let hint = "check token_url, ca_file and the time of this machine";
        let words = format!("{place} can't be trusted, TLS: {words}; {hint}");
        return FetchError::transient(Cause::Tls, words);
    }
    let (cause, words) = if error.is_timeout() && error.is_connect() {
        (Cause::Timeout, format!("no connection to {place} in time"))
    } else if error.is_timeout() {
        (Cause::Timeout, format!("no answer from {place} in time"))
    } else if error.is_connect() {
        (Cause::Connect, format!("{place} can't be reached: {words}"))
    } else {
        let words = format!("the connection to {place} failed: {words}");
        (Cause::Connect, words)
    };
    FetchError::transient(cause, words)
}

/// An error and all that it came from. An I/O error hides the error it wraps from `source`.
fn causes<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |&error| {
        let io = error.downcast_ref::<io::Error>();
        match io.and_then(io::Error::get_ref) {
            Some(wrapped) => Some(wrapped),
            None => error.source(),
        }
    })
}

/// What it all came from, in one line: the errors around it only say that a request failed.
pub(super) fn innermost(error: &(dyn Error + 'static)) -> String {
    let last = causes(error).last().unwrap_or(error);
    answer::one_line(&last.to_string())
}
