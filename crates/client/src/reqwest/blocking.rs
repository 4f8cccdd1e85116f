//! With reqwest's blocking client.

use std::sync::Arc;

use reqwest::blocking::{RequestBuilder, Response};

use super::{SendError, authorize, is_refusal, wants_csv};
use crate::broker::Broker;
use crate::error::Error;
use domo_token_protocol::scope::ScopeSet;

/// Sends requests with a token. Keep one for each scope set; clones share the broker's tokens.
///
/// ```no_run
/// # fn example() -> Result<(), Box<dyn std::error::Error>> {
/// use domo_token_client::{Broker, reqwest::blocking::Authorizer};
///
/// let domo = Authorizer::new(&Broker::connect()?, "data")?;
/// let http = reqwest::blocking::Client::new();
/// let answer = domo.send(http.get("https://api.domo.com/v1/datasets"))?;
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
    /// With tokens for exactly these scopes, parted by spaces or commas.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidScope`]. The broker isn't asked before the first request.
    pub fn new(broker: &Broker, scopes: &str) -> Result<Self, Error> {
        Ok(Self {
            broker: broker.clone(),
            scopes: ScopeSet::parse(scopes)?.as_str().into(),
        })
    }

    /// Sends the request, and once more with another token if Domo refuses the first.
    ///
    /// # Errors
    ///
    /// [`SendError`]: no token, or no HTTP. An answer of any status is no error.
    pub fn send(&self, request: RequestBuilder) -> Result<Response, SendError> {
        let (http, request) = request.build_split();
        let mut request = request?;
        let token = self.broker.token(&self.scopes)?;
        authorize(request.headers_mut(), &token)?;
        let (again, csv) = (request.try_clone(), wants_csv(request.headers()));
        let answer = http.execute(request)?;
        if !is_refusal(answer.status(), csv) {
            return Ok(answer);
        }
        // If not for this request, then for the next one.
        let (Ok(token), Some(mut request)) = (self.broker.renew(&token), again) else {
            return Ok(answer);
        };
        authorize(request.headers_mut(), &token)?;
        Ok(http.execute(request)?)
    }
}
