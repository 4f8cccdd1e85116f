//! Parses the known members of a JSON object, even of an incomplete one, in bounded memory. The parser's own errors may
//! quote the body, so none is returned.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::Number;

/// The members with messages, in the order in which they are shown: OAuth's (RFC 6749 §5.2), Domo's, problem details'
/// (RFC 9457), and those of gateways and frameworks.
pub(super) const TEXTS: [&str; 13] = [
    "code",
    "error",
    "error_description",
    "title",
    "message",
    "faultstring",
    "detail",
    "description",
    "reason",
    "errorMessage",
    "error_message",
    "errors",
    "fault",
];

/// The other members that are read.
const OTHERS: [&str; 6] = [
    "access_token",
    "expires_in",
    "scope",
    "token_type",
    "status",
    "toe",
];

/// The depth to which lists and objects are read.
const DEPTH: u8 = 2;

/// The most items of a list. More are an error.
pub(in super::super) const MAX_ITEMS: usize = 1000;

/// A value of any type.
#[derive(Default)]
pub(super) enum Loose {
    #[default]
    Absent,
    Null,
    Bool,
    Number(Number),
    Text(String),
    List(Vec<Loose>),
    Object(Members),
    /// A value that is too deep to be read.
    Deep,
}

impl Loose {
    pub(super) fn text(&self) -> Option<&str> {
        if let Self::Text(text) = self {
            return Some(text);
        }
        None
    }

    pub(super) fn is_number(&self) -> bool {
        matches!(self, Self::Number(_))
    }

    /// Returns the type with its article.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Absent => "absent",
            Self::Null => "null",
            Self::Bool => "a boolean",
            Self::Number(_) => "a number",
            Self::Text(_) => "a string",
            Self::List(_) => "an array",
            Self::Object(_) | Self::Deep => "an object",
        }
    }
}

/// How a text that should be one JSON object ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// It is one, and complete.
    Complete,
    /// Other text follows.
    Trailing,
    /// It is incomplete.
    Early,
    /// It is not JSON, or not an object.
    Invalid,
}

/// The first of each member that was read in full.
#[derive(Default)]
pub(super) struct Members {
    found: Vec<(&'static str, Loose)>,
    repeated: Vec<&'static str>,
}

impl Members {
    pub(super) fn get(&self, name: &str) -> &Loose {
        let found = self.found.iter().find(|(known, _)| *known == name);
        found.map_or(&Loose::Absent, |(_, value)| value)
    }

    pub(super) fn take(&mut self, name: &str) -> Loose {
        let found = self.found.iter_mut().find(|(known, _)| *known == name);
        found.map_or(Loose::Absent, |(_, value)| std::mem::take(value))
    }

    /// Returns the first of these names that the object has more than once.
    pub(super) fn repeated(&self, names: &[&str]) -> Option<&'static str> {
        let mut repeated = self.repeated.iter().copied();
        repeated.find(|name| names.contains(name))
    }

    fn add(&mut self, name: &'static str, value: Loose) {
        if self.found.iter().all(|(known, _)| *known != name) {
            self.found.push((name, value));
        } else if !self.repeated.contains(&name) {
            self.repeated.push(name);
        }
    }
}

/// Reads one JSON object, as far as it is complete.
pub(super) fn read(text: &[u8]) -> (Members, End) {
    let mut members = Members::default();
    if text.trim_ascii_start().first() != Some(&b'{') {
        return (members, End::Invalid);
    }
    let mut json = serde_json::Deserializer::from_slice(text);
    let end = match json.deserialize_map(Object(&mut members, DEPTH)) {
        Ok(()) if json.end().is_ok() => End::Complete,
        Ok(()) => End::Trailing,
        Err(error) if error.is_eof() => End::Early,
        Err(_) => End::Invalid,
    };
    (members, end)
}

/// Reads an object's members into a value that is not lost with an error.
struct Object<'a>(&'a mut Members, u8);

impl<'de> Visitor<'de> for Object<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(key) = map.next_key::<String>()? {
            let mut names = TEXTS.iter().chain(&OTHERS);
            match names.find(|name| **name == key) {
                Some(name) => self.0.add(name, map.next_value_seed(Depth(self.1))?),
                None => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(())
    }
}

/// Reads any value, with lists and objects to that depth.
struct Depth(u8);

