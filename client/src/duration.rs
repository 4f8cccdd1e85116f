//! Durations as people write them.

use std::time::Duration;

/// Reads `90s`, `5m`, `1h`, or plain seconds; `None` if it is none of these, or over a century.
#[must_use]
pub fn parse(text: &str) -> Option<Duration> {
    const CENTURY: u64 = 100 * 366 * 86_400;
    let (number, unit) = match text.char_indices().last()? {
        (at, 's') => (text.get(..at)?, 1),
        (at, 'm') => (text.get(..at)?, 60),
        (at, 'h') => (text.get(..at)?, 3600),
        _ => (text, 1),
    };
    if !number.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let seconds = number.parse::<u64>().ok()?.checked_mul(unit)?;
    (seconds <= CENTURY).then(|| Duration::from_secs(seconds))
}

/// Writes a span as people read it: its largest unit, and no false precision.
#[must_use]
pub fn show(span: Duration) -> String {
    match span.as_secs() {
        seconds @ 0..=119 => format!("{seconds} s"),
        seconds @ 120..=7_199 => format!("{} min", seconds / 60),
        seconds => format!("{} h", seconds / 3600),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_unit_is_read() {
        for (text, seconds) in [("90s", 90), ("5m", 300), ("1h", 3600), ("7", 7), ("0", 0)] {
            assert_eq!(parse(text), Some(Duration::from_secs(seconds)), "{text}");
        }
    }

    #[test]
    fn what_is_no_duration_is_refused() {
        for text in [
            "",
            "s",
            "-1",
            "1.5",
            "1d",
            "+5",
            " 5",
            "5 s",
            "1ms",
            "9999999999999999999h",
            "é",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    #[test]
    fn spans_are_shown_in_their_largest_unit() {
        for (seconds, text) in [
            (0, "0 s"),
            (119, "119 s"),
            (120, "2 min"),
            (3599, "59 min"),
            (86_400, "24 h"),
        ] {
            assert_eq!(show(Duration::from_secs(seconds)), text);
        }
    }
}
