//! Formats the help.

use std::fmt::Write;

use domo_token_protocol::scope::DOMO_SCOPES;

use crate::options::{self, Key, OptionUsage, Value, Verb};
use crate::usage::{ABOUT_FILES, ABOUT_SCOPES, DURATIONS, FILES, FORMATS, VERBS};

/// The column of the options' help texts.
const COLUMN: usize = 26;

/// Returns the help of a command, wrapped at that many columns. The help of `get`, whose name may be
/// left out, is that of the program.
// Writing to a string can't fail.
pub(crate) fn of(verb: Verb, columns: usize) -> String {
    let usage = verb.usage();
    let is_program = verb == Verb::Get;
    let mut page = Page {
        text: String::new(),
        columns,
    };
    page.paragraph(usage.about);
    page.text.push_str(&usages(verb));
    for paragraph in usage.more {
        page.text.push('\n');
        page.paragraph(paragraph);
    }
    if is_program {
        page.title("Commands");
        page.list(VERBS.iter().map(|usage| (usage.name, usage.about)));
    }
    page.options(verb);
    if is_program {
        page.title("Formats");
        page.list(FORMATS.iter().copied());
        page.title("Scopes");
        page.indented(ABOUT_SCOPES);
        page.list(DOMO_SCOPES.iter().copied());
    }
    if is_connecting(verb) {
        page.title("Files");
        page.indented(ABOUT_FILES);
        for (path, text) in FILES {
            page.entry(path, text);
        }
    }
    if !usage.examples.is_empty() {
        page.title("Examples");
        for (at, example) in usage.examples.iter().enumerate() {
            if at > 0 {
                page.text.push('\n');
            }
            page.indented(example.comment);
            let _ = writeln!(page.text, "    {}", example.line.replace('\n', "\n    "));
        }
    }
    if !usage.exit.is_empty() {
        page.title("Exit codes");
        page.list(usage.exit.iter().copied());
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

/// Returns whether the command connects to the broker.
fn is_connecting(verb: Verb) -> bool {
    match verb {
        Verb::Get | Verb::Exec | Verb::Watch | Verb::Status => true,
        Verb::Completions | Verb::Help | Verb::Version => false,
    }
}

/// Returns whether an option that a command accepts has an effect there.
fn has_effect(option: &OptionUsage, verb: Verb) -> bool {
    if option.key == Key::Socket {
        return is_connecting(verb);
    }
    // The program's help has all options that every command accepts.
    option.key != Key::Color || matches!(verb, Verb::Status | Verb::Get)
}

/// Returns an option with its value.
fn syntax(option: &OptionUsage) -> String {
    let short = option
        .short
        .map_or("    ".to_owned(), |short| format!("-{short}, "));
    let value = match option.value {
        Value::Nothing => String::new(),
        Value::Maybe(name) => format!("[={name}]"),
        Value::Text(name) | Value::File(name) | Value::OneOf(name, _) => format!(" {name}"),
    };
    format!("{short}--{}{value}", option.long)
}

/// A text wrapped between words.
struct Page {
    text: String,
    columns: usize,
}

impl Page {
    fn title(&mut self, title: &str) {
        // Writing to a string can't fail.
        let _ = writeln!(self.text, "\n{title}:");
    }

    fn options(&mut self, verb: Verb) {
        let shown = || options::options(verb).filter(move |option| has_effect(option, verb));
        let groups = [("Options", false), ("Global options", true)];
        for (title, is_global) in groups {
            let mut group = shown()
                .filter(|option| option.is_global() == is_global)
                .peekable();
            if group.peek().is_none() {
                continue;
            }
            self.title(title);
            for option in group {
                self.entry(&syntax(option), option.about(verb));
            }
            if !is_global && shown().any(|option| option.value == Value::Text("DURATION")) {
                self.text.push('\n');
                self.indented(DURATIONS);
            }
        }
    }

    fn list<'a>(&mut self, entries: impl Iterator<Item = (&'a str, &'a str)> + Clone) {
        let width = entries.clone().map(|(name, _)| name.len()).max();
        let column = width.unwrap_or(0) + 4;
        for (name, text) in entries {
            if name.is_empty() {
                self.indented(text);
            } else {
                let start = format!("  {name:width$}", width = column - 2);
                self.wrap(start, column, text);
            }
        }
    }

    fn entry(&mut self, name: &str, text: &str) {
        let mut start = format!("  {name}");
        if start.len() + 2 > COLUMN {
            self.text.push_str(&start);
            self.text.push('\n');
            start.clear();
        }
        self.wrap(format!("{start:COLUMN$}"), COLUMN, text);
    }

    fn paragraph(&mut self, text: &str) {
        self.wrap(String::new(), 0, text);
    }

    fn indented(&mut self, text: &str) {
        self.wrap("  ".to_owned(), 2, text);
    }

    /// Adds a text after `start`; its further lines begin at column `indent`.
    fn wrap(&mut self, start: String, indent: usize, text: &str) {
        let mut line = start;
        let mut empty = true;
        for word in words(text, self.columns.saturating_sub(indent)) {
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

/// Splits a text into parts to wrap between: words, and brackets such as `[default: 10s]` that fit a line.
fn words(text: &str, room: usize) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let bracket = rest.strip_prefix('[').and_then(|inner| inner.find(']'));
        let inside = bracket.filter(|end| end + 2 <= room).unwrap_or(0);
        let (_, after) = rest.split_at_checked(inside)?;
        let end = after.find(' ').map_or(rest.len(), |space| inside + space);
        let (word, more) = rest.split_at_checked(end)?;
        rest = more.strip_prefix(' ').unwrap_or(more);
        (!word.is_empty()).then_some(word)
    })
}
