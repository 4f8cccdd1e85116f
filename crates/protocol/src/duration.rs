//! Durations such as `1h30m`.

use std::time::Duration;

/// Parses `90s`, `5m`, `1h`, a combination in descending order such as `1h30m`, or plain seconds. Returns `None` for
/// anything else, and for more than a century.
#[must_use]
pub fn parse(text: &str) -> Option<Duration> {
    const CENTURY: u64 = 100 * 366 * 86_400;
    let seconds = if text.ends_with(|c: char| c.is_ascii_digit()) {
        number(text)?
    } else {
        with_units(text)?
    };
    (seconds <= CENTURY).then(|| Duration::from_secs(seconds))
}

/// Returns the seconds of numbers with units, each unit at most once.
fn with_units(text: &str) -> Option<u64> {
    let mut rest = text;
    let mut seconds = 0_u64;
    for (unit, length) in [('h', 3600), ('m', 60), ('s', 1)] {
        if let Some((count, after)) = rest.split_once(unit) {
            seconds = seconds.checked_add(number(count)?.checked_mul(length)?)?;
            rest = after;
        }
    }
    (rest.is_empty() && !text.is_empty()).then_some(seconds)
}

fn number(text: &str) -> Option<u64> {
    let plain = text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| plain)
}

/// Formats a duration in its largest unit, rounded down.
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
    fn units_are_parsed() {
        for (text, seconds) in [
            ("90s", 90),
            ("5m", 300),
            ("1h", 3600),
            ("7", 7),
            ("0", 0),
            ("1h30m", 5400),
            ("1m30s", 90),
            ("1h5s", 3605),
            ("2h5m10s", 7510),
            ("1m90s", 150),
        ] {
            assert_eq!(parse(text), Some(Duration::from_secs(seconds)), "{text}");
        }
    }

    #[test]
    fn invalid_duration_is_an_error() {
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
            "h",
            "1h30",
            "30m1h",
            "1m1m",
            "1hm",
            "1h 30m",
            "1h-30m",
            "18446744073709551615s1s",
            "18446744073709551615m18446744073709551615s",
            "876000h9000000h",
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
