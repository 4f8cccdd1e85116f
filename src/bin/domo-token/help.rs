//! Help, as it is printed.

use std::fmt::Write;

use crate::options::{self, OptionUsage, Value, Verb};
use crate::usage::{FORMAT_WORDS, ON_EXAMPLES, TIMES, VERBS};

/// Columns that most terminals have.
const WIDTH: usize = 80;

/// Where what an option does is said.
const COLUMN: usize = 26;

/// The help of a verb; of `get`, which needs no name, that of all.
// Writing to a string can't fail.
pub(crate) fn of(verb: Verb) -> String {
    let usage = verb.usage();
    let mut text = String::new();
    paragraph(&mut text, usage.about);
    text.push_str(&usages(verb));
    for words in usage.more {
        text.push('\n');
        paragraph(&mut text, words);
    }
    text.push_str("\nOptions:\n");
    for option in options::options(verb) {
        entry(&mut text, &syntax(option), option.about(verb));
    }
    if options::options(verb).any(|option| option.value == Value::Text("TIME")) {
        let _ = writeln!(text, "\n{TIMES}");
    }
    if verb == Verb::Get {
        list(&mut text, "Formats", FORMAT_WORDS);
        let others = VERBS.iter().filter(|usage| usage.verb != verb);
        let others: Vec<_> = others.map(|usage| (usage.name, usage.about)).collect();
        list(&mut text, "Commands", &others);
    }
    if !usage.examples.is_empty() {
        text.push_str("\nExamples:\n");
        for example in usage.examples {
            let _ = writeln!(text, "  {}", example.replace('\n', "\n  "));
        }
    }
    if verb == Verb::Get {
        text.push('\n');
        paragraph(&mut text, ON_EXAMPLES);
    }
    if !usage.exit.is_empty() {
        list(&mut text, "Exit", usage.exit);
    }
    text
}

fn usages(verb: Verb) -> String {
    let all = verb == Verb::Get;
    let shown = VERBS.iter().filter(|usage| all || usage.verb == verb);
    let lines = shown.flat_map(|usage| usage.usage);
    let lines: Vec<String> = lines.map(|line| format!("domo-token {line}")).collect();
    format!("\nUsage: {}\n", lines.join("\n       "))
}

/// An option as it is written.
pub(crate) fn syntax(option: &OptionUsage) -> String {
    let short = option
        .short
        .map_or("    ".to_owned(), |short| format!("-{short}, "));
    let value = match option.value {
        Value::Nothing => String::new(),
        Value::Maybe(what) => format!("[={what}]"),
        Value::Text(what) | Value::File(what) | Value::OneOf(what, _) => format!(" {what}"),
    };
    format!("{short}--{}{value}", option.long)
}

fn list(text: &mut String, title: &str, entries: &[(&str, &str)]) {
    let _ = writeln!(text, "\n{title}:");
    let width = entries.iter().map(|(name, _)| name.len()).max();
    let column = width.unwrap_or(0) + 4;
    for (name, words) in entries {
        let start = if name.is_empty() {
            "  ".to_owned()
        } else {
            format!("  {name:width$}", width = column - 2)
        };
        wrap(text, start, if name.is_empty() { 2 } else { column }, words);
    }
}

fn entry(text: &mut String, start: &str, words: &str) {
    let mut start = format!("  {start}");
    if start.len() + 2 > COLUMN {
        text.push_str(&start);
        text.push('\n');
        start.clear();
    }
    wrap(text, format!("{start:COLUMN$}"), COLUMN, words);
}

fn paragraph(text: &mut String, words: &str) {
    wrap(text, String::new(), 0, words);
}

/// Words in lines, those after the first one indented.
fn wrap(text: &mut String, start: String, indent: usize, words: &str) {
    let mut line = start;
    let mut empty = true;
    for word in words.split(' ') {
        if !empty && line.chars().count() + 1 + word.chars().count() > WIDTH {
            text.push_str(line.trim_end());
            text.push('\n');
            line = " ".repeat(indent);
            empty = true;
        }
        if !empty {
            line.push(' ');
        }
        line.push_str(word);
        empty = false;
    }
    text.push_str(line.trim_end());
    text.push('\n');
}
