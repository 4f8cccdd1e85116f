//! Log lines as text: time, level, message, then the fields as in logfmt.
//!
//! A value that is not plain is quoted, so that no value can end early or begin another field.

use std::fmt::{self, Write as _};

use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::fmt::FmtContext;
use tracing_subscriber::fmt::format::{FormatEvent, FormatFields, Writer};
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};
use tracing_subscriber::registry::LookupSpan;

/// An event as a line of text.
pub(super) struct TextLine;

impl<S, N> FormatEvent<S, N> for TextLine
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        _: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let (mut message, mut fields) = (String::new(), String::new());
        event.record(&mut ForEachField(|name: &str, value: &str, kind| {
            if name == "message" {
                push_message(&mut message, value);
            } else {
                push_field(&mut fields, name, value, kind);
            }
        }));
        SystemTime.format_time(&mut writer)?;
        let level = event.metadata().level();
        writeln!(writer, " {level:>5} {message}{fields}")
    }
}

/// Calls a function with the name and value of each field; the message is the field `message`.
pub(super) struct ForEachField<F>(pub(super) F);

impl<F: FnMut(&str, &str, Kind)> Visit for ForEachField<F> {
    fn record_str(&mut self, field: &Field, value: &str) {
        (self.0)(field.name(), value, Kind::Text);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        (self.0)(field.name(), &format!("{value:?}"), Kind::Other);
    }
}

/// How a value is known to the event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A string, which is always quoted.
    Text,
    /// A number, or something with a form for people: quoted if it has to be.
    Other,
}

/// Adds a blank, the name and the value.
pub(super) fn push_field(line: &mut String, name: &str, value: &str, kind: Kind) {
    line.push(' ');
    line.push_str(name);
    line.push('=');
    let is_plain = |c: char| !c.is_whitespace() && !matches!(c, '=' | '"') && !is_control(c);
    if kind == Kind::Other && !value.is_empty() && value.chars().all(is_plain) {
        line.push_str(value);
    } else {
        push_quoted(line, value);
    }
}

/// Adds a message, which stays as it is unless it could be read as a field.
fn push_message(line: &mut String, message: &str) {
    let is_plain = |c: char| !matches!(c, '=' | '"') && !is_control(c);
    if message.chars().all(is_plain) {
        line.push_str(message);
    } else {
        push_quoted(line, message);
    }
}

fn push_quoted(line: &mut String, value: &str) {
    line.push('"');
    for c in value.chars() {
        match c {
            '"' | '\\' => line.extend(['\\', c]),
            c => push_escaped(line, c),
        }
    }
    line.push('"');
}

/// Adds text whose control characters are escaped, so that it stays one line and does nothing to a
/// terminal.
pub(super) fn push_line(line: &mut String, text: &str) {
    text.chars().for_each(|c| push_escaped(line, c));
}

fn push_escaped(line: &mut String, c: char) {
    match c {
        '\n' => line.push_str("\\n"),
        '\r' => line.push_str("\\r"),
        '\t' => line.push_str("\\t"),
        // Writing to a string can't fail.
        c if is_control(c) => drop(write!(line, "\\u{:04x}", u32::from(c))),
        c => line.push(c),
    }
}

/// Also the separators that some readers end a line at, and characters that are not visible or change
/// the direction of text, so that a line reads as it is.
fn is_control(c: char) -> bool {
    let is_hidden = matches!(
        c,
        '\u{200b}'..='\u{200f}'
            | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{2064}'
            | '\u{2066}'..='\u{2069}'
            | '\u{feff}'
    );
    c.is_control() || is_hidden
}

#[cfg(test)]
mod tests {
    use super::*;

    fn field(value: &str, kind: Kind) -> String {
        let mut line = String::new();
        push_field(&mut line, "x", value, kind);
        line
    }

    #[test]
    fn value_that_is_not_plain_is_quoted_and_escaped() {
        for (value, expected) in [
            ("60", " x=60"),
            ("1.5", " x=1.5"),
            (
                "/run/domo-token/broker.sock",
                " x=/run/domo-token/broker.sock",
            ),
            ("", " x=\"\""),
            ("data user", " x=\"data user\""),
            ("x\" y=1", " x=\"x\\\" y=1\""),
            ("a=b", " x=\"a=b\""),
            ("a\\ b", " x=\"a\\\\ b\""),
            ("a\nb\r\tc", " x=\"a\\nb\\r\\tc\""),
            ("\u{1b}[31m", " x=\"\\u001b[31m\""),
            ("a\u{85}b\u{2028}", " x=\"a\\u0085b\\u2028\""),
            ("a\u{200b}\u{202e}", " x=\"a\\u200b\\u202e\""),
            ("\u{2060}\u{2067}\u{feff}", " x=\"\\u2060\\u2067\\ufeff\""),
            ("441e307a…", " x=441e307a…"),
        ] {
            assert_eq!(field(value, Kind::Other), expected);
        }
        assert_eq!(field("acme", Kind::Text), " x=\"acme\"");
    }

    #[test]
    fn message_that_could_be_read_as_a_field_is_quoted() {
        let message = |text: &str| {
            let mut line = String::new();
            push_message(&mut line, text);
            line
        };
        assert_eq!(message("token obtained"), "token obtained");
        assert_eq!(message("set a=1"), "\"set a=1\"");
        assert_eq!(message("client \"a\""), "\"client \\\"a\\\"\"");
        assert_eq!(message("a\nb"), "\"a\\nb\"");
    }
}