impl<'de> DeserializeSeed<'de> for Depth {
    type Value = Loose;

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<Loose, D::Error> {
        json.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Depth {
    type Value = Loose;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<Loose, E> {
        Ok(Loose::Null)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Loose, E> {
        Ok(Loose::Bool)
    }

    fn visit_u64<E>(self, number: u64) -> Result<Loose, E> {
        Ok(Loose::Number(number.into()))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Loose, E> {
        Ok(Loose::Number(number.into()))
    }

    fn visit_f64<E>(self, number: f64) -> Result<Loose, E> {
        Ok(Number::from_f64(number).map_or(Loose::Deep, Loose::Number))
    }

    fn visit_str<E>(self, text: &str) -> Result<Loose, E> {
        Ok(Loose::Text(text.to_owned()))
    }

    fn visit_string<E>(self, text: String) -> Result<Loose, E> {
        Ok(Loose::Text(text))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Loose, A::Error> {
        let Some(depth) = self.0.checked_sub(1) else {
            while list.next_element::<IgnoredAny>()?.is_some() {}
            return Ok(Loose::Deep);
        };
        let mut items = Vec::new();
        while let Some(item) = list.next_element_seed(Depth(depth))? {
            if items.len() == MAX_ITEMS {
                return Err(A::Error::custom("an array that is too long"));
            }
            items.push(item);
        }
        Ok(Loose::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Loose, A::Error> {
        let Some(depth) = self.0.checked_sub(1) else {
            while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
            return Ok(Loose::Deep);
        };
        let mut members = Members::default();
        Object(&mut members, depth).visit_map(map)?;
        Ok(Loose::Object(members))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn object_is_read_as_far_as_its_members_are_whole() {
        let whole = r#"{"x":[{}],"error":"a","status":4,"message":"b"}"#;
        for (text, end, read) in [
            (whole, End::Complete, ["a", "b"]),
            (" {\"error\":\"a\"} \n", End::Complete, ["a", ""]),
            ("{\"error\":\"a\"}<!-- -->", End::Trailing, ["a", ""]),
            ("{\"error\":\"a\"}\0", End::Trailing, ["a", ""]),
            ("{\"error\":\"a\",\"message\":\"bro", End::Early, ["a", ""]),
            ("{\"error\":\"a\",\"message\":\"b\"", End::Early, ["a", "b"]),
            ("{\"error\":\"a", End::Early, ["", ""]),
            ("{\"error\":\"a\"; }", End::Invalid, ["a", ""]),
            ("{", End::Early, ["", ""]),
            ("", End::Invalid, ["", ""]),
            ("[]", End::Invalid, ["", ""]),
            ("\u{feff}{}", End::Invalid, ["", ""]),
        ] {
            let (members, found) = super::read(text.as_bytes());
            let texts = ["error", "message"].map(|name| members.get(name).text().unwrap_or(""));
            assert_eq!((found, texts), (end, read), "{text}");
        }
    }

    #[test]
    fn duplicate_member_is_noticed_at_its_own_level() {
        let (members, _) = read(br#"{"error":"a","scope":{"error":1,"error":2},"x":1,"x":2}"#);
        assert_eq!(members.repeated(&["error", "scope"]), None);
        let (members, _) = read(br#"{"error":"a","error":"b"}"#);
        assert_eq!(members.repeated(&["scope", "error"]), Some("error"));
        assert_eq!(members.get("error").text(), Some("a"));
        assert_eq!(members.repeated(&["scope"]), None);
    }

    #[test]
    fn value_keeps_no_more_than_two_levels_and_a_thousand_items() {
        let (members, end) = read(br#"{"errors":[{"error":{"message":"deep"},"code":1}]}"#);
        assert_eq!(end, End::Complete);
        let Loose::List(items) = members.get("errors") else {
            panic!("no list");
        };
        let [Loose::Object(item)] = &items[..] else {
            panic!("no object");
        };
        assert!(matches!(item.get("error"), Loose::Deep));
        assert!(item.get("code").is_number());
        for (count, expected) in [(1000, End::Complete), (1001, End::Invalid)] {
            let text = format!("{{\"errors\":[{}0]}}", "0,".repeat(count - 1));
            assert_eq!(read(text.as_bytes()).1, expected);
        }
        let deep = format!("{{\"error\":{}", "[".repeat(100_000));
        assert_eq!(read(deep.as_bytes()).1, End::Early);
    }
}
