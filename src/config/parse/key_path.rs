//! The path of keys to a place in the text of a config, like `clients.acme.tokens[0]`.

use std::ops::Range;

use toml::de::{DeTable, DeValue};

/// Returns the path to the innermost key or value that contains the place.
pub(super) fn at(text: &str, place: &Range<usize>) -> Option<String> {
    let table = DeTable::parse(text).ok()?;
    let mut search = Search {
        place,
        innermost: None,
    };
    search.table(table.get_ref(), "");
    search.innermost.map(|(_, path)| path)
}

struct Search<'a> {
    place: &'a Range<usize>,
    /// The length of the innermost key or value so far, and its path.
    innermost: Option<(usize, String)>,
}

impl Search<'_> {
    // A table that has a header does not contain the places of its keys, so each is looked at.
    fn table(&mut self, table: &DeTable<'_>, path: &str) {
        for (key, value) in table {
            let name = key.get_ref();
            let path = if path.is_empty() {
                name.to_string()
            } else {
                format!("{path}.{name}")
            };
            self.consider(&key.span(), &path);
            self.consider(&value.span(), &path);
            self.value(value.get_ref(), &path);
        }
    }

    fn value(&mut self, value: &DeValue<'_>, path: &str) {
        match value {
            DeValue::Table(table) => self.table(table, path),
            DeValue::Array(values) => {
                for (index, value) in values.iter().enumerate() {
                    let path = format!("{path}[{index}]");
                    self.consider(&value.span(), &path);
                    self.value(value.get_ref(), &path);
                }
            }
            DeValue::String(_)
            | DeValue::Integer(_)
            | DeValue::Float(_)
            | DeValue::Boolean(_)
            | DeValue::Datetime(_) => {}
        }
    }

    fn consider(&mut self, span: &Range<usize>, path: &str) {
        let contains = span.start <= self.place.start && self.place.end <= span.end;
        let is_innermost = |(length, _): &(usize, String)| span.len() < *length;
        if contains && self.innermost.as_ref().is_none_or(is_innermost) {
            self.innermost = Some((span.len(), path.to_owned()));
        }
    }
}
