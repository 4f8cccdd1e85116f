//! Comments of sources: of Rust, and of files in which they begin with `#`.

use super::passage::Passage;

/// One line of a comment, without its marks.
struct CommentLine<'a> {
    line: usize,
    text: &'a str,
    /// Comments that are not of the same kind are different passages.
    mark: &'a str,
}

/// Returns the comments of a Rust source. Consecutive lines are one passage; code blocks are left out.
pub(super) fn of_rust(source: &str) -> Vec<Passage> {
    passages(rust_lines(source))
}

/// Returns the comments of a shell script, a TOML file and the like.
pub(super) fn of_hashes(source: &str) -> Vec<Passage> {
    let lines = source.lines().zip(1..);
    let lines = lines.filter_map(|(text, line)| {
        let at = comment_start(text)?;
        let comment = &text[at + 1..];
        (!comment.starts_with('!')).then_some(CommentLine {
            line,
            text: comment,
            mark: if text.trim_start().starts_with('#') {
                "#"
            } else {
                ""
            },
        })
    });
    passages(lines.collect())
}

/// Returns where a `#` begins a comment: at the start of a word, outside of quotes.
fn comment_start(text: &str) -> Option<usize> {
    let mut quote = None;
    let mut before = ' ';
    for (at, c) in text.char_indices() {
        match quote {
            Some(open) if c == open => quote = None,
            None if c == '#' && before.is_whitespace() => return Some(at),
            // In the middle of a word it is an apostrophe.
            None if matches!(c, '"' | '\'') && !before.is_alphanumeric() => quote = Some(c),
            Some(_) | None => {}
        }
        before = c;
    }
    None
}

fn passages(lines: Vec<CommentLine>) -> Vec<Passage> {
    let mut passages = Vec::new();
    let mut passage = Passage::default();
    let mut previous: Option<(usize, &str)> = None;
    let mut in_code = false;
    for CommentLine { line, text, mark } in lines {
        // Comments at the ends of lines are passages of their own.
        let continues = previous == Some((line - 1, mark)) && !mark.is_empty();
        in_code &= continues;
        previous = Some((line, mark));
        let text = text.trim();
        let is_fence = text.starts_with("```");
        let is_item = text.starts_with("- ");
        if !continues || text.is_empty() || is_fence || is_item {
            passages.push(std::mem::take(&mut passage));
        }
        if is_fence {
            in_code = !in_code;
        } else if !in_code {
            passage.push_line(text, line);
        }
    }
    passages.push(passage);
    passages.retain(|passage| !passage.words.is_empty());
    passages
}

/// Finds comments, and nothing in literals that looks like them.
fn rust_lines(source: &str) -> Vec<CommentLine<'_>> {
    let mut found = Vec::new();
    let mut rest = source;
    let mut before = ' ';
    let line_of = |rest: &str| source[..source.len() - rest.len()].matches('\n').count() + 1;
    while let Some(c) = rest.chars().next() {
        let length = if rest.starts_with("//") {
            let end = rest.find('\n').unwrap_or(rest.len());
            let comment = &rest[..end];
            let mark = ["///", "//!", "//"]
                .into_iter()
                .find(|mark| comment.starts_with(mark));
            let mark = mark.unwrap_or_default();
            let start = source[..source.len() - rest.len()]
                .rfind('\n')
                .map_or(0, |at| at + 1);
            let is_alone = source[start..source.len() - rest.len()].trim().is_empty();
            found.push(CommentLine {
                line: line_of(rest),
                text: &comment[mark.len()..],
                mark: if is_alone { mark } else { "" },
            });
            end
        } else if rest.starts_with("/*") {
            let end = rest.find("*/").map_or(rest.len(), |end| end + 2);
            let first = line_of(rest);
            let lines = rest[..end].lines().zip(first..);
            found.extend(lines.map(|(text, line)| CommentLine {
                line,
                text: text.trim_matches(|c: char| c.is_whitespace() || matches!(c, '/' | '*')),
                mark: "/*",
            }));
            end
        } else if let Some(length) = literal_length(rest, before) {
            length
        } else {
            c.len_utf8()
        };
        before = rest[..length].chars().next_back().unwrap_or(' ');
        rest = &rest[length..];
    }
    found
}

/// Returns the length of a string or character literal at the start of `rest`.
fn literal_length(rest: &str, before: char) -> Option<usize> {
    let is_inside_word = before.is_alphanumeric() || before == '_';
    if rest.starts_with('r') && (!is_inside_word || before == 'b') {
        let hashes = rest[1..].chars().take_while(|c| *c == '#').count();
        let text = rest[1 + hashes..].strip_prefix('"')?;
        let end = format!("\"{}", "#".repeat(hashes));
        let length = text.find(&end).map_or(text.len(), |at| at + end.len());
        return Some(hashes + 2 + length);
    }
    let quote = rest.chars().next().filter(|c| matches!(c, '"' | '\''))?;
    let mut chars = rest.char_indices().skip(1);
    if quote == '\'' {
        let mut next = rest.chars().skip(1);
        let (first, second) = (next.next()?, next.next());
        // Else it is a lifetime.
        if first != '\\' && second != Some('\'') {
            return None;
        }
    }
    while let Some((at, c)) = chars.next() {
        match c {
            '\\' => drop(chars.next()),
            c if c == quote => return Some(at + 1),
            _ => {}
        }
    }
    Some(rest.len())
}

#[cfg(test)]
fn shown(passages: &[Passage]) -> Vec<(usize, String)> {
    let show = |passage: &Passage| {
        (
            passage.words[0].line,
            super::passage::text_of(&passage.words),
        )
    };
    passages.iter().map(show).collect()
}

#[test]
fn rust_comments_are_found_outside_of_literals() {
    let source = r##"//! A file.
//! Of two lines.
const A: &str = "http://a"; // beside code
fn f<'a>(x: &'a str) -> char { r#"// " no"#; b"\"// no"; '"' /* a
 * block */ }
/// A doc.
///
/// - an item
///   of two lines
/// ```
/// let code = 1;
/// ```
// another
"##;
    let expected = [
        (1, "A file. Of two lines."),
        (3, "beside code"),
        (4, "a block"),
        (6, "A doc."),
        (8, "- an item of two lines"),
        (13, "another"),
    ];
    let expected = expected.map(|(line, text)| (line, text.to_owned()));
    assert_eq!(shown(&of_rust(source)), expected);
}

#[test]
fn hash_comments_are_found_outside_of_quotes() {
    let source =
        "#!/bin/sh\n# One\n# comment.\necho '# no' \"# no\" $# ${x#y} # isn't it\necho\n#\n";
    let expected = [(2, "One comment."), (4, "isn't it")];
    let expected = expected.map(|(line, text)| (line, text.to_owned()));
    assert_eq!(shown(&of_hashes(source)), expected);
}
