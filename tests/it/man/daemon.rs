//! `domo-tokend.8`, from the flags of `domo-tokend`.

use clap::{Arg, ArgAction, Command, CommandFactory};
use domo_token::flags::Flags;
use roff::{Inline, bold, italic, roman};

use super::page::{Page, inline};
use crate::docs_reference::clap_commands;

pub(crate) fn page() -> String {
    let mut command = Flags::command();
    command.build();
    let about = command.get_about().unwrap().to_string();
    let about = about.trim_end_matches('.').to_lowercase();
    let mut page = Page::new("domo-tokend", 8, &about.replace("domo ", "Domo "));
    page.section("synopsis");
    page.words([bold("domo-tokend "), roman("[OPTIONS]")]);
    let verbs = clap_commands(&command);
    // What has commands of its own is not one itself.
    let commands = verbs.iter().filter(|(_, verb)| !verb.has_subcommands());
    for (words, verb) in commands {
        let mut line = vec![bold(format!("domo-tokend {words} ")), roman("[OPTIONS]")];
        for argument in verb.get_positionals() {
            for name in argument.get_value_names().unwrap() {
                line.extend([roman(" "), italic(name.as_str())]);
            }
        }
        page.paragraph(line);
    }
    page.section("description");
    let long = command.get_long_about().unwrap().to_string();
    for paragraph in long.split("\n\n") {
        page.paragraph(inline(paragraph));
    }
    page.section("options");
    options(&mut page, &command, |_| true);
    page.section("commands");
    for (words, verb) in &verbs {
        page.subsection(words);
        let about = verb.get_long_about().or(verb.get_about()).unwrap();
        for paragraph in about.to_string().split("\n\n") {
            let dot = if paragraph.ends_with('.') { "" } else { "." };
            page.paragraph(inline(&format!("{paragraph}{dot}")));
        }
        options(&mut page, verb, |arg| {
            !arg.is_global_set() && !arg.is_positional()
        });
    }
    after_help(&mut page, &command.get_after_help().unwrap().to_string());
    page.section("see also");
    page.words([
        bold("domo-token"),
        roman("(1), "),
        bold("domo-token-config"),
        roman("(5), "),
        bold("domo-token-protocol"),
        roman("(7)"),
    ]);
    page.render()
}

fn options(page: &mut Page, command: &Command, wanted: impl Fn(&Arg) -> bool) {
    for arg in command.get_arguments().filter(|arg| wanted(arg)) {
        let help = arg.get_help().map(ToString::to_string).unwrap_or_default();
        if matches!(arg.get_action(), ArgAction::Help | ArgAction::Version)
            && !command.get_name().eq("domo-tokend")
        {
            continue;
        }
        let usual = arg.get_default_values().iter();
        let usual: Vec<_> = usual.map(|v| v.to_string_lossy()).collect();
        let usual = if usual.is_empty() || !arg.get_action().takes_values() {
            String::new()
        } else {
            format!(" [default: {}]", usual.join(" "))
        };
        page.entry(syntax(arg), inline(&format!("{help}{usual}.")));
    }
}

fn syntax(arg: &Arg) -> Vec<Inline> {
    let mut words = Vec::new();
    if let Some(short) = arg.get_short() {
        words.extend([bold(format!("-{short}")), roman(", ")]);
    }
    words.push(bold(format!("--{}", arg.get_long().unwrap())));
    if arg.get_action().takes_values() {
        for name in arg.get_value_names().unwrap() {
            words.extend([roman(" "), italic(name.as_str())]);
        }
    }
    words
}

/// Adds sections with their titles in capitals, one paragraph for each line, and indented lines.
fn after_help(page: &mut Page, text: &str) {
    let is_title = |line: &str| line.bytes().all(|b| b.is_ascii_uppercase() || b == b' ');
    let mut verbatim: Vec<&str> = Vec::new();
    for line in text.lines().chain([""]) {
        if let Some(line) = line.strip_prefix("  ") {
            verbatim.push(line);
            continue;
        }
        if !verbatim.is_empty() {
            page.verbatim(&verbatim.join("\n"));
            verbatim.clear();
        }
        if line.is_empty() {
            continue;
        }
        if is_title(line) {
            page.section(&line.to_lowercase());
        } else {
            page.paragraph(inline(line));
        }
    }
}
