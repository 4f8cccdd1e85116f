//! Log lines as text: logfmt, with the time, the level and the message before the fields.
//!
//! A value that is not plain is quoted, so that no value can end early or begin another field.

use std::fmt::{self, Write as _};

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
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
        event.record(&mut ForEachField(|name: &str, value: &str| {
            if name == "message" {
                message.push_str(value);
            } else {
                push_field(&mut fields, name, value);
            }
        }));
        let start = start_of_line(*event.metadata().level(), &message);
        writeln!(writer, "{start}{fields}")
    }
}

/// Returns the time, the level and the message: what each line begins with.
pub(super) fn start_of_line(level: Level, message: &str) -> String {
    let mut line = "time=".to_owned();
    // Without a time the line is still useful.
    let _ = SystemTime.format_time(&mut Writer::new(&mut line));
    push_field(&mut line, "level", &level.as_str().to_ascii_lowercase());
    push_field(&mut line, "msg", message);
    line
}

/// Calls a function with the name and value of each field; the message is the field `message`.
pub(super) struct ForEachField<F>(pub(super) F);

impl<F: FnMut(&str, &str)> Visit for ForEachField<F> {
    fn record_str(&mut self, field: &Field, value: &str) {
        (self.0)(field.name(), value);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        (self.0)(field.name(), &format!("{value:?}"));
    }
}

/// Adds a blank, the name and the value, in quotes if it needs them.
pub(super) fn push_field(line: &mut String, name: &str, value: &str) {
    line.push(' ');
    line.push_str(name);
    line.push('=');
    let is_plain = |c: char| !c.is_whitespace() && !matches!(c, '=' | '"') && !is_control(c);
    // Without quotes some parsers read `null` as the absence of a value.
    if !matches!(value, "" | "null") && value.chars().all(is_plain) {
        line.push_str(value);
    } else {
        push_quoted(line, value);
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

    fn field(value: &str) -> String {
        let mut line = String::new();
        push_field(&mut line, "x", value);
        line
    }

    #[test]
    fn value_that_is_not_plain_is_quoted_and_escaped() {
        for (value, expected) in [
            ("60", " x=60"),
            ("acme", " x=acme"),
            ("a\\b", " x=a\\b"),
            ("1.5", " x=1.5"),
            (
                "/run/domo-token/broker.sock",
                " x=/run/domo-token/broker.sock",
            ),
            ("", " x=\"\""),
            ("null", " x=\"null\""),
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
            assert_eq!(field(value), expected);
        }
    }

    #[test]
    fn line_starts_with_time_level_and_message() {
        let line = start_of_line(Level::WARN, "client \"a\" rejected");
        let (time, rest) = line.split_once(' ').unwrap();
        let time = time.strip_prefix("time=").unwrap();
        assert!(time.contains('T') && time.ends_with('Z'), "{line}");
        assert_eq!(rest, "level=warn msg=\"client \\\"a\\\" rejected\"");
        let line = start_of_line(Level::INFO, "started");
        assert!(line.ends_with(" level=info msg=started"), "{line}");
    }
}
