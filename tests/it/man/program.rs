//! The man page of a program, from the definition of its command line.

use clap::{Arg, ArgAction, Command};
use roff::{Inline, bold, italic, roman};

use super::page::{Page, inline, usage};

/// `environment` has the variables that no other text explains.
pub(crate) fn page(mut command: Command, section: u8, environment: &[(&str, &str)]) -> String {
    command.build();
    let name = command.get_name().to_owned();
    let about = command.get_about().unwrap().to_string();
    let (first, rest) = about.split_at(1);
    let mut page = Page::new(&name, section, &(first.to_lowercase() + rest));
    page.section("synopsis");
    synopsis(&mut page, &mut command);
    page.section("description");
    paragraphs(&mut page, &command);
    page.section("options");
    options(&mut page, &command, |_| true);
    page.section("commands");
    page.words([roman(
        "Each has those of the options above that its --help lists.",
    )]);
    for verb in command.get_subcommands() {
        page.subsection(verb.get_name());
        paragraphs(&mut page, verb);
        options(&mut page, verb, |option| !is_of(option, &command));
        if verb.get_after_help() != command.get_after_help() {
            after_help(&mut page, verb);
        }
    }
    if !environment.is_empty() {
        page.section("environment");
    }
    for (name, words) in environment {
        page.entry([bold(*name)], inline(words));
    }
    page.section("notes, examples, exit status");
    after_help(&mut page, &command);
    page.section("see also");
    let pages = [
        ("domo-token", 1),
        ("domo-token-config", 5),
        ("domo-token-protocol", 7),
        ("domo-tokend", 8),
    ];
    let others = pages.into_iter().filter(|(other, _)| *other != name);
    let mut words: Vec<Inline> = others
        .flat_map(|(other, section)| [bold(other), roman(format!("({section})")), roman(", ")])
        .collect();
    words.pop();
    page.words(words);
    page.render()
}

fn synopsis(page: &mut Page, command: &mut Command) {
    let of = |command: &mut Command| command.render_usage().to_string().replace("Usage: ", "");
    let mut lines = of(command);
    for verb in command.get_subcommands_mut() {
        lines = format!("{lines}\n{}", of(verb));
    }
    let mut lines = lines.lines().map(|line| usage(line.trim()));
    page.words(lines.next().unwrap());
    for line in lines {
        page.paragraph(line);
    }
}

fn paragraphs(page: &mut Page, command: &Command) {
    let about = command.get_long_about().or(command.get_about()).unwrap();
    for paragraph in about.to_string().split("\n\n") {
        page.paragraph(inline(&sentence(paragraph)));
    }
}

fn sentence(words: &str) -> String {
    let dot = if words.ends_with('.') { "" } else { "." };
    format!("{words}{dot}")
}

/// Whether a command has the same option.
fn is_of(option: &Arg, command: &Command) -> bool {
    let mut others = command.get_arguments();
    let is_help = matches!(option.get_action(), ArgAction::Help | ArgAction::Version);
    is_help
        || others
            .any(|other| other.get_id() == option.get_id() && other.get_help() == option.get_help())
}

fn options(page: &mut Page, command: &Command, is_shown: impl Fn(&Arg) -> bool) {
    let options = command
        .get_arguments()
        .filter(|option| !option.is_hide_set());
    for option in options.filter(|option| is_shown(option)) {
        let help = option
            .get_help()
            .map(ToString::to_string)
            .unwrap_or_default();
        let usual = option.get_default_values().iter();
        let usual: Vec<_> = usual.map(|value| value.to_string_lossy()).collect();
        let usual = if usual.is_empty() || !option.get_action().takes_values() {
            String::new()
        } else {
            format!(" [default: {}]", usual.join(" "))
        };
        page.entry(syntax(option), inline(&sentence(&format!("{help}{usual}"))));
        let values = option.get_possible_values();
        for value in values.iter().filter(|value| value.get_help().is_some()) {
            let words = value.get_help().unwrap().to_string();
            page.inner_entry([bold(value.get_name())], inline(&sentence(&words)));
        }
    }
}

fn syntax(option: &Arg) -> Vec<Inline> {
    let mut words = Vec::new();
    if let Some(short) = option.get_short() {
        words.extend([bold(format!("-{short}")), roman(", ")]);
    }
    let Some(long) = option.get_long() else {
        return vec![italic(option.get_id().as_str().to_uppercase())];
    };
    words.push(bold(format!("--{long}")));
    if option.get_action().takes_values() {
        let name = italic(option.get_value_names().unwrap().first().unwrap().as_str());
        if option.is_require_equals_set() {
            words.extend([roman("[="), name, roman("]")]);
        } else {
            words.extend([roman(" "), name]);
        }
    }
    words
}

/// Paragraphs, some after a few words and a colon, indented lines, and those that explain an exit code.
fn after_help(page: &mut Page, command: &Command) {
    let text = command
        .get_after_help()
        .map(ToString::to_string)
        .unwrap_or_default();
    let mut words: Vec<&str> = Vec::new();
    let mut verbatim: Vec<&str> = Vec::new();
    for line in text.lines().chain([""]) {
        let starts = line.split_once(':').is_some_and(|(start, _)| {
            start.starts_with(|c: char| c.is_ascii_uppercase()) && start.split(' ').count() < 4
        });
        if !line.starts_with("  ") && !verbatim.is_empty() {
            page.verbatim(&verbatim.join("\n"));
            verbatim.clear();
        }
        if (starts || line.is_empty() || line.starts_with("  ")) && !words.is_empty() {
            page.paragraph(inline(&words.join(" ")));
            words.clear();
        }
        let Some(line) = line.strip_prefix("  ") else {
            words.extend(Some(line).filter(|line| !line.is_empty()));
            continue;
        };
        match line
            .split_once(' ')
            .filter(|(code, _)| code.parse::<u8>().is_ok())
        {
            Some((code, words)) => page.entry([bold(code)], [roman(sentence(words.trim()))]),
            None => verbatim.push(line),
        }
    }
}
