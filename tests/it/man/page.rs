//! Writes a man page.

use roff::{Inline, Roff, bold, italic, roman};

/// The date of the version that the pages name; a new version gets its own.
const DATE: &str = "2026-11-25";

/// A page under construction.
pub(crate) struct Page {
    roff: Roff,
    /// Whether the current section is still empty.
    begun: bool,
}

impl Page {
    pub(crate) fn new(name: &str, section: u8, about: &str) -> Self {
        let title = name.to_uppercase();
        let version = concat!("domo-token ", env!("CARGO_PKG_VERSION"));
        let section = section.to_string();
        let mut page = Self {
            roff: Roff::new(),
            begun: false,
        };
        page.roff
            .control("TH", [title.as_str(), &section, DATE, version]);
        page.section("NAME");
        page.words([roman(format!("{name} - {about}"))]);
        page
    }

    pub(crate) fn section(&mut self, title: &str) {
        self.roff.control("SH", [title.to_uppercase().as_str()]);
        self.begun = true;
    }

    pub(crate) fn subsection(&mut self, title: &str) {
        self.roff.control("SS", [title]);
        self.begun = true;
    }

    pub(crate) fn words(&mut self, words: impl Into<Vec<Inline>>) {
        self.roff.text(words.into());
        self.begun = false;
    }

    pub(crate) fn paragraph(&mut self, words: impl Into<Vec<Inline>>) {
        self.part();
        self.words(words);
    }

    /// Adds a term and its description.
    pub(crate) fn entry(&mut self, of: impl Into<Vec<Inline>>, words: impl Into<Vec<Inline>>) {
        self.roff.control("TP", []);
        self.words(of);
        self.words(words);
    }

    pub(crate) fn point(&mut self, words: impl Into<Vec<Inline>>) {
        self.roff.control("IP", ["\\(bu", "2"]);
        self.words(words);
    }

    fn part(&mut self) {
        // A section heading separates them already.
        if !self.begun {
            self.roff.control("PP", []);
        }
    }

    /// Adds lines verbatim.
    pub(crate) fn verbatim(&mut self, lines: &str) {
        self.part();
        self.roff.control("RS", ["4"]);
        self.roff.control("nf", []);
        for line in lines.lines() {
            self.words([roman(line)]);
        }
        self.roff.control("fi", []);
        self.roff.control("RE", []);
    }

    pub(crate) fn render(&self) -> String {
        self.roff.render()
    }
}

/// Adds text; `code` is bold.
pub(crate) fn inline(text: &str) -> Vec<Inline> {
    let parts = text.split('`').enumerate();
    let parts = parts.filter(|(_, part)| !part.is_empty());
    parts
        .map(|(at, part)| if at % 2 == 0 { roman(part) } else { bold(part) })
        .collect()
}

/// Adds a line of usage: names of values in italics, everything else in bold.
pub(crate) fn usage(line: &str) -> Vec<Inline> {
    let mut words = Vec::new();
    for word in line.split_inclusive(' ') {
        let name: String = word.chars().filter(char::is_ascii_alphabetic).collect();
        let is_value = !name.is_empty() && name.chars().all(|c| c.is_ascii_uppercase());
        let is_word = word.starts_with(|c: char| c.is_ascii_lowercase() || c == '-');
        words.push(match (is_value, is_word) {
            (true, _) => italic(word),
            (false, true) => bold(word),
            (false, false) => roman(word),
        });
    }
    words
}
