//! Calls about the broker itself, blocking and for tokio side by side.

use crate::broker::Broker;
use crate::connection::Connection;
use crate::error::Error;
use crate::status::{Explanation, Status};
use crate::token::TokenKey;
#[cfg(feature = "tokio")]
use crate::tokio;
use crate::transport::{Next, unexpected};
use domo_token_protocol::messages::{Request, Response};

impl Broker {
    /// Returns the state of the broker and of the scope sets that this process may see.
    ///
    /// # Errors
    ///
    /// As [`Self::token`].
    ///
    /// # Examples
    ///
    /// ```
    /// # #[cfg(unix)] {
    /// # let fake = domo_token_client::testing::FakeBroker::start().unwrap();
    /// # let broker = fake.broker();
    /// let status = broker.status()?;
    /// println!("up for {} s", status.broker.started.elapsed().as_secs());
    /// for set in &status.scopes {
    ///     println!("{} of {}: {:?}", set.scope, set.client, set.state);
    /// }
    /// # assert_eq!(status.broker.pid, std::process::id());
    /// # }
    /// # Ok::<(), domo_token_client::Error>(())
    /// ```
    pub fn status(&self) -> Result<Status, Error> {
        complete(self.query(&Request::Status, &read_status)?)
    }

    /// Returns the broker's metrics in the Prometheus text format.
    ///
    /// # Errors
    ///
    /// As [`Self::token`].
    pub fn metrics(&self) -> Result<String, Error> {
        self.query(&Request::Metrics, &read_metrics)
    }

    /// Returns the broker's decision about these scopes for this process, and the reason.
    ///
    /// # Errors
    ///
    /// As [`Self::token`].
    pub fn explain(&self, scopes: &str) -> Result<Explanation, Error> {
        let key = self.key(scopes)?;
        let read = |explanation: &mut Option<Explanation>, response, _: &Connection| {
            read_explanation(&key, explanation, response)
        };
        complete(self.query(&Request::Explain(key.subject()), &read)?)
    }
}

fn read_status(
    status: &mut Option<Status>,
    response: Response,
    connection: &Connection,
) -> Result<Next, Error> {
    match (response, status) {
        (Response::Broker(broker), status @ None) => {
            let socket = connection.broker();
            *status = Some(Status::new(broker, socket, connection.clock()));
        }
        (Response::Scope(scope), Some(status)) => status.push(scope),
        (Response::End, Some(_)) => return Ok(Next::Done),
        (response, _) => return Err(unexpected(&response)),
    }
    Ok(Next::More)
}

fn read_metrics(text: &mut String, response: Response, _: &Connection) -> Result<Next, Error> {
    if let Response::Metrics(piece) = response {
        text.push_str(&piece);
        return Ok(Next::More);
    }
    if response == Response::End {
        return Ok(Next::Done);
    }
    Err(unexpected(&response))
}

fn read_explanation(
    key: &TokenKey,
    explanation: &mut Option<Explanation>,
    response: Response,
) -> Result<Next, Error> {
    let Response::Explanation(given) = response else {
        return Err(unexpected(&response));
    };
    key.check_explanation(&given)?;
    *explanation = Some(Explanation::new(given));
    Ok(Next::Done)
}

/// Returns the answer that a response consists of.
fn complete<T>(answer: Option<T>) -> Result<T, Error> {
    answer.ok_or_else(|| unexpected(&Response::End))
}

#[cfg(feature = "tokio")]
impl tokio::Broker {
    /// Returns the state of the broker and its scope sets, as [`crate::Broker::status`].
    ///
    /// # Errors
    ///
    /// As there.
    pub async fn status(&self) -> Result<Status, Error> {
        complete(self.query(&Request::Status, &read_status).await?)
    }

    /// Returns the broker's metrics, as [`crate::Broker::metrics`].
    ///
    /// # Errors
    ///
    /// As there.
    pub async fn metrics(&self) -> Result<String, Error> {
        self.query(&Request::Metrics, &read_metrics).await
    }

    /// Returns the broker's decision for this process, as [`crate::Broker::explain`].
    ///
    /// # Errors
    ///
    /// As there.
    pub async fn explain(&self, scopes: &str) -> Result<Explanation, Error> {
        let key = self.0.key(scopes)?;
        let read = |explanation: &mut Option<Explanation>, response, _: &Connection| {
            read_explanation(&key, explanation, response)
        };
        complete(self.query(&Request::Explain(key.subject()), &read).await?)
    }
}
