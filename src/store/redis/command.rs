//! Commands, and what servers answer to them.

use std::net::IpAddr;
use std::time::Duration;

use domo_token_protocol::BootTime;
use url::Host;
use zeroize::Zeroizing;

use super::error::is_wrong_type;
use super::resp::Value;
use super::settings::Address;
use crate::store::MAX_RECORD;

/// The longest host name, in characters.
const MAX_HOST: usize = 255;

/// A command with its name for messages.
pub(super) struct Command {
    pub(super) name: &'static str,
    /// Its name and its arguments, of which one can be a password.
    pub(super) parts: Vec<Zeroizing<Vec<u8>>>,
}

impl Command {
    pub(super) fn new(name: &'static str) -> Self {
        Self {
            name,
            parts: vec![Zeroizing::new(name.as_bytes().to_vec())],
        }
    }

    pub(super) fn arg(mut self, argument: &[u8]) -> Self {
        self.parts.push(Zeroizing::new(argument.to_vec()));
        self
    }

    pub(super) fn time() -> Self {
        Self::new("TIME")
    }

    pub(super) fn get(key: &str) -> Self {
        Self::new("GET").arg(key.as_bytes())
    }

    /// Sets a value for that time.
    pub(super) fn set(key: &str, value: &[u8], keep: Duration) -> Self {
        let set = Self::new("SET").arg(key.as_bytes()).arg(value);
        set.arg(b"PX").arg(millis(keep).as_bytes())
    }

    /// Sets a value for that time unless there is one.
    pub(super) fn set_if_absent(key: &str, value: &[u8], keep: Duration) -> Self {
        let set = Self::new("SET").arg(key.as_bytes()).arg(value);
        set.arg(b"NX").arg(b"PX").arg(millis(keep).as_bytes())
    }

    pub(super) fn pexpire(key: &str, keep: Duration) -> Self {
        Self::new("PEXPIRE")
            .arg(key.as_bytes())
            .arg(millis(keep).as_bytes())
    }

    pub(super) fn del(key: &str) -> Self {
        Self::new("DEL").arg(key.as_bytes())
    }
}

/// Servers reject a time of 0.
fn millis(keep: Duration) -> String {
    keep.as_millis().max(1).to_string()
}

/// An answer, which may be an error.
pub(super) struct Reply {
    pub(super) command: &'static str,
    pub(super) value: Value,
    /// When it had arrived.
    pub(super) at: BootTime,
}

/// Returns the milliseconds since 1970 in the answer to TIME.
pub(super) fn server_time(value: &Value) -> Option<u64> {
    let Value::Array(parts) = value else {
        return None;
    };
    let [seconds, micros] = parts.as_slice() else {
        return None;
    };
    let (seconds, micros) = (number(seconds)?, number(micros)?);
    seconds.checked_mul(1000)?.checked_add(micros / 1000)
}

fn number(value: &Value) -> Option<u64> {
    text(value)?.parse().ok()
}

fn text(value: &Value) -> Option<&str> {
    match value {
        Value::Bytes(bytes) => str::from_utf8(bytes).ok(),
        Value::Text(text) => Some(text),
        Value::Nil | Value::Integer(_) | Value::Array(_) | Value::Error(_) => None,
    }
}

/// An answer that does not fit its command.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Invalid;

/// Returns the record that the answer to GET has, if there is one. A value of another type is an empty record, which does
/// not open and is replaced. As a failure, it would stop the use of the store for all scope sets.
pub(super) fn record(value: Value) -> Result<Option<Zeroizing<Vec<u8>>>, Invalid> {
    match value {
        value if is_wrong_type(&value) => Ok(Some(Zeroizing::default())),
        Value::Nil => Ok(None),
        Value::Bytes(bytes) if bytes.len() <= MAX_RECORD => Ok(Some(Zeroizing::new(bytes))),
        Value::Bytes(_)
        | Value::Text(_)
        | Value::Integer(_)
        | Value::Array(_)
        | Value::Error(_) => Err(Invalid),
    }
}

/// Returns whether a SET was executed, if the value is an answer to one.
pub(super) fn was_set(value: &Value) -> Option<bool> {
    match value {
        Value::Text(text) => (text == "OK").then_some(true),
        Value::Nil => Some(false),
        Value::Integer(_) | Value::Bytes(_) | Value::Array(_) | Value::Error(_) => None,
    }
}

/// Returns whether a value is the answer to a command that counts keys.
pub(super) fn is_count(value: &Value) -> bool {
    matches!(value, Value::Integer(_))
}

