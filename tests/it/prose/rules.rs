//! What must not be written, and what to write instead.

use super::passage::{Passage, Word, text_of};

/// A pattern and what to write instead. A pattern is words, each with its alternatives; `..` stands for up to
/// two words of any kind, `!` precedes words that must not follow, of which `0` stands for any number.
type Rule = (&'static str, &'static str);

const PROGRAMS: &str = "app|broker|client|command|crate|daemon|domo|domo-sandbox|domo-token|domo-tokend|function|helper|kernel|library|log|page|parser|program|proxy|sandbox|scheduler|script|server|systemd|test";

const RULES: [Rule; 24] = [
    ("hear|hears|heard|hearing", "receives, is notified"),
    ("heed|heeds|heeded|heeding|unheeded", "honours, uses"),
    ("anew", "again"),
    ("mend|mends|mended|mending", "fix"),
    ("parted", "separated"),
    ("befall|befalls|befell|befallen", "happens to"),
    ("whoever", "callers that …, the user that …"),
    (
        "take|takes|took|taken|taking .. up !to|about|at|disk|less|memory|more|no|space|0",
        "apply, reload",
    ),
    ("crowd|crowds|crowded", "load"),
    ("door|doors", "listener"),
    ("at hand", "cached, available"),
    ("by turns", "round-robin, alternately"),
    (
        "is|isn't|are|aren't|was|were|be|been|being .. told !apart|from",
        "receives, is notified",
    ),
    ("turn|turns|turned|turning .. away", "reject"),
    ("rid of", "remove, uninstall"),
    ("given up", "cancelled, timed out"),
    (
        "ask|asks|asked|asking domo !support",
        "request a token from Domo",
    ),
    ("domo refuse|refuses|refused", "Domo rejects"),
    ("refused by domo", "rejected by Domo"),
    (
        "token|tokens .. die|dies|died|dead|lives|lived",
        "expire, be valid",
    ),
    // Not "time to live".
    ("tokens live|that|which live|longer|shorter|for", "be valid"),
    (
        "dead|dying|living token|tokens",
        "expired token, valid token",
    ),
    ("becomes|became of", "result"),
    ("no matter of", "not …"),
];

/// What programs don't do.
const PERSONAL: &str = "tells|says|wants|knows|minds|thinks|hears";

/// What may be between a program and what it doesn't do.
const ADVERBS: &str = "already|also|always|never|only|still|then";

const PERSONAL_INSTEAD: &str = "returns, prints, logs, sends, reports, denies";

/// A phrase that must not be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) line: usize,
    /// In lower case, without punctuation.
    pub(super) phrase: String,
    pub(super) instead: &'static str,
    pub(super) sentence: String,
}

/// Returns the phrases of a passage that must not be written.
pub(super) fn phrases(passage: &Passage) -> Vec<Found> {
    let personal = [
        format!("{PROGRAMS} {PERSONAL}"),
        format!("{PROGRAMS} {ADVERBS} {PERSONAL}"),
    ];
    let personal = personal.iter().map(|rule| (&**rule, PERSONAL_INSTEAD));
    let rules = RULES.into_iter().chain(personal);
    let rules: Vec<_> = rules
        .map(|(pattern, instead)| (parts(pattern), instead))
        .collect();
    let words: Vec<_> = passage.words.iter().map(Word::plain).collect();
    let mut found = Vec::new();
    for at in 0..words.len() {
        for (pattern, instead) in &rules {
            if let Some(end) = end_of_match(passage, &words, at, pattern) {
                found.push(Found {
                    line: passage.words[at].line,
                    phrase: words[at..end].join(" "),
                    instead,
                    sentence: passage.sentence_at(at),
                });
            }
        }
    }
    found
}

/// One word of a pattern.
enum Part<'a> {
    /// One of these, after at most that many other words.
    Word(Vec<&'a str>, usize),
    /// None of these.
    Not(Vec<&'a str>),
}

fn parts(pattern: &str) -> Vec<Part<'_>> {
    let mut gap = 0;
    let mut parts = Vec::new();
    for part in pattern.split(' ') {
        match part.strip_prefix('!') {
            _ if part == ".." => gap = 2,
            Some(words) => parts.push(Part::Not(words.split('|').collect())),
            None => {
                let words = part.split('|').collect();
                parts.push(Part::Word(words, std::mem::take(&mut gap)));
            }
        }
    }
    parts
}

