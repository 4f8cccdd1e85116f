//! Text as words that know their lines.

/// A paragraph, a list item, a table cell, a comment or a message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Passage {
    pub(super) words: Vec<Word>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Word {
    /// With its punctuation.
    pub(super) text: String,
    pub(super) line: usize,
    /// Whether it is, or is part of, a code span.
    pub(super) is_code: bool,
}

/// Abbreviations whose full stop ends no sentence.
const ABBREVIATIONS: [&str; 5] = ["e.g.", "i.e.", "cf.", "vs.", "etc."];

impl Passage {
    /// Adds text to the last word.
    pub(super) fn push_to_last(&mut self, text: &str, is_code: bool) {
        if let Some(last) = self.words.last_mut() {
            last.text.push_str(text);
            last.is_code |= is_code;
        }
    }

    /// Adds the words of a line; a code span between backticks is one word.
    pub(super) fn push_line(&mut self, text: &str, line: usize) {
        let mut word = String::new();
        let (mut is_open, mut is_code) = (false, false);
        for c in text.chars().chain([' ']) {
            if c == '`' {
                is_open = !is_open;
                is_code = true;
            }
            if !c.is_whitespace() || is_open {
                word.push(c);
            } else if !word.is_empty() {
                let text = std::mem::take(&mut word);
                self.words.push(Word {
                    text,
                    line,
                    is_code,
                });
                is_code = false;
            }
        }
        // A span that ends in another line.
        if !word.trim().is_empty() {
            let text = word.trim().to_owned();
            self.words.push(Word {
                text,
                line,
                is_code,
            });
        }
    }

    pub(super) fn sentences(&self) -> Vec<&[Word]> {
        let ends = |word: &Word| word.ends_sentence();
        let sentences = self.words.split_inclusive(ends);
        sentences.collect()
    }

    /// Returns the text of the sentence that contains this word.
    pub(super) fn sentence_at(&self, at: usize) -> String {
        let mut before = 0;
        for sentence in self.sentences() {
            before += sentence.len();
            if at < before {
                return text_of(sentence);
            }
        }
        String::new()
    }
}

impl Word {
    /// Returns it in lower case and without the punctuation around it.
    pub(super) fn plain(&self) -> String {
        let text = self.text.trim_matches(|c: char| !c.is_alphanumeric());
        text.to_lowercase().replace('’', "'")
    }

    pub(super) fn ends_sentence(&self) -> bool {
        let is_closing = |c: char| matches!(c, '"' | '”' | '\'' | ')' | '*' | '_');
        let text = self.text.trim_end_matches(is_closing);
        let is_abbreviation = ABBREVIATIONS.iter().any(|known| text.ends_with(known));
        text.ends_with(['.', '!', '?']) && !text.ends_with("...") && !is_abbreviation
    }

    pub(super) fn ends_clause(&self) -> bool {
        self.ends_sentence() || self.text.ends_with([',', ';', ':'])
    }

    /// Whether it counts as a word of a sentence; a dash does not.
    pub(super) fn counts(&self) -> bool {
        self.text.contains(char::is_alphanumeric)
    }
}

pub(super) fn text_of(words: &[Word]) -> String {
    let words: Vec<_> = words.iter().map(|word| word.text.as_str()).collect();
    words.join(" ")
}

#[test]
fn sentences_end_at_full_stops_outside_of_code_and_abbreviations() {
    let mut passage = Passage::default();
    passage.push_line("One (see `a. b`, e.g. c). Two", 1);
    passage.push_line("goes on! Three...", 2);
    passage.push_line("still `a b", 3);
    let texts: Vec<_> = passage.sentences().into_iter().map(text_of).collect();
    let expected = [
        "One (see `a. b`, e.g. c).",
        "Two goes on!",
        "Three... still `a b",
    ];
    assert_eq!(texts, expected);
    assert_eq!(passage.sentence_at(7), expected[1]);
    assert_eq!(passage.words[2].text, "`a. b`,");
    assert_eq!(passage.words[7].line, 2);
}
