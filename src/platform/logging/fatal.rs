//! The error that the process ends with, and panics: printed in the form of log lines, outside the log.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::fmt;

use serde::Serialize;
use tracing::Level;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};

use super::Format;
use super::text::push_line;

/// With the keys that JSON log lines have.
#[derive(Serialize)]
struct Entry<'a> {
    timestamp: String,
    level: &'static str,
    message: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    backtrace: Option<String>,
}

/// Returns an error as a line.
pub(super) fn error_line(format: Format, message: &str) -> String {
    line(format, message, None)
}

/// Returns a panic's message as a line; as text its backtrace follows, if `RUST_BACKTRACE` is set.
pub(super) fn panic_line(format: Format, panic: &impl fmt::Display) -> String {
    // It begins with the location and a line break.
    let message = panic.to_string().replacen(":\n", ": ", 1);
    let trace = Backtrace::capture();
    let is_captured = trace.status() == BacktraceStatus::Captured;
    line(format, &message, is_captured.then(|| trace.to_string()))
}

fn line(format: Format, message: &str, backtrace: Option<String>) -> String {
    let mut line = String::new();
    match format {
        Format::Text => {
            line.push_str("domo-tokend: ");
            push_line(&mut line, message);
            line.push('\n');
            line.push_str(&backtrace.unwrap_or_default());
        }
        Format::Json => {
            let mut timestamp = String::new();
            // Without a time the line is still useful.
            let _ = SystemTime.format_time(&mut Writer::new(&mut timestamp));
            let entry = Entry {
                timestamp,
                level: Level::ERROR.as_str(),
                message,
                backtrace,
            };
            // A struct of strings is always JSON.
            line.push_str(&serde_json::to_string(&entry).unwrap_or_default());
            line.push('\n');
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn error_as_text_is_one_line_without_control_characters() {
        let line = error_line(Format::Text, "config a\nb\u{1b}[31m: gone");
        assert_eq!(line, "domo-tokend: config a\\nb\\u001b[31m: gone\n");
    }

    #[test]
    fn error_as_json_has_the_keys_of_a_log_line() {
        let line = error_line(Format::Json, "config \"a\nb\"");
        let value: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(value["level"], "ERROR");
        assert_eq!(value["message"], "config \"a\nb\"");
        let timestamp = value["timestamp"].as_str().unwrap();
        assert!(
            timestamp.ends_with('Z') && timestamp.contains('T'),
            "{timestamp}"
        );
        assert_eq!(line.lines().count(), 1);
    }

    #[test]
    fn panic_is_one_line_with_its_place() {
        let panic = "panicked at src/a.rs:1:2:\nno \"x\"\nhere";
        let line = panic_line(Format::Text, &panic);
        let first = line.lines().next().unwrap();
        assert_eq!(
            first,
            "domo-tokend: panicked at src/a.rs:1:2: no \"x\"\\nhere"
        );
        let line = panic_line(Format::Json, &panic);
        let value: serde_json::Value = serde_json::from_str(&line).unwrap();
        let message = "panicked at src/a.rs:1:2: no \"x\"\nhere";
        assert_eq!(
            (value["level"].as_str(), value["message"].as_str()),
            (Some("ERROR"), Some(message))
        );
    }
}
