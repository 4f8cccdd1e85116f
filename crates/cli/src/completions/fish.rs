//! For fish.

use std::fmt::Write;

use clap::{Arg, Command};

use super::{
    all_spellings, brief, first_words, is_file, offered, options, takes_a_word, taking_a_word,
    verbs, words,
};
use crate::command_line::VERBS;

const START: &str = r"# domo-token completions fish | source
function __domo_token_is
    set -l words (commandline -opc)
    set -e words[1]
    set -l verb
    while set -q words[1]
        switch $words[1]
            case --
                test x$verb = xexec; and set verb command
                break
";

const END: &str = r"            case '-*'
            case '*'
                set -q verb[1]; or set verb $words[1]
        end
        set -e words[1]
    end
    set -q verb[1]; or set verb none
    contains -- $verb $argv
end
function __domo_token_command
    set -l words (commandline -opc)
    set -l at (contains -i -- -- $words)
    complete -C (string join ' ' -- (string escape -- $words[(math $at + 1)..-1]) (commandline -ct))
end
complete -c domo-token -f
complete -c domo-token -n '__domo_token_is command' -a '(__domo_token_command)'
";

// Writing to a string can't fail.
pub(super) fn script(definition: &Command) -> String {
    let mut text = START.to_owned();
    let values = all_spellings(taking_a_word(definition), " ");
    let _ = writeln!(
        text,
        "            case {values}\n                set -e words[1]"
    );
    text.push_str(END);
    let start = first_words();
    let _ = writeln!(
        text,
        "complete -c domo-token -n '__domo_token_is none' -a '{start}'"
    );
    let others = VERBS.join(" ").replace("get ", "");
    for verb in verbs(definition) {
        // What isn't another verb's is a first scope.
        let condition = match verb.get_name() {
            "get" => format!("-n 'not __domo_token_is command {others}'"),
            name => format!("-n '__domo_token_is {name}'"),
        };
        for option in options(verb) {
            let _ = writeln!(text, "complete -c domo-token {condition} {}", spec(option));
        }
        let words = words(verb).join(" ");
        let _ = writeln!(text, "complete -c domo-token {condition} -a '{words}'");
    }
    text
}

fn spec(option: &Arg) -> String {
    let short = option.get_short();
    let short = short.map_or(String::new(), |short| format!("-s {short} "));
    let offered = offered(option).join(" ");
    let value = match (takes_a_word(option), is_file(option)) {
        (false, _) => String::new(),
        (true, true) => " -r -F".to_owned(),
        (true, false) if offered.is_empty() => " -x".to_owned(),
        (true, false) => format!(" -x -a '{offered}'"),
    };
    let about = brief(option).replace('\'', "\\'");
    let long = option.get_long().unwrap_or_default();
    format!("{short}-l {long}{value} -d '{about}'")
}
