//! `domo-token.1`, generated from the parts of `domo-token --help`.

use domo_token_protocol::scope::DOMO_SCOPES;
use roff::{Inline, bold, italic, roman};

use super::page::{Page, inline, usage};
use domo_token_cli::options::{OPTIONS, OptionUsage, Value};
use domo_token_cli::usage::{ABOUT_FILES, ABOUT_SCOPES, DURATIONS, FILES, FORMATS, VERBS};

pub(crate) fn page() -> String {
    let about = "print a Domo access token from the daemon domo-tokend";
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
        let about = format!("{}.", verb.about);
        let words = [&[about.as_str()], verb.more].concat().join(" ");
        page.entry([bold(verb.name)], inline(&words));
    }
    options(&mut page);
    page.section("formats");
    for (name, words) in FORMATS {
        page.entry([bold(*name)], inline(&format!("{words}.")));
    }
    page.section("scopes");
    page.words([roman(ABOUT_SCOPES)]);
    for (name, purpose) in DOMO_SCOPES {
        page.entry([bold(name)], inline(purpose));
    }
    page.section("environment");
    for (name, words) in ENVIRONMENT {
        page.entry([bold(name)], inline(words));
    }
    page.section("files");
    page.words([roman(ABOUT_FILES)]);
    for (path, words) in FILES {
        page.entry([bold(*path)], inline(&format!("{words}.")));
    }
    exit_status(&mut page);
    page.section("examples");
    for example in VERBS.iter().flat_map(|verb| verb.examples) {
        page.paragraph([roman(example.comment)]);
        page.verbatim(example.line);
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

fn options(page: &mut Page) {
    page.section("options");
    for option in OPTIONS {
        let mut words = format!("{}. ({})", option.about, verbs(option));
        for (verb, note) in option.notes {
            words = format!("{words} For `{}`: {note}.", verb.usage().name);
        }
        page.entry(syntax(option), inline(&words));
    }
    page.paragraph([roman(DURATIONS)]);
}

fn exit_status(page: &mut Page) {
    page.section("exit status");
    for verb in VERBS.iter().filter(|verb| !verb.exit.is_empty()) {
        page.subsection(verb.name);
        for (code, words) in verb.exit {
            if code.is_empty() {
                page.words(inline(words));
            } else {
                page.entry([bold(*code)], inline(&format!("{words}.")));
            }
        }
    }
}

const ENVIRONMENT: [(&str, &str); 6] = [
    (
        "DOMO_TOKEN_SOCKET",
        "The socket to connect to, without `--socket`.",
    ),
    ("DOMO_TOKEN_CLIENT", "The API client, without `--client`."),
    (
        "XDG_RUNTIME_DIR, XDG_CONFIG_HOME, HOME",
        "The directories of your own broker's socket and config, see FILES.",
    ),
    ("NO_COLOR", "If it is not empty, tables have no colours."),
    (
        "TERM",
        "If it is `dumb` or absent, tables have no colours, and `status --watch` prints one after \
         the other.",
    ),
    (
        "COLUMNS",
        "The width of help [default: that of the terminal, else 80].",
    ),
];

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
