//! Responses as frames, in each protocol version.
//!
//! Version 3 added fields at the end of the status of a broker and of that of a scope set. Each of them is encoded as one
//! 0 if it has no value. So a status of an older version is one of version 3 without these bytes.

use std::mem;

use zeroize::Zeroizing;

use crate::frame::{self, FrameError, HEAD};
use crate::messages::Response;

/// The first protocol version whose statuses have the added fields.
const VERSION_WITH_ADDED_FIELDS: u8 = 3;

/// The encoding of the fields that version 3 added to the status of a broker, without values: no fleet, no applications,
/// and no further ones.
const ADDED_TO_BROKER: [u8; 3] = [0; 3];

/// The encoding of the field that version 3 added to the status of a scope set, without a value.
const ADDED_TO_SCOPE: [u8; 1] = [0];

/// Returns what version 3 added to a response with this number, as it is encoded without values.
const fn added_to(variant: u8) -> &'static [u8] {
    match variant {
        2 => &ADDED_TO_BROKER,
        3 => &ADDED_TO_SCOPE,
        _ => &[],
    }
}

impl Response {
    /// Encodes the frame for a caller that speaks `version`. A field that the version lacks is omitted.
    ///
    /// # Errors
    ///
    /// [`FrameError::TooLong`] if the body is over [`frame::MAX_BODY`].
    pub fn encode(mut self, version: u8) -> Result<Zeroizing<Vec<u8>>, FrameError> {
        if version >= VERSION_WITH_ADDED_FIELDS {
            return frame::encode(&self);
        }
        self.remove_added_fields();
        let mut frame = frame::encode(&self)?;
        let added = frame.get(HEAD).map_or(&[][..], |first| added_to(*first));
        if !added.is_empty() {
            let length = frame.len().saturating_sub(HEAD + added.len());
            frame.truncate(HEAD + length);
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
        let added = body.first().map_or(&[][..], |first| added_to(*first));
        if version >= VERSION_WITH_ADDED_FIELDS || added.is_empty() {
            return frame::decode(body);
        }
        // A status contains no secret.
        let mut response: Self = frame::decode(&[body, added].concat())?;
        if response.remove_added_fields() {
            return Err(FrameError::Malformed);
        }
        Ok(response)
    }

    /// Removes the values of the fields that version 3 added. Returns whether there were any.
    fn remove_added_fields(&mut self) -> bool {
        match self {
            Self::Broker(status) => {
                let fleet = status.fleet.take();
                let apps = mem::take(&mut status.apps);
                let more_apps = mem::take(&mut status.more_apps);
                fleet.is_some() || !apps.is_empty() || more_apps > 0
            }
            Self::Scope(status) => status.from.take().is_some(),
            Self::Token(_)
            | Self::Refusal(_)
            | Self::Explanation(_)
            | Self::Metrics(_)
            | Self::End => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::BootTime;
    use crate::messages::{
        AppStatus, BrokerStatus, FleetStatus, ScopeState, ScopeStatus, TokenAnswer, TokenOrigin,
        TokenText,
    };

    fn broker(fleet: Option<FleetStatus>) -> Response {
        Response::Broker(BrokerStatus {
            version: "0.1.0".to_owned(),
            fleet,
            ..BrokerStatus::default()
        })
    }

    fn with_apps(more_apps: u32) -> Response {
        let app = AppStatus {
            name: "etl".to_owned(),
            ..AppStatus::default()
        };
        Response::Broker(BrokerStatus {
            version: "0.1.0".to_owned(),
            apps: vec![app],
            more_apps,
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
    fn status_of_an_older_version_lacks_the_added_fields_and_is_otherwise_the_same() {
        let origin = Some(TokenOrigin::Fleet);
        for (full, reduced) in [
            (broker(Some(fleet())), broker(None)),
            (with_apps(0), broker(None)),
            (with_apps(900), broker(None)),
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
    fn added_fields_are_malformed_in_an_older_version_too() {
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
