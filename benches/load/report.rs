//! The table of all figures, as text, as JSON, and for the docs.

use std::fmt::Write as _;
use std::fs;
use std::io;
use std::path::Path;

use serde_json::{Value, json};

use crate::figures::Rounds;

/// One line of the table.
pub(crate) struct Row {
    id: &'static str,
    what: String,
    found: Rounds,
    bar: Bar,
}

/// The limit of a figure.
#[derive(Clone, Copy)]
pub(crate) enum Bar {
    AtMost(f64),
    AtLeast(f64),
    Exactly(f64),
    /// No limit.
    None,
}

impl Row {
    pub(crate) fn new(id: &'static str, what: String, found: Rounds, bar: Bar) -> Self {
        Self {
            id,
            what,
            found,
            bar,
        }
    }

    fn holds(&self) -> Option<bool> {
        let median = self.found.median();
        match self.bar {
            Bar::AtMost(most) => Some(median <= most),
            Bar::AtLeast(least) => Some(median >= least),
            Bar::Exactly(wanted) => {
                Some(self.found.least() >= wanted && self.found.most() <= wanted)
            }
            Bar::None => None,
        }
    }

    fn bar_in_words(&self) -> String {
        match self.bar {
            Bar::AtMost(most) => format!("≤ {}", shown(most)),
            Bar::AtLeast(least) => format!("≥ {}", shown(least)),
            Bar::Exactly(wanted) => shown(wanted),
            Bar::None => "–".to_owned(),
        }
    }

    fn verdict(&self) -> &'static str {
        match self.holds() {
            Some(true) => "met",
            Some(false) => "missed",
            None => "",
        }
    }

    fn json(&self) -> Value {
        let bar = match self.bar {
            Bar::AtMost(most) => json!({ "at_most": most }),
            Bar::AtLeast(least) => json!({ "at_least": least }),
            Bar::Exactly(wanted) => json!({ "exactly": wanted }),
            Bar::None => Value::Null,
        };
        json!({
            "row": self.id,
            "what": self.what,
            "median": self.found.median(),
            "min": self.found.least(),
            "max": self.found.most(),
            "bar": bar,
            "holds": self.holds(),
        })
    }
}

/// Returns whether all figures are within their limits.
pub(crate) fn all_hold(rows: &[Row]) -> bool {
    rows.iter().all(|row| row.holds() != Some(false))
}

pub(crate) fn json(rows: &[Row], machine: &str, rounds: usize) -> String {
    let rows: Vec<Value> = rows.iter().map(Row::json).collect();
    json!({ "machine": machine, "rounds": rounds, "rows": rows }).to_string() + "\n"
}

/// Returns the table in Markdown.
pub(crate) fn table(rows: &[Row]) -> String {
    let mut text =
        "| row | what | median (min–max) | limit | |\n|---|---|---|---|---|\n".to_owned();
    for row in rows {
        let found = &row.found;
        // Writing to a string cannot fail.
        let _ = writeln!(
            text,
            "| {} | {} | {} ({}–{}) | {} | {} |",
            row.id,
            row.what,
            shown(found.median()),
            shown(found.least()),
            shown(found.most()),
            row.bar_in_words(),
            row.verdict()
        );
    }
    text
}

/// Rounds to three significant digits.
fn shown(value: f64) -> String {
    let digits = match value.abs() {
        value if value >= 100.0 => 0,
        value if value >= 10.0 => 1,
        value if value.fract().abs() < 1e-9 => 0,
        _ => 2,
    };
    format!("{value:.digits$}")
}

const BEGIN: &str = "<!-- figures: begin, made by `just bench --write docs/performance.md` -->\n";
const END: &str = "<!-- figures: end -->";

/// Replaces the text between the markers of a document.
pub(crate) fn write(path: &Path, rows: &[Row], machine: &str, rounds: usize) -> io::Result<()> {
    let text = fs::read_to_string(path)?;
    let parts = text.split_once(BEGIN).and_then(|(before, rest)| {
        let (_, after) = rest.split_once(END)?;
        Some((before, after))
    });
    let missing = || io::Error::other(format!("markers are missing in {}", path.display()));
    let (before, after) = parts.ok_or_else(missing)?;
    let table = table(rows);
    let text = format!("{machine}; {rounds} rounds.\n\n{table}");
    fs::write(path, format!("{before}{BEGIN}{text}{END}{after}"))
}
