//! Responses as frames, in each protocol version.
//!
//! Version 3 added one field to the status of a broker and one to that of a scope set. Both fields are last and
//! optional. So a status of an older version is one of version 3 without its last byte, the 0 of an absent field.

use zeroize::Zeroizing;

use crate::frame::{self, FrameError, HEAD};
use crate::messages::Response;

/// The first protocol version whose statuses have a field about the fleet.
const VERSION_WITH_FLEET: u8 = 3;

/// The encoding of an absent optional field.
const ABSENT: u8 = 0;

/// The numbers of the variants that are a status.
const STATUSES: [u8; 2] = [2, 3];

impl Response {
    /// Encodes the frame for a caller that speaks `version`. A field that the version lacks is omitted.
    ///
    /// # Errors
    ///
    /// [`FrameError::TooLong`] if the body is over [`frame::MAX_BODY`].
    pub fn encode(mut self, version: u8) -> Result<Zeroizing<Vec<u8>>, FrameError> {
        let is_shorter = version < VERSION_WITH_FLEET && self.remove_fleet().is_some();
        let mut frame = frame::encode(&self)?;
        if is_shorter {
            frame.pop();
            let length = frame.len().saturating_sub(HEAD);
            let length = u32::try_from(length).map_err(|_| FrameError::TooLong(length))?;
            let head = frame.first_chunk_mut::<HEAD>();
            *head.ok_or(FrameError::Malformed)? = length.to_le_bytes();
        }
        Ok(frame)
    }

    /// Decodes a body from a broker that speaks `version`.
    ///
    /// # Errors
    ///
    /// [`FrameError::Malformed`] if it is not exactly one response of that version.
    pub fn decode(body: &[u8], version: u8) -> Result<Self, FrameError> {
        let is_status = body.first().is_some_and(|first| STATUSES.contains(first));
        if version >= VERSION_WITH_FLEET || !is_status {
            return frame::decode(body);
        }
        // A status contains no secret.
        let mut response: Self = frame::decode(&[body, &[ABSENT]].concat())?;
        match response.remove_fleet() {
            Some(true) => Err(FrameError::Malformed),
            Some(false) | None => Ok(response),
        }
    }

    /// Sets the field about the fleet to `None`. Returns whether it had a value; `None` if the response has no such
    /// field.
    fn remove_fleet(&mut self) -> Option<bool> {
        match self {
            Self::Broker(status) => Some(status.fleet.take().is_some()),
            Self::Scope(status) => Some(status.from.take().is_some()),
            Self::Token(_)
            | Self::Refusal(_)
            | Self::Explanation(_)
            | Self::Metrics(_)
            | Self::End => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::BootTime;
    use crate::messages::{
        BrokerStatus, FleetStatus, ScopeState, ScopeStatus, TokenAnswer, TokenOrigin, TokenText,
    };

    fn broker(fleet: Option<FleetStatus>) -> Response {
        Response::Broker(BrokerStatus {
            version: "0.1.0".to_owned(),
            fleet,
            ..BrokerStatus::default()
        })
    }

    fn fleet() -> FleetStatus {
        FleetStatus {
            place: "cache.example:6379".to_owned(),
            up: true,
            since: None,
            last_error: None,
            clock_difference_ms: Some(-12),
        }
    }

    fn scope(from: Option<TokenOrigin>) -> Response {
        Response::Scope(ScopeStatus {
            client: "acme".to_owned(),
            client_id: "441e307a".to_owned(),
            scope: "data".to_owned(),
            state: ScopeState::Fresh,
            obtained: None,
            expires: None,
            generation: None,
            next_attempt: None,
            requests: 1,
            attempts: 0,
            last_error: None,
            last_error_at: None,
            rejected: 0,
            last_rejected_by: None,
            credentials_error: None,
            from,
        })
    }

    #[test]
    fn status_of_an_older_version_has_no_fleet_and_otherwise_the_same_fields() {
        let origin = Some(TokenOrigin::Fleet);
        for (full, reduced) in [
            (broker(Some(fleet())), broker(None)),
            (scope(origin), scope(None)),
        ] {
            let newest = full.clone().encode(3).unwrap();
            assert_eq!(Response::decode(&newest[HEAD..], 3), Ok(full.clone()));
            for version in [1, 2] {
                let frame = full.clone().encode(version).unwrap();
                let (body, used) = frame::split(&frame).unwrap().unwrap();
                assert_eq!(used, frame.len());
                assert_eq!(Response::decode(body, version), Ok(reduced.clone()));
                assert_eq!(Response::decode(body, 3), Err(FrameError::Malformed));
            }
            assert_eq!(
                Response::decode(&newest[HEAD..], 2),
                Err(FrameError::Malformed)
            );
        }
    }

    #[test]
    fn absent_fleet_is_malformed_in_an_older_version_too() {
        for response in [broker(None), scope(None), scope(Some(TokenOrigin::Domo))] {
            let frame = response.encode(3).unwrap();
            assert_eq!(
                Response::decode(&frame[HEAD..], 2),
                Err(FrameError::Malformed)
            );
        }
    }

    #[test]
    fn token_is_the_same_in_each_version() {
        let token = Response::Token(TokenAnswer {
            access_token: TokenText::new("c4nary".to_owned()),
            client: "acme".to_owned(),
            scope: "data".to_owned(),
            generation: 7,
            lifetime_ms: 1000,
            expires: BootTime::from_millis(1),
        });
        let frame = frame::encode(&token).unwrap();
        for version in 1..=3 {
            assert_eq!(token.clone().encode(version).unwrap(), frame);
            assert_eq!(Response::decode(&frame[HEAD..], version), Ok(token.clone()));
        }
    }
}