/// Returns where a pattern that begins at that word ends, if it is there and in one clause.
fn end_of_match(
    passage: &Passage,
    words: &[String],
    start: usize,
    pattern: &[Part],
) -> Option<usize> {
    let mut at = start;
    for part in pattern {
        match part {
            Part::Word(alternatives, gap) => {
                let is_one = |at: &usize| {
                    let word = words.get(*at).map(String::as_str);
                    let is_text = passage.words.get(*at).is_some_and(|word| !word.is_code);
                    is_text && word.is_some_and(|word| alternatives.contains(&word))
                };
                let reached = (at..=at + gap).find(is_one)?;
                if passage.words[start..reached].iter().any(Word::ends_clause) {
                    return None;
                }
                at = reached + 1;
            }
            Part::Not(others) => {
                let is_other = |word: &String| {
                    let is_number = word.starts_with(|c: char| c.is_ascii_digit());
                    others.contains(&word.as_str()) || is_number && others.contains(&"0")
                };
                if words.get(at).is_some_and(is_other) {
                    return None;
                }
            }
        }
    }
    Some(at)
}

/// The most words of a sentence.
pub(super) const MAX_WORDS: usize = 40;

/// Returns the line, the number of words and the text of each sentence that is too long.
pub(super) fn long_sentences(passage: &Passage) -> Vec<(usize, usize, String)> {
    let sentences = passage.sentences().into_iter();
    let counted = sentences.map(|sentence| {
        let words = sentence.iter().filter(|word| word.counts()).count();
        (sentence, words)
    });
    let long = counted.filter(|(_, words)| *words > MAX_WORDS);
    long.map(|(sentence, words)| (sentence[0].line, words, text_of(sentence)))
        .collect()
}

#[cfg(test)]
fn passage(text: &str) -> Passage {
    let mut passage = Passage::default();
    for (text, line) in text.lines().zip(1..) {
        passage.push_line(text, line);
    }
    passage
}

#[test]
fn phrases_of_the_list_are_found_in_each_form_and_across_lines() {
    for (text, phrase) in [
        ("It hears of that.", "hears"),
        ("Unheeded, it goes on.", "unheeded"),
        ("Start anew.", "anew"),
        ("That mends it.", "mends"),
        ("They are parted by commas.", "parted"),
        ("What befell it?", "befell"),
        ("Whoever may have it.", "whoever"),
        ("The config is taken\nup.", "taken up"),
        ("A daemon takes changes up by itself.", "takes changes up"),
        ("A token is at hand.", "at hand"),
        ("They go by turns.", "by turns"),
        ("It is not yet told that.", "is not yet told"),
        ("It turns callers away.", "turns callers away"),
        ("To be rid of it:", "rid of"),
        ("Requests are given up.", "given up"),
        ("It asks Domo.", "asks domo"),
        ("Domo refused it.", "domo refused"),
        ("The token that lives.", "token that lives"),
        ("A dead token.", "dead token"),
        ("The daemon says so.", "daemon says"),
        ("The helper then tells it.", "helper then tells"),
    ] {
        let found = phrases(&passage(text));
        let of = found.iter().map(|found| found.phrase.as_str());
        assert_eq!(of.collect::<Vec<_>>(), [phrase], "{text}");
    }
    let found = &phrases(&passage("First.\nThe config is taken\nup again. Last."))[0];
    assert_eq!((found.line, found.instead), (2, "apply, reload"));
    assert_eq!(found.sentence, "The config is taken up again.");
}

#[test]
fn plain_text_passes() {
    for text in [
        "The daemon applies the config, and logs the result.",
        "`heed` and `taken up` are code.",
        "It is. Told by others.",
        "They are told apart, and are not told from others.",
        "It ends with the broker, says nobody.",
        "The log a user wants.",
        "That may take up to 5 s.",
        "The cache takes up 5 MB, the log takes up less.",
        "Ask Domo support for it.",
        "The token's time to live; the token time to live.",
        "The token. Lives are other things.",
        "Callers share the mending-machine; the handle.",
        "Domo rejects the token, which expires in 5 s.",
    ] {
        assert_eq!(phrases(&passage(text)), [], "{text}");
    }
}

#[test]
fn sentence_over_the_limit_is_found() {
    let words = |count: usize| vec!["word"; count].join(" ");
    let text = |count| {
        format!(
            "Short.\n{} `code of words` https://a/b - end.",
            words(count)
        )
    };
    assert_eq!(long_sentences(&passage(&text(MAX_WORDS - 3))), []);
    let found = long_sentences(&passage(&text(MAX_WORDS - 2)));
    assert_eq!((found.len(), found[0].0, found[0].1), (1, 2, MAX_WORDS + 1));
}
