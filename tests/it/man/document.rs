//! A man page from a document in Markdown.

use std::fs;
use std::path::Path;

use pulldown_cmark::{Event, HeadingLevel, Options, Parser, Tag, TagEnd};
use roff::{Inline, bold, italic, roman};

use super::page::Page;

pub(crate) fn page(name: &str, section: u8, about: &str, document: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(document);
    let text = fs::read_to_string(path).unwrap();
    let mut writer = Writer {
        page: Page::new(name, section, about),
        words: Vec::new(),
        cells: Vec::new(),
        heads: Vec::new(),
        style: roman,
        in_item: false,
    };
    writer.page.section("description");
    let events = Parser::new_ext(&text, Options::ENABLE_TABLES);
    for event in events {
        writer.take(event);
    }
    writer.page.section("see also");
    writer.page.words([
        bold("domo-token"),
        roman("(1), "),
        bold("domo-tokend"),
        roman("(8)"),
    ]);
    writer.page.render()
}

struct Writer {
    page: Page,
    words: Vec<Inline>,
    /// Of the row of a table.
    cells: Vec<Vec<Inline>>,
    /// Of the columns of a table.
    heads: Vec<String>,
    style: fn(String) -> Inline,
    in_item: bool,
}

impl Writer {
    fn take(&mut self, event: Event) {
        match event {
            Event::Text(text) => self.words.push((self.style)(text.into_string())),
            Event::Code(text) => self.words.push(bold(text.into_string())),
            Event::SoftBreak | Event::HardBreak => self.words.push(roman(" ")),
            Event::Start(Tag::Emphasis) => self.style = italic,
            Event::Start(Tag::Strong) => self.style = bold,
            Event::End(TagEnd::Emphasis | TagEnd::Strong) => self.style = roman,
            Event::Start(Tag::Item) => self.in_item = true,
            Event::End(end) => self.end(end),
            // Of links only the text is printed; other elements have no text of their own.
            Event::Start(_) => {}
            other => panic!("{other:?} has no form in a man page yet"),
        }
    }

    fn end(&mut self, end: TagEnd) {
        match end {
            TagEnd::Heading(level) => {
                let title: Vec<String> = self.words().iter().map(plain).collect();
                match level {
                    // The page's own name.
                    HeadingLevel::H1 => {}
                    HeadingLevel::H2 => self.page.section(&title.concat()),
                    _ => self.page.subsection(&title.concat()),
                }
            }
            TagEnd::Paragraph if !self.in_item => {
                let words = self.words();
                self.page.paragraph(words);
            }
            TagEnd::Item => {
                let words = self.words();
                self.page.point(words);
                self.in_item = false;
            }
            TagEnd::CodeBlock => {
                let lines: Vec<String> = self.words().iter().map(plain).collect();
                self.page.verbatim(&lines.concat());
            }
            TagEnd::TableCell => {
                let words = self.words();
                self.cells.push(words);
            }
            TagEnd::TableHead => {
                let heads = std::mem::take(&mut self.cells);
                let text = |cell: &Vec<Inline>| cell.iter().map(plain).collect();
                self.heads = heads.iter().map(text).collect();
            }
            TagEnd::TableRow => self.row(),
            _ => {}
        }
    }

    /// Writes a row as an entry. Of three columns and more, the middle ones need their heads.
    fn row(&mut self) {
        let mut cells = std::mem::take(&mut self.cells).into_iter();
        let first = cells.next().unwrap();
        let last = cells.next_back().unwrap();
        let mut words = Vec::new();
        for (head, cell) in self.heads.iter().skip(1).zip(cells) {
            if !cell.is_empty() {
                words.push(roman(format!("({head}: ")));
                words.extend(cell);
                words.push(roman(") "));
            }
        }
        words.extend(last);
        self.page.entry(first, words);
    }

    fn words(&mut self) -> Vec<Inline> {
        std::mem::take(&mut self.words)
    }
}

fn plain(inline: &Inline) -> String {
    match inline {
        Inline::Roman(text) | Inline::Italic(text) | Inline::Bold(text) => text.clone(),
        Inline::LineBreak => "\n".to_owned(),
    }
}
