//! `domo-token.1`, generated from the parts of `domo-token --help`.

use roff::{Inline, bold, italic, roman};

use super::page::{Page, inline, usage};
use domo_token_cli::options::{OPTIONS, OptionUsage, Value};
use domo_token_cli::usage::{FORMAT_WORDS, ON_EXAMPLES, TIMES, VERBS};

pub(crate) fn page() -> String {
    let about = "prints a Domo access token that domo-tokend keeps fresh";
    let mut page = Page::new("domo-token", 1, about);
    page.section("synopsis");
    for (at, line) in VERBS.iter().flat_map(|verb| verb.usage).enumerate() {
        let mut words = vec![bold("domo-token ")];
        words.extend(usage(line));
        if at == 0 {
            page.words(words);
        } else {
            page.paragraph(words);
        }
    }
    page.section("commands");
    for verb in VERBS {
        let words = [&[verb.about], verb.more].concat().join(" ");
        page.entry([bold(verb.name)], inline(&words));
    }
    page.section("options");
    for option in OPTIONS {
        let mut words = format!("{}. ({})", sentence(option.about), verbs(option));
        for (verb, note) in option.notes {
            words = format!("{words} For `{}`: {note}.", verb.usage().name);
        }
        page.entry(syntax(option), inline(&words));
    }
    page.paragraph([roman(TIMES)]);
    page.section("formats");
    for (name, words) in FORMAT_WORDS {
        page.entry([bold(*name)], inline(&format!("{}.", sentence(words))));
    }
    page.section("environment");
    for (name, words) in ENVIRONMENT {
        page.entry([bold(name)], inline(words));
    }
    exit_status(&mut page);
    page.section("examples");
    for verb in VERBS.iter().filter(|verb| !verb.examples.is_empty()) {
        page.verbatim(&verb.examples.join("\n"));
        if verb.name == "get" {
            page.paragraph([roman(ON_EXAMPLES)]);
        }
    }
    page.section("see also");
    page.words([
        bold("domo-tokend"),
        roman("(8), "),
        bold("domo-token-config"),
        roman("(5), "),
        bold("domo-token-protocol"),
        roman("(7)"),
    ]);
    page.render()
}

fn exit_status(page: &mut Page) {
    page.section("exit status");
    for verb in VERBS.iter().filter(|verb| !verb.exit.is_empty()) {
        page.subsection(verb.name);
        for (code, words) in verb.exit {
            if code.is_empty() {
                page.words([roman(format!("{}.", sentence(words)))]);
            } else {
                page.entry([bold(*code)], [roman(format!("{}.", sentence(words)))]);
            }
        }
    }
}

const ENVIRONMENT: [(&str, &str); 4] = [
    (
        "DOMO_TOKEN_SOCKET",
        "The broker's socket. Without it and without `--socket` it is the user's own, \
         `$XDG_RUNTIME_DIR/domo-token/broker.sock` (or that under `/run/user/UID`), if there is \
         one, else the host's, `/run/domo-token/broker.sock`. From one that doesn't answer it \
         never goes to the other: they may hold different credentials.",
    ),
    (
        "DOMO_TOKEN_CLIENT",
        "The API client, where no `--client` names one.",
    ),
    ("NO_COLOR", "If it isn't empty, tables have no colours."),
    (
        "TERM",
        "If it is dumb or absent, tables have no colours and are not shown in place.",
    ),
];

fn sentence(words: &str) -> String {
    let mut chars = words.chars();
    let first = chars.next().map(|c| c.to_ascii_uppercase());
    // Command lines are printed verbatim.
    if words.starts_with(|c: char| c.is_ascii_uppercase()) || words.contains(" = ") {
        return words.to_owned();
    }
    first.into_iter().chain(chars).collect()
}

fn verbs(option: &OptionUsage) -> String {
    if option.verbs.len() == VERBS.len() {
        return "all".to_owned();
    }
    let names = option.verbs.iter().map(|verb| verb.usage().name);
    names.collect::<Vec<_>>().join(", ")
}

fn syntax(option: &OptionUsage) -> Vec<Inline> {
    let mut words = Vec::new();
    if let Some(short) = option.short {
        words.extend([bold(format!("-{short}")), roman(", ")]);
    }
    words.push(bold(format!("--{}", option.long)));
    match option.value {
        Value::Nothing => {}
        Value::Maybe(what) => words.extend([roman("[="), italic(what), roman("]")]),
        Value::Text(what) | Value::File(what) | Value::OneOf(what, _) => {
            words.extend([roman(" "), italic(what)]);
        }
    }
    words
}
