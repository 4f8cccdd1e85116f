//! Deserializes a tree of TOML values. toml's own deserializer has several types of `MapAccess`, and each
//! is compiled again for every table of the config.

use std::borrow::Cow;
use std::fmt::{self, Display};
use std::ops::Range;
use std::vec;

use serde::de::{self, DeserializeSeed, Expected, MapAccess, SeqAccess, Unexpected, Visitor};
use serde::forward_to_deserialize_any;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// The name of the struct that `Spanned` deserializes, and its fields; see the crate `serde_spanned`.
const SPANNED: &str = "$__serde_spanned_private_Spanned";
const SPAN_START: &str = "$__serde_spanned_private_start";
const SPAN_END: &str = "$__serde_spanned_private_end";
const SPANNED_VALUE: &str = "$__serde_spanned_private_value";

/// Why a value is not the expected one. The message contains no value.
#[derive(Debug)]
pub(super) struct Error {
    pub(super) message: String,
    pub(super) span: Option<Range<usize>>,
}

impl Error {
    /// Sets the place of an error that has none.
    fn located(mut self, span: &Range<usize>) -> Self {
        self.span.get_or_insert_with(|| span.clone());
        self
    }
}

impl de::Error for Error {
    fn custom<T: Display>(message: T) -> Self {
        Self {
            message: message.to_string(),
            span: None,
        }
    }
}

impl Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {}

/// A key or a value, with its place in the text.
pub(super) struct Node<'de> {
    content: Content<'de>,
    span: Range<usize>,
}

enum Content<'de> {
    Value(DeValue<'de>),
    /// The start or the end of a place.
    Offset(usize),
}

impl<'de> Node<'de> {
    pub(super) fn root(table: Spanned<DeTable<'de>>) -> Self {
        let span = table.span();
        Self::value(DeValue::Table(table.into_inner()), span)
    }

    fn value(value: DeValue<'de>, span: Range<usize>) -> Self {
        let content = Content::Value(value);
        Self { content, span }
    }

    fn spanned(value: Spanned<DeValue<'de>>) -> Self {
        let span = value.span();
        Self::value(value.into_inner(), span)
    }

    fn offset(offset: usize, span: &Range<usize>) -> Self {
        Self {
            content: Content::Offset(offset),
            span: span.clone(),
        }
    }

    /// Returns the fields of the struct `Spanned`.
    fn into_fields(self) -> Entries<'de> {
        let span = self.span.clone();
        let field = |name: &'static str, value: Self| {
            let name = DeValue::String(name.into());
            (Self::value(name, span.clone()), value)
        };
        Entries::new(vec![
            field(SPAN_START, Self::offset(span.start, &span)),
            field(SPAN_END, Self::offset(span.end, &span)),
            field(SPANNED_VALUE, self),
        ])
    }

    fn into_entries(self, expected: &dyn Expected) -> Result<Entries<'de>, Error> {
        let Content::Value(DeValue::Table(table)) = self.content else {
            return Err(self.wrong_type(expected));
        };
        let entries = table.into_iter().map(|(key, value)| {
            let span = key.span();
            let key = Self::value(DeValue::String(key.into_inner()), span);
            (key, Self::spanned(value))
        });
        Ok(Entries::new(entries.collect()))
    }

    fn into_elements(self, expected: &dyn Expected) -> Result<Elements<'de>, Error> {
        match self.content {
            Content::Value(DeValue::Array(values)) => Ok(Elements(values.into_iter())),
            Content::Value(_) | Content::Offset(_) => Err(self.wrong_type(expected)),
        }
    }

    /// Returns the whole number that it is, if it fits into 64 bits.
    fn to_integer(&self) -> Option<i64> {
        match &self.content {
            Content::Value(DeValue::Integer(integer)) => {
                i64::from_str_radix(integer.as_str(), integer.radix()).ok()
            }
            Content::Value(_) | Content::Offset(_) => None,
        }
    }

    fn to_bool(&self) -> Option<bool> {
        match self.content {
            Content::Value(DeValue::Boolean(value)) => Some(value),
            Content::Value(_) | Content::Offset(_) => None,
        }
    }

    fn wrong_type(&self, expected: &dyn Expected) -> Error {
        let found = Unexpected::Other("another value");
        <Error as de::Error>::invalid_type(found, expected).located(&self.span)
    }
}

