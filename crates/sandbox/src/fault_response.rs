//! Applies faults to responses.

use std::io;

use hyper::Response;
use hyper::header::{HeaderName, HeaderValue};

use crate::body::{Answer, End};
use crate::fault::{Fault, Flow};
use crate::response::{Closed, respond};
use crate::state::Recovery;

/// Waits as the fault requires before the response is sent.
pub(crate) async fn before_head(fault: &Fault, recovery: &mut Recovery) -> Result<(), Closed> {
    match fault.flow {
        Flow::CutBeforeHead => Err(io::Error::other("closed by a fault")),
        Flow::HangBeforeHead => {
            recovery.wait().await;
            Err(io::Error::other("not answered, by a fault"))
        }
        Flow::HoldBeforeHead => {
            recovery.wait().await;
            Ok(())
        }
        Flow::Whole | Flow::HangInBody | Flow::CutInBody => Ok(()),
    }
}

/// Returns a response with the fault's headers, and with its body instead of `body` if it has one.
pub(crate) fn with_fault(
    status: u16,
    body: Vec<u8>,
    content_type: &'static str,
    fault: Fault,
    mut recovery: Recovery,
) -> Response<Answer> {
    let bytes = fault.body.unwrap_or(body);
    let answer = match fault.flow {
        Flow::HangInBody => Answer::broken(
            &bytes,
            End::Hang(Box::pin(async move { recovery.wait().await })),
        ),
        Flow::CutInBody => Answer::broken(&bytes, End::Cut),
        Flow::Whole | Flow::HangBeforeHead | Flow::HoldBeforeHead | Flow::CutBeforeHead => {
            Answer::whole(bytes)
        }
    };
    let content_type = fault.content_type.unwrap_or(content_type);
    let mut response = respond(status, answer, Some(content_type));
    for (name, value) in fault.headers {
        let name = HeaderName::from_bytes(name.as_bytes());
        if let (Ok(name), Ok(value)) = (name, HeaderValue::from_str(&value)) {
            response.headers_mut().insert(name, value);
        }
    }
    response
}
