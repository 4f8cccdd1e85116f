//! Help, as it is printed.

use std::fmt::Write;

use crate::options::{self, OptionUsage, Value, Verb};
use crate::usage::{FORMAT_WORDS, ON_EXAMPLES, TIMES, VERBS};

/// Where what an option does is said.
const COLUMN: usize = 26;

/// The help of a verb, in that many columns; of `get`, which needs no name, that of all.
// Writing to a string can't fail.
pub(crate) fn of(verb: Verb, columns: usize) -> String {
    let usage = verb.usage();
    let mut page = Page {
        text: String::new(),
        columns,
    };
    page.paragraph(usage.about);
    page.text.push_str(&usages(verb));
    for words in usage.more {
        page.text.push('\n');
        page.paragraph(words);
    }
    page.text.push_str("\nOptions:\n");
    for option in options::options(verb) {
        page.entry(&syntax(option), option.about(verb));
    }
    if options::options(verb).any(|option| option.value == Value::Text("TIME")) {
        page.text.push('\n');
        page.paragraph(TIMES);
    }
    if verb == Verb::Get {
        page.list("Formats", FORMAT_WORDS);
        let others = VERBS.iter().filter(|usage| usage.verb != verb);
        let others: Vec<_> = others.map(|usage| (usage.name, usage.about)).collect();
        page.list("Commands", &others);
    }
    if !usage.examples.is_empty() {
        page.text.push_str("\nExamples:\n");
        for example in usage.examples {
            let _ = writeln!(page.text, "  {}", example.replace('\n', "\n  "));
        }
    }
    if verb == Verb::Get {
        page.text.push('\n');
        page.paragraph(ON_EXAMPLES);
    }
    if !usage.exit.is_empty() {
        page.list("Exit", usage.exit);
    }
    page.text
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

/// A text in lines of at most so many columns, where its words allow.
struct Page {
    text: String,
    columns: usize,
}

impl Page {
    fn list(&mut self, title: &str, entries: &[(&str, &str)]) {
        let _ = writeln!(self.text, "\n{title}:");
        let width = entries.iter().map(|(name, _)| name.len()).max();
        let column = width.unwrap_or(0) + 4;
        for (name, words) in entries {
            let start = if name.is_empty() {
                "  ".to_owned()
            } else {
                format!("  {name:width$}", width = column - 2)
            };
            self.wrap(start, if name.is_empty() { 2 } else { column }, words);
        }
    }

    fn entry(&mut self, start: &str, words: &str) {
        let mut start = format!("  {start}");
        if start.len() + 2 > COLUMN {
            self.text.push_str(&start);
            self.text.push('\n');
            start.clear();
        }
        self.wrap(format!("{start:COLUMN$}"), COLUMN, words);
    }

    fn paragraph(&mut self, words: &str) {
        self.wrap(String::new(), 0, words);
    }

    /// Adds words in lines, those after the first one indented.
    fn wrap(&mut self, start: String, indent: usize, words: &str) {
        let mut line = start;
        let mut empty = true;
        for word in words.split(' ') {
            if !empty && line.chars().count() + 1 + word.chars().count() > self.columns {
                self.text.push_str(line.trim_end());
                self.text.push('\n');
                line = " ".repeat(indent);
                empty = true;
            }
            if !empty {
                line.push(' ');
            }
            line.push_str(word);
            empty = false;
        }
        self.text.push_str(line.trim_end());
        self.text.push('\n');
    }
}