impl<'de> de::Deserializer<'de> for Node<'de> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match &self.content {
            Content::Value(DeValue::String(_)) => self.deserialize_str(visitor),
            Content::Value(DeValue::Integer(_)) => self.deserialize_i64(visitor),
            Content::Value(DeValue::Boolean(_)) => self.deserialize_bool(visitor),
            Content::Value(DeValue::Array(_)) => self.deserialize_seq(visitor),
            Content::Value(DeValue::Table(_)) => self.deserialize_map(visitor),
            // No key has such a value.
            Content::Value(DeValue::Float(_) | DeValue::Datetime(_)) => {
                Err(self.wrong_type(&visitor))
            }
            Content::Offset(_) => self.deserialize_u64(visitor),
        }
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.to_bool() {
            Some(value) => visitor.visit_bool(value),
            None => Err(self.wrong_type(&visitor)),
        }
    }

    fn deserialize_i64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.to_integer() {
            Some(value) => visitor.visit_i64(value),
            None => Err(self.wrong_type(&visitor)),
        }
    }

    fn deserialize_u64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.content {
            Content::Offset(offset) => visitor.visit_u64(offset as u64),
            Content::Value(_) => self.deserialize_i64(visitor),
        }
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.content {
            Content::Value(DeValue::String(Cow::Borrowed(text))) => {
                visitor.visit_borrowed_str(text)
            }
            Content::Value(DeValue::String(Cow::Owned(text))) => visitor.visit_string(text),
            Content::Value(_) | Content::Offset(_) => Err(self.wrong_type(&visitor)),
        }
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_str(visitor)
    }

    fn deserialize_identifier<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match &self.content {
            Content::Value(DeValue::String(name)) => visitor.visit_str(name),
            Content::Value(_) | Content::Offset(_) => Err(self.wrong_type(&visitor)),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_some(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        let elements = self.into_elements(&visitor)?;
        visitor.visit_seq(elements)
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        let entries = self.into_entries(&visitor)?;
        visitor.visit_map(entries)
    }

    // Serde would accept a list of the values as well.
    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        _fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        let entries = match name {
            SPANNED => self.into_fields(),
            _ => self.into_entries(&"a table")?,
        };
        visitor.visit_map(entries)
    }

    forward_to_deserialize_any! {
        i8 i16 i32 i128 u8 u16 u32 u128 f32 f64 char bytes byte_buf unit unit_struct newtype_struct tuple
        tuple_struct enum ignored_any
    }
}

/// The entries of a table, or the fields of the struct `Spanned`.
struct Entries<'de> {
    entries: vec::IntoIter<(Node<'de>, Node<'de>)>,
    /// The value of the last key.
    value: Option<Node<'de>>,
}

impl<'de> Entries<'de> {
    fn new(entries: Vec<(Node<'de>, Node<'de>)>) -> Self {
        let entries = entries.into_iter();
        let value = None;
        Self { entries, value }
    }

    fn next_key(&mut self) -> Option<Node<'de>> {
        let (key, value) = self.entries.next()?;
        self.value = Some(value);
        Some(key)
    }

    fn next_value(&mut self) -> Result<Node<'de>, Error> {
        let none = || <Error as de::Error>::custom("value without a key");
        self.value.take().ok_or_else(none)
    }
}

impl<'de> MapAccess<'de> for Entries<'de> {
    type Error = Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Error> {
        self.next_key()
            .map(|key| deserialize(seed, key))
            .transpose()
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Error> {
        deserialize(seed, self.next_value()?)
    }
}

struct Elements<'de>(vec::IntoIter<Spanned<DeValue<'de>>>);

impl<'de> SeqAccess<'de> for Elements<'de> {
    type Error = Error;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, Error> {
        // An error that has no place gets that of the whole list.
        let element = self.0.next().map(Node::spanned);
        element.map(|element| seed.deserialize(element)).transpose()
    }
}

/// Deserializes a key or a value. An error that has no place gets its place.
fn deserialize<'de, S: DeserializeSeed<'de>>(seed: S, node: Node<'de>) -> Result<S::Value, Error> {
    let span = node.span.clone();
    seed.deserialize(node).map_err(|error| error.located(&span))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Default, Deserialize, PartialEq)]
    #[serde(deny_unknown_fields)]
    struct Rule {
        #[serde(default)]
        name: String,
        count: Option<Spanned<i64>>,
    }

    type Rules = BTreeMap<Spanned<String>, Vec<Spanned<Rule>>>;

    fn deserialized(text: &str) -> Result<Rules, Error> {
        Rules::deserialize(Node::root(DeTable::parse(text).unwrap()))
    }

    #[test]
    fn spanned_keys_and_values_have_their_places() {
        let text = r#""a\u0062" = [{ name = "x\ty", count = 0x1_0 }, {}]"#;
        let rules = deserialized(text).unwrap();
        let (key, rules) = rules.first_key_value().unwrap();
        assert_eq!(
            (key.get_ref().as_str(), &text[key.span()]),
            ("ab", r#""a\u0062""#)
        );
        let count = rules[0].get_ref().count.as_ref().unwrap();
        assert_eq!((*count.get_ref(), &text[count.span()]), (16, "0x1_0"));
        assert_eq!(rules[0].get_ref().name, "x\ty");
        assert_eq!(
            (rules[1].get_ref(), &text[rules[1].span()]),
            (&Rule::default(), "{}")
        );
    }

    #[test]
    fn error_has_the_place_and_no_value() {
        for (text, place, expected) in [
            ("a = [{ name = 7 }]", "7", "a string"),
            ("a = [{ count = 'c4nary' }]", "'c4nary'", "i64"),
            (
                "a = [{ count = 99999999999999999999 }]",
                "99999999999999999999",
                "i64",
            ),
            ("a = [{ count = 1.5 }]", "1.5", "i64"),
            ("a = [['c4nary', 7]]", "['c4nary', 7]", "a table"),
            ("a = [1979-05-27]", "1979-05-27", "a table"),
            ("a = 1979-05-27", "1979-05-27", "a sequence"),
        ] {
            let error = deserialized(text).unwrap_err();
            assert_eq!(&text[error.span.unwrap()], place);
            let message = format!("invalid type: another value, expected {expected}");
            assert_eq!(error.message, message, "{text}");
        }
        let text = "a = [{ nam = 'c4nary' }]";
        let error = deserialized(text).unwrap_err();
        assert_eq!(&text[error.span.unwrap()], "nam");
        assert_eq!(
            error.message,
            "unknown field `nam`, expected `name` or `count`"
        );
    }
}
