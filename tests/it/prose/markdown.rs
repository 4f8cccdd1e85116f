//! The prose of Markdown documents: list items, table cells and lines of code by themselves.

use pulldown_cmark::{Event, Options, Parser, Tag, TagEnd};

use super::passage::Passage;

/// Returns the paragraphs, headings, list items, table cells and lines of code of a document.
pub(super) fn passages(text: &str) -> Vec<Passage> {
    let mut passages = Vec::new();
    let mut passage = Passage::default();
    let mut in_code = false;
    // Whether no blank follows the last word, as before emphasis.
    let mut is_glued = false;
    let events = Parser::new_ext(text, Options::ENABLE_TABLES).into_offset_iter();
    for (event, range) in events {
        let line = text[..range.start].matches('\n').count() + 1;
        match event {
            Event::Start(Tag::CodeBlock(_)) => in_code = true,
            Event::End(TagEnd::CodeBlock) => in_code = false,
            Event::Text(code) if in_code => {
                let lines = code.lines().zip(line..);
                passages.extend(lines.map(|(text, line)| {
                    let mut passage = Passage::default();
                    passage.push_line(text, line);
                    passage
                }));
            }
            Event::Text(text) => {
                let start = text.find(char::is_whitespace).unwrap_or(text.len());
                let (first, rest) = text.split_at(if is_glued { start } else { 0 });
                passage.push_to_last(first, false);
                passage.push_line(rest, line);
                is_glued = !text.ends_with(char::is_whitespace);
            }
            Event::Code(code) => {
                let code = format!("`{code}`");
                if is_glued {
                    passage.push_to_last(&code, true);
                } else {
                    passage.push_line(&code, line);
                }
                is_glued = true;
            }
            Event::SoftBreak | Event::HardBreak => is_glued = false,
            Event::Start(Tag::Paragraph | Tag::Heading { .. } | Tag::Item | Tag::TableCell)
            | Event::End(
                TagEnd::Paragraph | TagEnd::Heading(_) | TagEnd::Item | TagEnd::TableCell,
            ) => {
                passages.push(std::mem::take(&mut passage));
                is_glued = false;
            }
            _ => {}
        }
    }
    passages.push(passage);
    passages.retain(|passage| !passage.words.is_empty());
    passages
}

#[test]
fn passages_are_blocks_and_lines_of_code() {
    let text = "# Head\n\nSome `code a`, text\nin *lines*.\n\n    code\n\n- one\n- two\n  more\n\n\
                | a | b c |\n| - | - |\n| d | `e`. f |\n";
    let passages = passages(text);
    let shown: Vec<_> = passages
        .iter()
        .map(|passage| {
            (
                passage.words[0].line,
                super::passage::text_of(&passage.words),
            )
        })
        .collect();
    let expected = [
        (1, "Head"),
        (3, "Some `code a`, text in lines."),
        (6, "code"),
        (8, "one"),
        (9, "two more"),
        (12, "a"),
        (12, "b c"),
        (14, "d"),
        (14, "`e`. f"),
    ];
    let expected = expected.map(|(line, text)| (line, text.to_owned()));
    assert_eq!(shown, expected);
}