/// Returns the address in the details of `MOVED`: a slot, then host and port. `node` is the one that sent them: without
/// a host, the other node is on the same.
pub(super) fn moved_to(details: &str, node: &Address) -> Option<Address> {
    let (_, target) = details.trim().split_once(' ')?;
    let (host, port) = target.rsplit_once(':')?;
    let host = match host {
        "" | "?" => node.host.clone(),
        host => parse_host(host)?,
    };
    let port = port.parse().ok()?;
    Some(Address { host, port })
}

/// Returns the address that a sentinel names, or `None` if it does not know the service.
pub(super) fn master_address(value: &Value) -> Result<Option<Address>, Invalid> {
    match value {
        Value::Nil => Ok(None),
        Value::Array(parts) => named_address(parts).map(Some).ok_or(Invalid),
        Value::Integer(_) | Value::Text(_) | Value::Bytes(_) | Value::Error(_) => Err(Invalid),
    }
}

fn named_address(parts: &[Value]) -> Option<Address> {
    let [host, port] = parts else {
        return None;
    };
    let host = parse_host(text(host)?)?;
    let port = text(port)?.parse().ok()?;
    Some(Address { host, port })
}

fn parse_host(text: &str) -> Option<Host<String>> {
    if text.len() > MAX_HOST || !text.is_ascii() || text.contains('%') {
        return None;
    }
    match text.parse() {
        Ok(IpAddr::V4(address)) => Some(Host::Ipv4(address)),
        Ok(IpAddr::V6(address)) => Some(Host::Ipv6(address)),
        Err(_) => Host::parse(text).ok(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn bulk(text: &str) -> Value {
        Value::Bytes(text.as_bytes().to_vec())
    }

    fn ok() -> Value {
        Value::Text("OK".to_owned())
    }

    fn node() -> Address {
        Address {
            host: Host::Domain("node.example".to_owned()),
            port: 6379,
        }
    }

    #[test]
    fn time_is_seconds_and_microseconds() {
        let time =
            |parts: &[&str]| server_time(&Value::Array(parts.iter().copied().map(bulk).collect()));
        assert_eq!(time(&["1764538000", "123999"]), Some(1_764_538_000_123));
        for wrong in [
            &["1764538000"][..],
            &["-1", "0"],
            &["1", "x"],
            &["18446744073709551615", "0"],
            &["1", "2", "3"],
        ] {
            assert_eq!(time(wrong), None, "{wrong:?}");
        }
        assert_eq!(server_time(&ok()), None);
    }

    #[test]
    fn record_above_the_limit_is_no_answer() {
        let of = |length| record(Value::Bytes(vec![7; length])).is_ok();
        assert!(of(0) && of(MAX_RECORD) && !of(MAX_RECORD + 1));
        assert_eq!(record(Value::Nil), Ok(None));
        assert_eq!(record(Value::Integer(1)), Err(Invalid));
    }

    #[test]
    fn moved_names_host_and_port_or_the_port_alone() {
        let shown = |details: &str| moved_to(details, &node()).map(|address| address.to_string());
        for (details, expected) in [
            ("3999 10.0.0.7:6381", "10.0.0.7:6381"),
            ("3999 other.example:1", "other.example:1"),
            ("1 fd00::7:6381", "[fd00::7]:6381"),
            ("1 :7000", "node.example:7000"),
            ("1 ?:7000", "node.example:7000"),
        ] {
            assert_eq!(shown(details).as_deref(), Some(expected));
        }
        for wrong in ["", "1", "1 host", "1 host:70000", "1 a b:1"] {
            assert_eq!(shown(wrong), None, "{wrong}");
        }
        assert_eq!(shown(&format!("1 {}:1", "h".repeat(256))), None);
    }

    #[test]
    fn master_is_an_address_or_unknown() {
        let parts = Value::Array(vec![bulk("10.0.0.1"), bulk("6379")]);
        let master = master_address(&parts).unwrap().unwrap();
        assert_eq!(master.to_string(), "10.0.0.1:6379");
        assert_eq!(master_address(&Value::Nil), Ok(None));
        assert_eq!(master_address(&ok()), Err(Invalid));
        assert_eq!(
            master_address(&Value::Array(vec![bulk("a b"), bulk("1")])),
            Err(Invalid)
        );
    }

    proptest! {
        #[test]
        fn any_details_of_moved_are_parsed_without_a_panic(details in ".{0,80}") {
            let _ = moved_to(&details, &node());
        }
    }
}
