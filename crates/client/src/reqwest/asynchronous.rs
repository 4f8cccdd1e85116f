//! For reqwest's async client.

use std::sync::Arc;

use reqwest::{RequestBuilder, Response};

use super::{SendError, accepts_csv, authorize, rejects_token};
use crate::error::Error;
use crate::tokio::Broker;
use domo_token_protocol::scope::ScopeSet;

/// Sends requests with a token. Keep one for each scope set; clones share the broker's tokens.
///
/// ```no_run
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// use domo_token_client::{reqwest::Authorizer, tokio::Broker};
///
/// let domo = Authorizer::new(&Broker::connect().await?, "data")?;
/// let http = reqwest::Client::new();
/// let answer = domo.send(http.get("https://api.domo.com/v1/datasets")).await?;
/// println!("{}", answer.status());
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Authorizer {
    broker: Broker,
    scopes: Arc<str>,
}

impl Authorizer {
    /// Returns one with tokens for exactly these scopes, separated by spaces or commas.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidScope`](crate::ErrorKind::InvalidScope). No token is requested before the first request.
    pub fn new(broker: &Broker, scopes: &str) -> Result<Self, Error> {
        Ok(Self {
            broker: broker.clone(),
            scopes: ScopeSet::parse(scopes)
                .map_err(Error::invalid_scope)?
                .as_str()
                .into(),
        })
    }

    /// Sends the request, and once more with another token if Domo rejects the first one.
    ///
    /// # Errors
    ///
    /// [`SendError`]. A response of any status is no error.
    pub async fn send(&self, request: RequestBuilder) -> Result<Response, SendError> {
        let (http, request) = request.build_split();
        let mut request = request?;
        let token = self.broker.token(&self.scopes).await?;
        authorize(request.headers_mut(), &token)?;
        let (again, csv) = (request.try_clone(), accepts_csv(request.headers()));
        let answer = http.execute(request).await?;
        if !rejects_token(answer.status(), csv) {
            return Ok(answer);
        }
        // Also if this request cannot be repeated: the next one needs the other token.
        let (Ok(token), Some(mut request)) = (self.broker.renew(&token).await, again) else {
            return Ok(answer);
        };
        authorize(request.headers_mut(), &token)?;
        Ok(http.execute(request).await?)
    }
}
